"""Where a model's turns end by its configurations, and what of its prompts is part of a key."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.components import build
from harness.models import chat
from harness.models import load as models
from harness.models.checkpoints.identity import identity as files_identity
from harness.models.decoding import Job, decode_all
from harness.models.facts import NONE, facts, notices
from harness.types import Message, Sampling
from tests.tiny import CHAT_TEMPLATE, tiny_tokenizer

QUESTION = [Message(role="user", content="Name a fruit.")]
NEW = 24


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that doesn't repeat itself at once."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("model")
    size = tiny_tokenizer(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.5,
        bos_token_id=size - 3,
        eos_token_id=size - 2,
        pad_token_id=size - 1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def copy(model: Path, folder: Path, **edits: dict[str, Any] | None) -> Path:
    """A copy of the model with other values in its JSON files; None removes the file."""
    folder.mkdir()
    for path in model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    for name, values in edits.items():
        path = folder / f"{name}.json"
        if values is None:
            path.unlink()
        else:
            path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return folder


def prompt_ids(folder: Path) -> list[int]:
    return chat.encode_prompt(models.load_tokenizer(str(folder)), QUESTION)


def by_transformers(folder: Path) -> list[int]:
    """The new tokens, end token included, that transformers itself writes."""
    import torch
    from transformers import AutoModelForCausalLM

    ids = torch.tensor([prompt_ids(folder)])
    own = AutoModelForCausalLM.from_pretrained(folder)
    written = own.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False)
    return [int(i) for i in written[0, ids.shape[1] :]]


def answer(folder: Path) -> Any:
    tokenizer = models.load_tokenizer(str(folder))
    job = Job(prompt_ids(folder), Sampling(temperature=0, max_new_tokens=NEW), (0,))
    loaded = models.load_causal_lm(str(folder), None, "float32")
    ((completion,),) = decode_all(loaded, tokenizer, [job], seed=0, batch_size=None, advance=lambda _: None)
    return completion


@pytest.mark.parametrize("where", ["generation_config", "config", "both, in lists"])
def test_an_answer_ends_where_transformers_ends_it(model: Path, tmp_path: Path, where: str) -> None:
    free = by_transformers(model)
    end = next(token for i, token in enumerate(free) if i > 3 and token not in free[:i])
    other = [i for i in range(259) if i not in free][:2]
    edits: Any = {
        "generation_config": {"generation_config": {"eos_token_id": [257, end]}},
        "config": {"config": {"eos_token_id": end}, "generation_config": None},
        "both, in lists": {"config": {"eos_token_id": other}, "generation_config": {"eos_token_id": [other[0], end]}},
    }[where]
    folder = copy(model, tmp_path / "model", **edits)
    theirs = by_transformers(folder)
    assert theirs[-1] == end
    assert len(theirs) < len(free)
    ours = answer(folder)
    tokenizer = models.load_tokenizer(str(folder))
    assert (ours.text, ours.finish_reason, ours.tokens) == (
        tokenizer.decode(theirs[:-1], skip_special_tokens=True),
        "stop",
        len(theirs),
    )
    assert end in facts(str(folder)).ends
    generator = build("generator", {"name": "hf", "model": str(folder), "dtype": "float32"})
    judge = build("judge", {"name": "local", "model": str(folder), "dtype": "float32"})
    for component in (generator, judge):
        assert component.identity()["ends"] == facts(str(folder)).ends  # earlier texts ran on: no key of theirs


def test_ids_outside_the_vocabulary_and_unlike_ids_end_nothing(model: Path, tmp_path: Path) -> None:
    folder = copy(model, tmp_path / "model", generation_config={"eos_token_id": [257, 10**6, -1]})
    assert facts(str(folder)).ends == []
    assert answer(folder) == answer(model)


def test_keys_of_usual_models_are_their_files(model: Path) -> None:
    assert facts(str(model))[:3] == ({}, [], "own")
    assert models.identity(str(model)) == files_identity(str(model))
    assert models.sampling_identity(str(model)) == {}
    assert notices(str(model)) == []


@pytest.mark.parametrize(
    ("template", "expected", "told"),
    [
        ("{{ strftime_now('%d %b %Y') }}" + CHAT_TEMPLATE, {"date": "2024-07-26"}, "it is always 2024-07-26"),
        ("{{ [1, 2] | random }}" + CHAT_TEMPLATE, {"draws": "seed 0"}, "always draws the same"),
        (CHAT_TEMPLATE.replace("in messages", "in messages if m.role != 'system'"), {}, ""),
        (
            CHAT_TEMPLATE.replace("for message in messages", "for message in messages if message.role != 'system'"),
            {"system": "folded"},
            "",
        ),
    ],
)
def test_what_is_fixed_in_prompts_is_in_their_keys(
    model: Path, tmp_path: Path, template: str, expected: dict[str, str], told: str
) -> None:
    folder = copy(model, tmp_path / "model")
    (folder / "chat_template.jinja").write_text(template)
    assert models.identity(str(folder)).get("template", {}) == expected
    assert told in " ".join(notices(str(folder)))
    assert bool(notices(str(folder))) == bool(told)


def test_a_tokenizer_that_cannot_be_read_has_no_facts(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    assert facts(str(tmp_path)) == NONE
    assert facts("nobody/nothing") == NONE


def test_an_adapter_ends_where_its_base_does(model: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = copy(model, tmp_path / "base", generation_config={"eos_token_id": [257, 65]})
    loaded = models.load_causal_lm(str(base), None, "float32")
    get_peft_model(loaded, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "adapter")
    models.load_tokenizer(str(base)).save_pretrained(tmp_path / "adapter")
    assert facts(str(tmp_path / "adapter")).ends == [65]
    assert models.identity(str(tmp_path / "adapter"))["base"]["model"] == "base"
