"""Which written prompts are kept: every filter counts what it drops, and what was dropped is kept with the reason."""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.leaks import LeakIndex, words
from harness.types import Completion, Message, PreferencePair, Prompt, Record, prompt_id

if TYPE_CHECKING:
    from datasketch import MinHash

MIN_DISTINCT = 0.5
"""A prompt in which fewer of the words are different ones goes in circles. Of more than LONG words so many of LONG have
to be: the longer a text is, the more of its words it has had before."""
LONG = 100
PERMUTATIONS = 128
SURE = 0.9
"""The probability from which a prompt's language is believed."""
MIN_LETTERS = 20
"""The language of fewer letters is not asked for."""
MIN_SHARE = 0.05
"""A language in which fewer of the seed's prompts are is no language of the seed's."""
COPIED = 0.8
"""A prompt with more of a shot's words in common (Jaccard) is a copy of the shot."""
_REFUSED = "help|assist|do that|fulfil|comply|provide|create|generate|write|answer"
_NOT_A_REQUEST = re.compile(
    rf"(i['’]?m sorry|i am sorry|i apologi[sz]e|as an ai|i (can['’]?t|cannot|can not) ({_REFUSED})|sure[,!]"
    r"|a(nswer)?\s*:|the answer (to (this|the) question )?is\b)",
    re.IGNORECASE,
)
_LABEL = re.compile(r"^\s*(?:(?:request|prompt|question|q|task|user)\s*\d*\s*:|\d+[.)]|[-*•])\s*", re.IGNORECASE)


class Dropped(Record):
    """A written prompt that was not kept: why, and the text that it is too like, where that is the reason."""

    text: str
    reason: str
    matched: str | None = None


class Limits(NamedTuple):
    """What a prompt must keep to: words at least and at most, and the Jaccard similarity of words and word pairs above
    which two prompts are near duplicates."""

    min_words: int = 3
    max_words: int = 400
    max_similarity: float = 0.7


def language(text: str) -> str | None:
    """The language of a text (ISO 639-1), by py3langid; None where that is not sure."""
    if sum(c.isalpha() for c in text) < MIN_LETTERS:
        return None
    name, probability = _identifier().classify(text)
    return str(name) if probability >= SURE else None


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def languages_of(texts: Sequence[str]) -> frozenset[str]:
    """The languages of a set of texts; empty where none could be told."""
    found = Counter(name for text in texts if (name := language(text)))
    return frozenset(name for name, count in found.items() if count >= MIN_SHARE * sum(found.values()))


def shingles(text: str) -> frozenset[str]:
    """Words and pairs of neighbouring words, as texts are compared by."""
    found = words(text)
    return frozenset([*found, *(f"{a} {b}" for a, b in pairwise(found))])


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard similarity; 0 of nothing with nothing."""
    return len(one & other) / max(1, len(one | other))


class _Seen:
    """Texts that are known, found again by MinHash (Broder 1997) and locality-sensitive hashing; what they find is
    checked exactly."""

    def __init__(self, threshold: float) -> None:
        from datasketch import MinHashLSH

        self._threshold = threshold
        # A lower threshold than is asked for: candidates cost little, and a missed one is a duplicate that stays.
        self._index: MinHashLSH = MinHashLSH(threshold=max(0.1, threshold - 0.2), num_perm=PERMUTATIONS)
        self._texts: dict[str, tuple[str, frozenset[str]]] = {}

    def add(self, text: str) -> None:
        parts = shingles(text)
        key = str(len(self._texts))
        self._texts[key] = (text, parts)
        self._index.insert(key, _minhash(parts))

    def nearest(self, text: str) -> str | None:
        """The known text that is most similar, where it is above the threshold."""
        parts = shingles(text)
        found = [(similarity(parts, self._texts[k][1]), k) for k in self._index.query(_minhash(parts))]
        best = max(found, default=(0.0, ""))
        return self._texts[best[1]][0] if best[0] > self._threshold else None


def _minhash(parts: frozenset[str]) -> "MinHash":
    from datasketch import MinHash

    made = MinHash(num_perm=PERMUTATIONS, seed=1)
    made.update_batch([part.encode() for part in sorted(parts)])
    return made


class PromptFilter:
    """Decides which written prompts are kept. `known`: the seed's prompts. `languages`: those allowed; none: all.
    `template`: what the generator was asked with (see `harness.prompt_template`)."""

    def __init__(
        self, known: Sequence[str], limits: Limits, leaks: LeakIndex, languages: frozenset[str], template: Any
    ) -> None:
        self._limits = limits
        self._leaks = leaks
        self._languages = languages
        self._template = template
        self._exact = {" ".join(words(text)) for text in known}
        self._seen = _Seen(limits.max_similarity)
        for text in known:
            self._seen.add(text)
        self.dropped: list[Dropped] = []
        self.leaks: Counter[str] = Counter()

    @property
    def counts(self) -> dict[str, int]:
        """How many were dropped, by reason."""
        return dict(Counter(d.reason for d in self.dropped))

    def accept(self, completion: Completion, shown: Sequence[PreferencePair]) -> Prompt | None:
        """The prompt, or None when it is dropped."""
        text = _LABEL.sub("", completion.text.strip()).strip().strip('"“”').strip()
        if drop := self._unusable(completion, text) or self._known(text, shown):
            self.dropped.append(drop)
            return None
        self._exact.add(" ".join(words(text)))
        self._seen.add(text)
        system = [m for m in shown[0].messages[:1] if m.role == "system"]
        messages = (*system, Message(role="user", content=text))
        return Prompt(id=prompt_id(messages), messages=messages, source="generated", shots=tuple(p.id for p in shown))

    def _unusable(self, completion: Completion, text: str) -> Dropped | None:
        """Why a text is no prompt, whatever others there are."""
        said = words(text)
        count = len(said)
        checks = {
            "empty": not text,
            "cut_at_token_limit": completion.finish_reason == "length",
            "unparsable": bool(text) and not re.search(r"\w{2}", text),
            "too_short": count < self._limits.min_words,
            "too_long": count > self._limits.max_words,
            "repetitive": len(set(said)) < MIN_DISTINCT * min(count, LONG),
            "not_a_request": bool(_NOT_A_REQUEST.match(text)) or self._template.repeats(text),
        }
        if reason := next((name for name, wrong in checks.items() if wrong), None):
            return Dropped(text=completion.text if reason == "empty" else text, reason=reason)
        found = language(text) if self._languages else None
        if found and found not in self._languages:
            return Dropped(text=text, reason="language", matched=found)
        return None

    def _known(self, text: str, shown: Sequence[PreferencePair]) -> Dropped | None:
        """What a text is too like: a prompt of an evaluation set, a shot, a seed's or a kept prompt."""
        if leak := self._leaks.find(text):
            self.leaks[leak.set] += 1
            return Dropped(text=text, reason="leak", matched=f"{leak.set}: {leak.text}")
        parts = shingles(text)
        for shot in shown:
            said = user_text(shot.messages)
            if similarity(parts, shingles(said)) > COPIED:
                return Dropped(text=text, reason="copy_of_a_shot", matched=said)
        if " ".join(words(text)) in self._exact:
            return Dropped(text=text, reason="duplicate")
        if near := self._seen.nearest(text):
            return Dropped(text=text, reason="near_duplicate", matched=near)
        return None


def user_text(messages: Sequence[Message]) -> str:
    """The first user turn of a prompt: what can be asked by itself, and what a similar prompt is similar to."""
    return next(m.content for m in messages if m.role == "user")
