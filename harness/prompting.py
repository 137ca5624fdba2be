"""New prompts from seed prompts: a few are shown as a conversation, and the model writes one more.

The template is ours (the paper's text is not public): each shown seed prompt is an assistant turn that answers the same
request for a prompt, so that an instruct model goes on in the same style. What comes back is filtered, and every
filter counts what it dropped.
"""

import random
import re
from collections import Counter
from collections.abc import Sequence

from rapidfuzz import fuzz, process, utils

from harness.types import Completion, Message, Messages, PreferencePair, Prompt, prompt_id

TASK = (
    "You write varied, realistic tasks and questions that people bring to a helpful assistant. "
    "Each one is self-contained and specific."
)
ASK = "Give me a new task or question for an assistant, on another subject."
MIN_WORDS = 3
MIN_DISTINCT = 0.5
"""A prompt in which fewer of the words are different ones goes in circles."""
_NOT_A_REQUEST = re.compile(
    r"(i'?m sorry|i am sorry|i apologi[sz]e|as an ai|i can'?t|i cannot|sure[,!])", re.IGNORECASE
)
_LABEL = re.compile(r"^\s*(?:(?:request|prompt|question|user)\s*:|\d+[.)]|[-*•])\s*", re.IGNORECASE)


def user_text(messages: Messages) -> str:
    """The last user turn of a prompt: what a similar prompt is similar to."""
    return next(m.content for m in reversed(messages) if m.role == "user")


def choose_shots(pairs: Sequence[PreferencePair], shots: int, longest: int, rng: random.Random) -> list[PreferencePair]:
    """`shots` seed rows at random, among those whose request has at most `longest` characters (a request that the
    generator would have no room to write is no example for it); the shortest ones where there are too few."""
    fitting = [p for p in pairs if len(user_text(p.messages)) <= longest]
    if len(fitting) < shots:
        fitting = sorted(pairs, key=lambda p: (len(user_text(p.messages)), p.id))[:shots]
    return rng.sample(fitting, min(shots, len(fitting)))


def few_shot(shown: Sequence[PreferencePair]) -> Messages:
    """The conversation that asks for one more prompt."""
    turns: list[Message] = []
    for pair in shown:
        # Not a system message: some chat templates refuse one.
        turns.append(Message(role="user", content=ASK if turns else f"{TASK}\n\n{ASK}"))
        turns.append(Message(role="assistant", content=user_text(pair.messages)))
    return (*turns, Message(role="user", content=ASK))


class PromptFilter:
    """Decides which written prompts are kept, and counts what is dropped and why.

    `max_similarity` in (0, 1]: a prompt whose token-sort similarity (rapidfuzz) to a seed prompt or to one that was
    kept is above it is dropped as too similar.
    """

    def __init__(self, known: Sequence[str], max_similarity: float) -> None:
        self.known = [self._normal(text) for text in known]
        self.exact = set(self.known)
        self.cutoff = 100 * max_similarity
        self.dropped: Counter[str] = Counter()

    @staticmethod
    def _normal(text: str) -> str:
        return " ".join(sorted(utils.default_process(text).split()))

    def accept(self, completion: Completion, shown: Sequence[PreferencePair]) -> Prompt | None:
        """The prompt, or None when it is dropped."""
        text = _LABEL.sub("", completion.text.strip()).strip().strip('"“”').strip()
        reason = self._unusable(completion, text)
        normal = self._normal(text)
        if reason is None and normal in self.exact:
            reason = "duplicate"
        # The words are sorted already, so plain ratio is rapidfuzz's token-sort ratio.
        elif reason is None and process.extractOne(normal, self.known, scorer=fuzz.ratio, score_cutoff=self.cutoff):
            reason = "too_similar"
        if reason is not None:
            self.dropped[reason] += 1
            return None
        self.known.append(normal)
        self.exact.add(normal)
        system = [m for m in shown[0].messages[:1] if m.role == "system"]
        messages = (*system, Message(role="user", content=text))
        return Prompt(id=prompt_id(messages), messages=messages, source="generated", shots=tuple(p.id for p in shown))

    @staticmethod
    def _unusable(completion: Completion, text: str) -> str | None:
        if not text:
            return "empty"
        if completion.finish_reason == "length":
            return "cut_at_token_limit"
        if len(text.split()) < MIN_WORDS or not re.search(r"\w{3}", text):
            return "too_short"
        words = text.lower().split()
        if len(set(words)) < MIN_DISTINCT * len(words):
            return "repetitive"
        if _NOT_A_REQUEST.match(text) or ASK.lower()[:-1] in text.lower():
            return "not_a_request"
        return None
