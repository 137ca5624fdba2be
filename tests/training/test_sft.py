"""Supervised fine-tuning before the preference training: TRL's SFTTrainer on a tiny model."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.errors import DataError, ModelError
from harness.logprobs.score import score_rows
from harness.models import chat
from harness.models import load as models
from harness.recipe.policy import Policy
from harness.recipe.training import Lora, Training
from harness.training.trl import sft
from harness.training.trl.sft import best_responses, fine_tune
from harness.types import RankedExample
from tests.training.models import example, examples
from tests.training.runs import LENGTHS, LORA, assert_same_weights, weights


def tune(
    model: Path,
    data: Sequence[RankedExample],
    folder: Path,
    *,
    micro: int = 2,
    dtype: models.Dtype = "float32",
    **changes: Any,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The report and the lines of steps.jsonl of a run in `folder`."""
    fields = {"learning_rate": 1e-2, "batch_size": 4, "lora": LORA, "warmup_ratio": 0.0, **LENGTHS} | changes
    folder.mkdir()
    report = fine_tune(
        Policy(model=str(model), dtype=dtype),
        data,
        Training.model_validate(fields),
        folder=folder,
        seed=3,
        micro_batch_size=micro,
        advance=lambda _n: None,
    )
    return report, [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]


def test_rows_are_the_best_responses_with_a_loss_on_them_alone(tiny_model: Path) -> None:
    tokenizer = models.load_tokenizer(str(tiny_model))
    data = [
        example("middle", ("worse", 1.0), ("best", 2.0), ("unscored", None)),
        example("tied", ("first", 1.0), ("second", 1.0)),
        example("unscored", ("a", None), ("b", None)),
        example("long", ("x" * 300, 1.0), ("y", 0.0)),
    ]
    rows, truncated = best_responses(data, tokenizer, Training(**LENGTHS))
    texts = ["best", "first", "x" * 300]
    encoded = [
        chat.encode(tokenizer, e.messages, text, **LENGTHS)
        for e, text in zip([data[0], data[1], data[3]], texts, strict=True)
    ]
    assert [row["input_ids"] for row in rows] == [e.prompt + e.response for e in encoded]
    assert [row["labels"] for row in rows] == [[-100] * len(e.prompt) + e.response for e in encoded]
    assert truncated == 1
    assert rows[0]["labels"][-1] == tokenizer.eos_token_id


def test_the_trainer_s_own_batches_have_these_masks(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reaches SFTTrainer's loss: the rows, padded, and a loss that is the mean of -log p over response tokens."""
    seen: list[dict[str, torch.Tensor]] = []
    compute = sft.SFTTrainer.compute_loss

    def spy(self: Any, model: Any, inputs: Any, **options: Any) -> Any:
        seen.append(dict(inputs))
        return compute(self, model, inputs, **options)

    monkeypatch.setattr(sft.SFTTrainer, "compute_loss", spy)
    data = [example("one", ("first", 2.0), ("no", 1.0)), example("two", ("a much longer one", 2.0), ("no", 1.0))]
    report, steps = tune(tiny_model, data, tmp_path / "run", micro=4)
    tokenizer = models.load_tokenizer(str(tiny_model))
    expected, _ = best_responses(data, tokenizer, Training(**LENGTHS))
    (batch,) = seen
    found = [
        {"input_ids": ids[real].tolist(), "labels": labels[real].tolist()}
        for ids, labels, real in zip(batch["input_ids"], batch["labels"], batch["attention_mask"].bool(), strict=True)
    ]
    assert sorted(found, key=str) == sorted(expected, key=str)
    assert (batch["labels"][~batch["attention_mask"].bool()] == -100).all()
    tokens = sum(label != -100 for row in expected for label in row["labels"])
    assert report["tokens"] == steps[0]["tokens"] == tokens
    assert report["forward_tokens"] == sum(len(row["input_ids"]) for row in expected)
    model = models.load_causal_lm(str(tiny_model), dtype="float32")
    options: dict[str, Any] = {**LENGTHS, "batch_size": 4, "advance": lambda _n: None}
    scored = score_rows(model, tokenizer, [(e.messages, e.responses[0].text) for e in data], **options)
    assert steps[0]["loss"] == pytest.approx(-sum(s.logp for s in scored) / tokens, rel=1e-4)


@pytest.mark.parametrize("lora", [LORA, None])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_learns_and_leaves_a_whole_model_and_the_same_in_float32(
    tiny_model: Path, tmp_path: Path, lora: Lora | None, dtype: models.Dtype
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    data = examples(8)
    learnt = 0.05 if lora else 1.0  # adapters leave the head alone, and the tiny model's makes only small logits
    report, steps = tune(tiny_model, data, tmp_path / "run", lora=lora, dtype=dtype, epochs=10)
    assert report["steps"] == len(steps) == 20
    assert report["examples"] == 8
    assert report["last_loss"] < report["first_loss"] - learnt
    assert sum(s["tokens"] for s in steps) == report["tokens"]
    expected = {"checkpoint": getattr(torch, dtype)} | ({} if dtype == "float32" else {"trained": torch.float32})
    assert {path.name for path in (tmp_path / "run").iterdir() if path.is_dir()} == set(expected)
    for name, stored in expected.items():
        folder = tmp_path / "run" / name
        assert not (folder / "adapter_config.json").exists()
        assert {t.dtype for t in weights(tmp_path / "run", name).values()} == {stored}
        assert not [weight for weight in weights(tmp_path / "run", name) if "lora" in weight]
        assert json.loads((folder / "config.json").read_text())["dtype"] == str(stored).removeprefix("torch.")
        models.check(str(folder))
    exact = tmp_path / "run" / list(expected)[-1]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(exact), AutoTokenizer.from_pretrained(exact)
    assert model.dtype == torch.float32
    assert model.config.use_cache is True
    rows = [(e.messages, e.responses[0].text) for e in data]
    options: dict[str, Any] = {**LENGTHS, "batch_size": 8, "advance": lambda _n: None}
    scored = score_rows(model, tokenizer, rows, **options)
    reached = -sum(s.logp for s in scored) / sum(s.tokens for s in scored)
    assert reached < steps[0]["loss"] - learnt


def test_what_adapters_have_learnt_is_in_the_merged_weights(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits: list[torch.Tensor] = []
    ids = torch.arange(1, 9)[None]
    save = sft.save_fine_tuned

    def spy(model: Any, *rest: Any, **more: Any) -> None:
        with torch.no_grad():
            logits.append(model.eval()(input_ids=ids).logits)
        save(model, *rest, **more)

    monkeypatch.setattr(sft, "save_fine_tuned", spy)
    tune(tiny_model, examples(4), tmp_path / "run", epochs=4)
    loaded = models.load_causal_lm(str(tmp_path / "run" / "checkpoint"), dtype="float32")
    with torch.no_grad():
        torch.testing.assert_close(loaded(input_ids=ids).logits, logits[0], rtol=1e-4, atol=1e-4)
        untrained = models.load_causal_lm(str(tiny_model), dtype="float32")
        assert (untrained(input_ids=ids).logits - logits[0]).abs().max() > 0.1


@pytest.mark.parametrize("bits", [4, 8])
def test_what_is_learnt_on_a_quantised_base_is_merged_into_the_whole_one(
    tiny_model: Path, tmp_path: Path, bits: int
) -> None:
    lora = {"r": 4, "bits": bits}
    report, steps = tune(tiny_model, examples(8), tmp_path / "run", lora=lora, epochs=10, dtype="bfloat16")
    assert report["last_loss"] < steps[0]["loss"] - 0.05
    found = weights(tmp_path / "run", "trained")
    assert {t.dtype for t in found.values()} == {torch.float32}
    before = models.load_causal_lm(str(tiny_model)).float().state_dict()
    assert found.keys() <= before.keys()
    moved = {name for name, t in found.items() if not torch.equal(t, before[name])}
    assert moved == {name for name in found if "_proj" in name}
    assert max((found[name] - before[name]).abs().max() for name in moved) < 0.5


def test_micro_batch_size_never_changes_the_trajectory(tiny_model: Path, tmp_path: Path) -> None:
    data = [*examples(6), example("short", ("a", 1.0), ("b", 0.0))]
    _, one = tune(tiny_model, data, tmp_path / "1", micro=1, epochs=3)
    _, four = tune(tiny_model, data, tmp_path / "4", micro=4, epochs=3)
    assert [s["loss"] for s in one] == pytest.approx([s["loss"] for s in four], rel=1e-4)
    assert_same_weights(tmp_path / "1", tmp_path / "4", atol=1e-3)


def test_gradient_checkpointing_changes_nothing(tiny_model: Path, tmp_path: Path) -> None:
    _, plain = tune(tiny_model, examples(4), tmp_path / "plain", epochs=3)
    _, saved = tune(tiny_model, examples(4), tmp_path / "saved", epochs=3, gradient_checkpointing=True)
    assert [s["loss"] for s in saved] == pytest.approx([s["loss"] for s in plain], rel=1e-5)


def test_what_cant_be_tuned_is_told_in_one_line(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of the 1 examples has a scored response"):
        tune(tiny_model, [example("x", ("a", None))], tmp_path / "unscored")
    with pytest.raises(ModelError, match=r"target_modules \['nowhere'\]"):
        tune(tiny_model, examples(2), tmp_path / "nowhere", lora=Lora(target_modules=("nowhere",)))


def test_learning_starts_at_the_model_s_own_loss(tiny_model: Path, tmp_path: Path) -> None:
    _, steps = tune(tiny_model, examples(4), tmp_path / "run")
    assert steps[0]["loss"] == pytest.approx(math.log(259), abs=0.5)


def test_a_run_of_one_step_learns(tiny_model: Path, tmp_path: Path) -> None:
    _, (step,) = tune(tiny_model, examples(4), tmp_path / "run", lora=None, warmup_ratio=0.1, epochs=1)
    assert step["learning_rate"] == pytest.approx(1e-2 / 2)
    before = models.load_causal_lm(str(tiny_model), dtype="float32").state_dict()
    assert any(not torch.equal(before[name], value) for name, value in weights(tmp_path / "run").items())
