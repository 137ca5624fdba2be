"""Filters for new prompts. Every dropped prompt is counted, and recorded with the reason."""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.data.leaks import LeakIndex, words
from harness.types import Completion, Message, PreferencePair, Prompt, Record, prompt_id

if TYPE_CHECKING:
    from datasketch import MinHash

MIN_DISTINCT = 0.5
"""A prompt with a smaller share of distinct words is repetitive. In prompts of more than LONG words, the share is of
LONG: the longer a text is, the more of its words repeat."""
LONG = 100
MINHASH_PERMUTATIONS = 128
MIN_PROBABILITY = 0.9
"""The probability from which a detected language is trusted."""
MIN_LETTERS = 20
"""No language is detected in texts with fewer letters."""
MIN_SHARE = 0.05
"""A language with a smaller share of the seed's prompts doesn't count as one of the seed's languages."""
MAX_SHOT_SIMILARITY = 0.8
"""A prompt more similar to a shot than this (Jaccard similarity of words and word pairs) is a copy of the shot."""
_REFUSED = "help|assist|do that|fulfil|comply|provide|create|generate|write|answer"
_NOT_A_REQUEST = re.compile(
    rf"(i['’]?m sorry|i am sorry|i apologi[sz]e|as an ai|i (can['’]?t|cannot|can not) ({_REFUSED})|sure[,!]"
    r"|a(nswer)?\s*:|the answer (to (this|the) question )?is\b)",
    re.IGNORECASE,
)
_LABEL = re.compile(r"^\s*(?:(?:request|prompt|question|q|task|user)\s*\d*\s*:|\d+[.)]|[-*•])\s*", re.IGNORECASE)


class DroppedPrompt(Record):
    """A new prompt that was dropped: the reason, and the text that it is too similar to, if that is the reason."""

    text: str
    reason: str
    matched: str | None = None


class Limits(NamedTuple):
    """Limits on prompts: the minimum and maximum number of words, and the Jaccard similarity of words and word pairs
    above which two prompts are near duplicates."""

    min_words: int = 3
    max_words: int = 400
    max_similarity: float = 0.7


def language(text: str) -> str | None:
    """The language of a text (ISO 639-1), detected by py3langid; None if uncertain."""
    if sum(c.isalpha() for c in text) < MIN_LETTERS:
        return None
    name, probability = _identifier().classify(text)
    return str(name) if probability >= MIN_PROBABILITY else None


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def languages_of(texts: Sequence[str]) -> frozenset[str]:
    """The languages of a set of texts; empty if none could be detected."""
    counts = Counter(name for text in texts if (name := language(text)))
    return frozenset(name for name, count in counts.items() if count >= MIN_SHARE * sum(counts.values()))


def shingles(text: str) -> frozenset[str]:
    """The words and pairs of neighbouring words of a text, for comparing texts."""
    tokens = words(text)
    return frozenset([*tokens, *(f"{a} {b}" for a, b in pairwise(tokens))])


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard similarity; 0 for two empty sets."""
    return len(one & other) / max(1, len(one | other))


class _SimilarityIndex:
    """An index of texts for similarity search by MinHash (Broder 1997) and locality-sensitive hashing; candidates are
    then compared exactly."""

    def __init__(self, threshold: float) -> None:
        from datasketch import MinHashLSH

        self._threshold = threshold
        # A lower threshold than needed: candidates cost little, and a missed one is a duplicate that is kept.
        self._index: MinHashLSH = MinHashLSH(threshold=max(0.1, threshold - 0.2), num_perm=MINHASH_PERMUTATIONS)
        self._texts: dict[str, tuple[str, frozenset[str]]] = {}

    def add(self, text: str) -> None:
        parts = shingles(text)
        key = str(len(self._texts))
        self._texts[key] = (text, parts)
        self._index.insert(key, _minhash(parts))

    def nearest(self, text: str) -> str | None:
        """The most similar text in the index, if its similarity is above the threshold."""
        parts = shingles(text)
        candidates = [(similarity(parts, self._texts[k][1]), k) for k in self._index.query(_minhash(parts))]
        best = max(candidates, default=(0.0, ""))
        return self._texts[best[1]][0] if best[0] > self._threshold else None


def _minhash(parts: frozenset[str]) -> "MinHash":
    from datasketch import MinHash

    minhash = MinHash(num_perm=MINHASH_PERMUTATIONS, seed=1)
    minhash.update_batch([part.encode() for part in sorted(parts)])
    return minhash


class PromptFilter:
    """Decides which new prompts are kept. `existing`: the seed's prompts. `languages`: the allowed ones; empty: all.
    `template`: the template of the generator's prompt (see `harness.recipe.prompt_template`)."""

    def __init__(
        self, existing: Sequence[str], limits: Limits, leaks: LeakIndex, languages: frozenset[str], template: Any
    ) -> None:
        self._limits = limits
        self._leaks = leaks
        self._languages = languages
        self._template = template
        self._exact = {" ".join(words(text)) for text in existing}
        self._similar = _SimilarityIndex(limits.max_similarity)
        for text in existing:
            self._similar.add(text)
        self.dropped: list[DroppedPrompt] = []
        self.leaks: Counter[str] = Counter()

    @property
    def counts(self) -> dict[str, int]:
        """The number of dropped prompts by reason."""
        return dict(Counter(d.reason for d in self.dropped))

    def accept(self, completion: Completion, shown: Sequence[PreferencePair]) -> Prompt | None:
        """The prompt, or None if it is dropped."""
        text = _LABEL.sub("", completion.text.strip()).strip().strip('"“”').strip()
        if drop := self._unusable(completion, text) or self._too_similar(text, shown):
            self.dropped.append(drop)
            return None
        self._exact.add(" ".join(words(text)))
        self._similar.add(text)
        system = [m for m in shown[0].messages[:1] if m.role == "system"]
        messages = (*system, Message(role="user", content=text))
        return Prompt(id=prompt_id(messages), messages=messages, source="generated", shots=tuple(p.id for p in shown))

    def _unusable(self, completion: Completion, text: str) -> DroppedPrompt | None:
        """Whether a text is unusable as a prompt by itself, and why."""
        tokens = words(text)
        count = len(tokens)
        checks = {
            "empty": not text,
            "cut_at_token_limit": completion.finish_reason == "length",
            "unparsable": bool(text) and not re.search(r"\w{2}", text),
            "too_short": count < self._limits.min_words,
            "too_long": count > self._limits.max_words,
            "repetitive": len(set(tokens)) < MIN_DISTINCT * min(count, LONG),
            "not_a_request": bool(_NOT_A_REQUEST.match(text)) or self._template.repeats(text),
        }
        if reason := next((name for name, wrong in checks.items() if wrong), None):
            return DroppedPrompt(text=completion.text if reason == "empty" else text, reason=reason)
        detected = language(text) if self._languages else None
        if detected and detected not in self._languages:
            return DroppedPrompt(text=text, reason="language", matched=detected)
        return None

    def _too_similar(self, text: str, shown: Sequence[PreferencePair]) -> DroppedPrompt | None:
        """Whether a text is too similar to a prompt of an evaluation set, to a shot, or to a seed or kept prompt."""
        if leak := self._leaks.find(text):
            self.leaks[leak.set] += 1
            return DroppedPrompt(text=text, reason="leak", matched=f"{leak.set}: {leak.text}")
        parts = shingles(text)
        for shot in shown:
            request = user_text(shot.messages)
            if similarity(parts, shingles(request)) > MAX_SHOT_SIMILARITY:
                return DroppedPrompt(text=text, reason="copy_of_a_shot", matched=request)
        if " ".join(words(text)) in self._exact:
            return DroppedPrompt(text=text, reason="duplicate")
        if near := self._similar.nearest(text):
            return DroppedPrompt(text=text, reason="near_duplicate", matched=near)
        return None


def user_text(messages: Sequence[Message]) -> str:
    """The first user turn of a prompt: it stands by itself, and similarity is measured on it."""
    return next(m.content for m in messages if m.role == "user")
