"""Prompt and response are the conversation in the template's own words: all templates that TRL ships, and some more.

What the template writes for a whole conversation is the oracle. Where ours differs, `KNOWN` says how and why.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harness.models import chat
from harness.models.templates import rendering
from harness.models.templates.taking import as_rows, folded
from harness.types import Message

CONTROL = re.compile(
    r"<[|｜][^<>\n'\"{}]{1,40}[|｜]>|</?[a-z_]{1,24}>|\[/?[A-Z_]{2,20}\]|<\|[a-z_>]+|<[a-z_]+\|>", re.ASCII | re.DOTALL
)
ENDS = {"llama3": "<|eot_id|>", "gemma": "<eos>", "cohere": "<|END_OF_TURN_TOKEN|>", "phi": "<|endoftext|>"}
"""The end-of-sequence token of families, where it isn't `<|im_end|>` or one that only the tokenizer knows."""

SYSTEM = Message(role="system", content="Be brief.")
FIRST, REPLY, LAST = (Message(role=r, content=c) for r, c in (("user", "Hi"), ("assistant", "Hello!"), ("user", "2?")))
CONVERSATIONS = [[LAST], [SYSTEM, LAST], [FIRST, REPLY, LAST], [SYSTEM, FIRST, REPLY, LAST]]
ANSWER = Message(role="assistant", content="It is 4.")

OWN = {
    "mistral_v0.1": "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %}{{ m.content }}{{ eos_token }} {% endif %}{% endfor %}",
    "mistral_small": "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}"
    "[SYSTEM_PROMPT]{{ m.content }}[/SYSTEM_PROMPT]{% elif m.role == 'user' %}[INST]{{ m.content }}[/INST]"
    "{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}",
    "glm4": "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    "phi4": "{% for m in messages %}<|im_start|>{{ m.role }}<|im_sep|>{{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant<|im_sep|>{% endif %}",
    "deaf": "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
}
"""Small templates of families that TRL has none of; the last leaves system messages out."""


@cache
def shipped() -> dict[str, str]:
    import trl

    files = (Path(trl.__file__).parent / "chat_templates").glob("*.jinja")
    return OWN | {path.stem: path.read_text(encoding="utf-8") for path in sorted(files)}


CLOSED = ("<think>\n\n</think>\n\n", "")
KNOWN: dict[str, tuple[tuple[str, str], str]] = {
    "deepseek_r1_distill": (CLOSED, "its prompt opens a thought, which an answer without one has to close"),
    "deepseekv3": (CLOSED, "its prompt opens a thought, which an answer without one has to close"),
    "cohere2": (("", "<|END_OF_TURN_TOKEN|>"), "it ends first the response and then the turn"),
    "phi3": (("", "\n<|endoftext|>"), "it ends the text, too"),
    "phi3_5": (("", "\n<|endoftext|>"), "it ends the text, too"),
    "glm4moe": (("<EOS>", ""), "it ends an answer where the next turn begins; nothing is trained to do without an end"),
    "glm4": (("<EOS>", ""), "it ends an answer where the next turn begins; nothing is trained to do without an end"),
    "idefics3": ((":It", ": It"), "it writes a space before an answer, which its model writes itself"),
    "smolvlm": ((":It", ": It"), "it writes a space before an answer, which its model writes itself"),
    "llava_next": (("[/INST]It", "[/INST] It"), "it writes a space before an answer, which its model writes itself"),
}
"""What ours has and the template's conversation hasn't, and the other way round."""


@cache
def tokenizer_of(name: str) -> Any:
    """A byte-level tokenizer that has all control tokens of a template."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    template = shipped()[name]
    end = next(
        (v for k, v in ENDS.items() if name.startswith(k)), "<|im_end|>" if "<|im_end|>" in template else "<EOS>"
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(BPE(vocab={token: i for i, token in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(sorted({*CONTROL.findall(template), end, "<BOS>"}))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<BOS>", eos_token=end, pad_token=end)
    tokenizer.chat_template = template
    return tokenizer


def own(tokenizer: Any, messages: list[Message]) -> str:
    """The conversation in the template's own words, rendered by transformers."""
    takes = rendering.taken(tokenizer)
    rows = as_rows(messages if takes.system == "written" else folded(messages), takes.parts)
    return str(tokenizer.apply_chat_template(rows, tokenize=False))


SHIPPED = [pytest.param(n, marks=[pytest.mark.slow] if n.endswith("_training") else []) for n in shipped()]


@pytest.mark.parametrize("name", SHIPPED)
def test_prompt_and_response_are_the_templates_own_conversation(name: str) -> None:
    tokenizer = tokenizer_of(name)
    # Where TRL's variant for training has an end of turn, it is the same as ours.
    family = name if name in KNOWN or name == "glm4moe_training" else name.removesuffix("_training")
    (ours_only, theirs_only), _ = KNOWN.get(family, (("", ""), ""))
    for messages in CONVERSATIONS:
        encoded = chat.encode(tokenizer, messages, ANSWER.content, max_prompt_length=10**6, max_length=10**6)
        whole = own(tokenizer, [*messages, ANSWER])
        ids = tokenizer.encode(whole, add_special_tokens=False)
        ours = encoded.prompt + encoded.response
        if family not in KNOWN:
            assert ids[: len(ours)] == ours
            assert not tokenizer.decode(ids[len(ours) :]).strip()
            continue
        text = tokenizer.decode(ours)
        at = text.rindex(ours_only)
        assert (text[:at] + theirs_only + text[at + len(ours_only) :]).rstrip() == whole.rstrip()
        assert text != whole
        for message in messages:
            assert message.content in text


def test_what_is_known_is_shipped() -> None:
    assert KNOWN.keys() <= shipped().keys()
    assert len(shipped()) > 70
