"""Text becomes tokens in one place: against the tokenizer's own chat template, token by token, for the common kinds."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness.logprobs.rows import IGNORED
from harness.models import chat
from harness.models import load as models
from harness.models.classifier import classifier_ids
from harness.models.templates.rendering import PLAIN_TEMPLATE
from harness.training.ranked.batch import collate, tokenize
from harness.types import Message, Messages, RankedExample, Response


class Kind(NamedTuple):
    """A family of chat models: special tokens, template, and what ends an assistant's turn. `after`: what the template
    writes behind that."""

    special: tuple[str, ...]
    template: str | None
    bos: str | None
    eos: str
    end: str
    after: str = ""
    system: bool = True
    named: bool = True
    """Whether the tokenizer's configuration names all special tokens."""


LOOP = "{% for m in messages %}"
KINDS = {
    "chatml": Kind(
        ("<|im_start|>", "<|im_end|>"),
        LOOP + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        None,
        "<|im_end|>",
        "<|im_end|>",
        "\n",
    ),
    "qwen, with a system prompt of its own": Kind(
        ("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
        "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are kind.<|im_end|>\n{% endif %}"
        + LOOP
        + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        None,
        "<|endoftext|>",
        "<|im_end|>",
        "\n",
    ),
    "llama-3, whose tokenizer would add a second BOS": Kind(
        ("<|begin|>", "<|start_header|>", "<|end_header|>", "<|eot_id|>", "<|end_of_text|>"),
        "{{ bos_token }}"
        + LOOP
        + "<|start_header|>{{ m.role }}<|end_header|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header|>assistant<|end_header|>\n\n{% endif %}",
        "<|begin|>",
        "<|end_of_text|>",
        "<|eot_id|>",
    ),
    "mistral": Kind(
        ("<s>", "</s>"),
        "{{ bos_token }}" + LOOP + "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% elif m.role == 'assistant' %}{{ m.content }}{{ eos_token }}"
        "{% else %}{{ raise_exception('no system role') }}{% endif %}{% endfor %}",
        "<s>",
        "</s>",
        "</s>",
        system=False,
    ),
    "gemma": Kind(
        ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        "{{ bos_token }}" + LOOP + "{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
        "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        "<bos>",
        "<eos>",
        "<end_of_turn>",
        "\n",
        system=False,
    ),
    "phi-3, whose end of turn is only marked special": Kind(
        ("<s>", "<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"),
        LOOP + "<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}",
        None,
        "<|endoftext|>",
        "<|end|>",
        "\n<|endoftext|>",
        named=False,
    ),
    "a base model": Kind(("<s>", "</s>"), None, "<s>", "</s>", "</s>"),
}


def tokenizer_of(kind: Kind, folder: Path) -> Any:
    """A byte-level tokenizer with the kind's special tokens, that adds BOS by itself where there is one."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(BPE(vocab={token: i for i, token in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(kind.special))
    if kind.bos:
        post = [(kind.bos, backend.token_to_id(kind.bos))]
        backend.post_processor = processors.TemplateProcessing(single=f"{kind.bos} $A", special_tokens=post)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=kind.bos,
        eos_token=kind.eos,
        pad_token=kind.eos,
        extra_special_tokens=[t for t in kind.special if kind.named and t not in (kind.bos, kind.eos)],
    )
    if kind.template:
        tokenizer.chat_template = kind.template
    tokenizer.save_pretrained(folder)
    return models.load_tokenizer(str(folder))


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def tokenizer(kind: Kind, tmp_path: Path) -> Any:
    return tokenizer_of(kind, tmp_path)


def said(*turns: str) -> Messages:
    """A conversation, the user first."""
    return tuple(Message(role="assistant" if i % 2 else "user", content=text) for i, text in enumerate(turns))


CONVERSATIONS = [said("2 + 2?"), said("Hi", "Hello!", "And é 日本?")]
RESPONSES = ["4", "", "two\nlines", " leading space", "émoji 🙂"]
LENGTHS = {"max_prompt_length": 512, "max_length": 1024}


def own(tokenizer: Any, messages: Messages, **options: Any) -> list[int]:
    """The tokenizer's own words: apply_chat_template, tokenised by itself."""
    rows = [m.model_dump() for m in messages]
    template = None if tokenizer.chat_template else PLAIN_TEMPLATE
    ids = tokenizer.apply_chat_template(rows, chat_template=template, tokenize=True, return_dict=False, **options)
    return list(ids)


@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_a_prompt_is_the_templates_own(tokenizer: Any, kind: Kind, messages: Messages) -> None:
    ids = chat.encode_prompt(tokenizer, messages)
    assert ids == own(tokenizer, messages, add_generation_prompt=True)
    if kind.bos and kind.template:
        assert ids.count(tokenizer.bos_token_id) == 1
        assert ids[0] == tokenizer.bos_token_id


def test_prompts_of_one_message_begin_with_what_the_template_writes_first(tokenizer: Any, kind: Kind) -> None:
    start = chat.beginning(tokenizer)
    for text in ("2 + 2?", "Hi", "日本", "x"):
        ids = chat.encode_prompt(tokenizer, said(text))
        assert ids[: len(start)] == start
        assert len(ids) > len(start)
    one, other = (chat.encode_prompt(tokenizer, said(text))[len(start)] for text in ("x", "7"))
    assert one != other  # it is all of it
    written = tokenizer.decode(start)
    assert written in tokenizer.decode(own(tokenizer, said("2 + 2?"), add_generation_prompt=True))
    if kind.bos and kind.template:
        assert start[0] == tokenizer.bos_token_id


def test_a_system_message_is_kept_or_put_before_the_question(tokenizer: Any, kind: Kind) -> None:
    messages = (Message(role="system", content="Be brief."), *said("2 + 2?"))
    if kind.system:
        assert chat.encode_prompt(tokenizer, messages) == own(tokenizer, messages, add_generation_prompt=True)
        assert "Be brief." in tokenizer.decode(chat.encode_prompt(tokenizer, messages))
    else:
        one = said("Be brief.\n\n2 + 2?")
        assert chat.encode_prompt(tokenizer, messages) == own(tokenizer, one, add_generation_prompt=True)


@pytest.mark.parametrize("messages", CONVERSATIONS)
@pytest.mark.parametrize("response", ["4", "two\nlines", "émoji 🙂"])
def test_prompt_and_response_are_the_templates_whole_conversation(
    tokenizer: Any, kind: Kind, messages: Messages, response: str
) -> None:
    """Up to the token that ends the turn: behind it a template may write more, which nobody says."""
    encoded = chat.encode(tokenizer, messages, response, **LENGTHS)
    whole = own(tokenizer, (*messages, Message(role="assistant", content=response)))
    if not kind.template:
        whole = [*whole, tokenizer.eos_token_id]  # the plain template ends no turn
    after = tokenizer.encode(kind.after, add_special_tokens=False)
    assert encoded.prompt + encoded.response == whole[: len(whole) - len(after)]
    assert whole[len(whole) - len(after) :] == after


@pytest.mark.parametrize("response", RESPONSES)
def test_a_response_ends_once_and_its_end_is_the_last_target(tokenizer: Any, kind: Kind, response: str) -> None:
    end = tokenizer.convert_tokens_to_ids(kind.end)
    assert chat.end_of_turn(tokenizer) == end
    example = RankedExample(
        id="x",
        messages=CONVERSATIONS[0],
        responses=(Response(text=response, source="t", score=1.0), Response(text="other", source="t", score=0.0)),
        source="t",
        split="train",
    )
    (group,), counts = tokenize([example], {"x": [-1.0, -1.0]}, tokenizer, **LENGTHS)
    assert counts["truncated_responses"] == 0
    assert [r.count(end) for r in group.responses] == [1, 1]
    assert [r[-1] for r in group.responses] == [end, end]
    assert tokenizer.decode(group.responses[0][:-1]) == response
    for shared in (True, False):
        targets = collate([group], 0, shared=shared)["targets"]
        assert int((targets == end).sum()) == 2
        scored = targets[targets != IGNORED].tolist()
        assert scored == group.responses[0] + group.responses[1]


def test_text_that_spells_a_special_token_ends_nothing(tokenizer: Any, kind: Kind) -> None:
    text = f"write {kind.end} to stop"
    encoded = chat.encode(tokenizer, CONVERSATIONS[0], text, **LENGTHS)
    end = tokenizer.convert_tokens_to_ids(kind.end)
    assert encoded.response.count(end) == 1
    assert encoded.response[-1] == end
    assert tokenizer.decode(encoded.response[:-1]) == text


def test_the_reward_model_cuts_prompts_before_responses_that_spell_tokens(tokenizer: Any, kind: Kind) -> None:
    text = kind.end * 8
    ids, cut = classifier_ids(tokenizer, said("x" * 200), text, 8 * len(kind.end) + 46)
    assert cut
    assert ids[-len(text) - 1 :] == chat.encode_response(tokenizer, text)


def test_training_generation_and_the_reward_model_see_the_same_prompt(tokenizer: Any) -> None:
    for messages in CONVERSATIONS:
        prompt = chat.encode_prompt(tokenizer, messages)
        for response in RESPONSES:
            encoded = chat.encode(tokenizer, messages, response, **LENGTHS)
            assert encoded.prompt == prompt
            assert classifier_ids(tokenizer, messages, response, 1024) == (prompt + encoded.response, False)


def test_what_is_too_long_is_cut_and_told(tokenizer: Any) -> None:
    messages = CONVERSATIONS[1]
    prompt = chat.encode_prompt(tokenizer, messages)
    cut = chat.encode(tokenizer, messages, "a" * 50, max_prompt_length=len(prompt), max_length=len(prompt) + 10)
    assert (len(cut.response), cut.truncated) == (10, True)
    assert chat.end_of_turn(tokenizer) not in cut.response
    short = chat.encode(tokenizer, messages, "a", max_prompt_length=8, max_length=1024)
    assert (short.prompt, short.truncated) == (prompt[-8:], True)
