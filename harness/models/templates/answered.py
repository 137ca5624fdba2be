"""What a chat template writes between a prompt and its answer, once the answer is known.

Asked for an answer, a template ends where the model begins to write: some open a thought there (`<think>`), and others
leave it to the model. In a conversation with the answer, the same template leaves the thought out or writes an empty
one. An answer that is trained on, or scored, follows what the template itself writes before an answer; where that has
no thought, but the prompt has opened one, the thought is closed.
"""

from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from harness.errors import ModelError
from harness.models.templates.rendering import render
from harness.models.templates.thoughts import opened_by
from harness.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

QUESTION, ANSWER = Message(role="user", content="question"), Message(role="assistant", content="harness")
"""A conversation that every template takes."""


class Bridge(NamedTuple):
    """What leads from a prompt's end to its answer: `cut` characters are removed, then `text` is added."""

    cut: int = 0
    text: str = ""

    def over(self, prompt: str) -> str:
        """A rendered prompt with what comes before its answer."""
        return prompt[: len(prompt) - self.cut] + self.text


_cache: "WeakKeyDictionary[PreTrainedTokenizerBase, tuple[str, Bridge]]" = WeakKeyDictionary()


def bridge(tokenizer: "PreTrainedTokenizerBase") -> Bridge:
    """The bridge that the tokenizer's template needs, an empty one for most. Raises ModelError if the template's own
    conversation has no answer, or begins it in another way than its prompt for one."""
    if not tokenizer.chat_template:
        return Bridge()
    template = str(tokenizer.chat_template)
    cached = _cache.get(tokenizer)
    if cached is None or cached[0] != template:
        cached = _cache[tokenizer] = template, _read(tokenizer)
    return cached[1]


def _read(tokenizer: "PreTrainedTokenizerBase") -> Bridge:
    prompt = render(tokenizer, [QUESTION], add_generation_prompt=True)
    whole = render(tokenizer, [QUESTION, ANSWER])
    if ANSWER.content not in whole:
        raise ModelError(f"{tokenizer.name_or_path}: its chat template leaves out the answer; use another model")
    before = whole[: whole.rindex(ANSWER.content)]
    if "".join(before.split()) == "".join(prompt.split()):
        return Bridge()  # answers are tokenised apart from spaces before them
    if before.startswith(prompt):
        return Bridge(0, before[len(prompt) :])
    if (thought := opened_by(prompt)) is not None:
        opening = thought.opening.rstrip()
        stem = prompt[: prompt.rindex(opening)]
        if before.startswith(stem + opening):  # closed at once: <think></think>
            return Bridge(len(prompt) - len(stem), before[len(stem) :])
        if before.rstrip() == stem.rstrip():
            return Bridge(0, thought.close)
    raise ModelError(
        f"{tokenizer.name_or_path}: before an answer its chat template writes {before[-60:]!r} in a conversation, but "
        f"{prompt[-60:]!r} where it asks for one, so training would begin answers unlike the model; mend the template"
    )


def notice(tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """How answers that are trained on differ from the prompt for one, in words; None if they don't."""
    cut, text = bridge(tokenizer)
    if not (cut or text):
        return None
    rest = f" instead of its last {cut} characters" if cut else ""
    return (
        f"{tokenizer.name_or_path}: its chat template's prompt is not what precedes an answer in a conversation; "
        f"answers that are trained on or scored follow {text!r}{rest}"
    )
