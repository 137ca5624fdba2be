"""Detects prompts that are copies of evaluation prompts, verbatim or edited: training on them contaminates the test.

Texts are compared as words: Unicode-normalised, lower-cased, without punctuation. Candidates are the evaluation prompts
that share one of their rarest words with the text. The overlap of a candidate is the share of its words that occur in
the text in the same order (the longest common subsequence), each word weighted by its rarity. So the overlap stays high
under changed case or punctuation, inserted words, typos, and text around the prompt, but is low for prompts that only
share common English words.
"""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

THRESHOLD = 0.8
"""The smallest overlap that counts as a leak. `tests/data/test_leaks.py` shows what it detects and what it ignores."""
WINDOW = 1.6
"""An evaluation prompt of n words is searched for in windows of WINDOW n + 1 words: words scattered in the right order
over a long text are not a copy."""
MISSPELT = 0.3
"""How far below the threshold the share of exact words may be for the missing words to be searched for as typos."""
PLACES = 3
"""A long text is searched around the occurrences of this many of the words that it shares with a prompt."""
MIN_MISSPELT = 5
"""A shorter word with one letter changed is treated as a different word, not as a typo."""
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Japanese and Chinese have no spaces between words: each character counts as a word."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_APOSTROPHE = re.compile("['’]")
_PUNCTUATION = re.compile(r"[^\w\s]|_")


class Leak(NamedTuple):
    """A match: the evaluation set, the id and text of its prompt, and the overlap in [0, 1]."""

    set: str
    id: str
    text: str
    overlap: float


def words(text: str) -> list[str]:
    """The normalised words of a text, as they are compared."""
    return _WORD.findall(_APOSTROPHE.sub("", _folded(text)))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _readings(text: str) -> list[tuple[str, ...]]:
    """The distinct non-empty word sequences of a text, one for each way to handle punctuation inside a word: "don't" is
    `dont` or `don t`, "TCP/IP" is `tcp ip` or `tcpip`."""
    folded = _folded(text)
    forms = (_APOSTROPHE.sub("", folded), folded, _PUNCTUATION.sub("", folded))
    return [form for form in dict.fromkeys(tuple(_WORD.findall(form)) for form in forms) if form]


class _Prompt(NamedTuple):
    """One reading of an evaluation prompt. `shares`: each distinct word's share of the prompt's total weight."""

    set: str
    id: str
    text: str
    words: tuple[str, ...]
    distinct: frozenset[str]
    shares: dict[str, float]


class LeakIndex:
    """Evaluation prompts by set: `{"alpaca_eval": [(id, text), ...], ...}`. `threshold`: the smallest overlap
    that counts as a leak."""

    def __init__(self, prompts: Mapping[str, Iterable[tuple[str, str]]], threshold: float = THRESHOLD) -> None:
        rows = [(name, key, text, _readings(text)) for name, named in prompts.items() for key, text in named]
        prompt_counts = Counter(word for *_, forms in rows for word in {w for form in forms for w in form})
        self.threshold = threshold
        self._weights = {word: math.log((len(rows) + 1) / (count + 0.5)) for word, count in prompt_counts.items()}
        self._prompts = [
            _Prompt(name, key, text, form, frozenset(form), self._shares(form))
            for name, key, text, forms in rows
            for form in forms
        ]
        self._by_word: dict[str, list[int]] = defaultdict(list)
        for i, prompt in enumerate(self._prompts):
            # Several rare words, so that a prompt is still a candidate when an edit has changed some of them.
            rarest = sorted(prompt.distinct, key=lambda w: (-self._weights[w], w))[: max(4, len(prompt.words) // 4)]
            for word in rarest:
                self._by_word[word].append(i)

    def _shares(self, form: tuple[str, ...]) -> dict[str, float]:
        """Each distinct word's share, over all its occurrences, of the prompt's total weight."""
        total = sum(self._weights[w] for w in form)
        return {word: count * self._weights[word] / total for word, count in Counter(form).items()}

    def find(self, text: str) -> Leak | None:
        """The evaluation prompt with the largest overlap, if that reaches the threshold."""
        best: tuple[float, _Prompt] | None = None
        for reading in _readings(text):
            present = frozenset(reading)
            for i in sorted({i for word in present for i in self._by_word.get(word, ())}):
                prompt = self._prompts[i]
                overlap = self._overlap(prompt, reading, present)
                if overlap >= self.threshold and (best is None or overlap > best[0]):
                    best = (overlap, prompt)
        return Leak(best[1].set, best[1].id, best[1].text, round(best[0], 4)) if best else None

    def _overlap(self, prompt: _Prompt, reading: tuple[str, ...], present: frozenset[str]) -> float:
        """The largest weighted share of the prompt's words that occur in order within one window of the text; 0 as soon
        as it is clear that the threshold can't be reached. `present`: the distinct words of `reading`."""
        share = _share(prompt, present)
        if share < self.threshold - MISSPELT:
            return 0.0
        if share < self.threshold:
            corrections = _corrections(prompt.distinct - present, present - prompt.distinct)
            if _share(prompt, present.union(corrections.values())) < self.threshold:
                return 0.0
            reading = tuple(corrections.get(word, word) for word in reading)
        return max(self._in_order(prompt, window) for window in self._windows(prompt, reading))

    def _windows(self, prompt: _Prompt, reading: tuple[str, ...]) -> list[tuple[str, ...]]:
        """The parts of a text that may contain the prompt: windows around occurrences of its rarest words."""
        length = math.ceil(WINDOW * len(prompt.words)) + 1
        if len(reading) <= length:
            return [reading]
        counts = Counter(reading)
        # The shared words with the fewest occurrences for their weight: fewest windows to search.
        shared = prompt.distinct.intersection(counts)
        rarest = sorted(shared, key=lambda w: (counts[w] / prompt.shares[w], w))[:PLACES]
        positions = [i for i, word in enumerate(reading) if word in rarest]
        starts = {max(0, start) for i in positions for start in (i - length + 1, i - length // 2, i)}
        return [reading[start : start + length] for start in sorted(starts)]

    def _in_order(self, prompt: _Prompt, window: Sequence[str]) -> float:
        """Weighted share of the prompt's words that occur in order in the window; 0 below the threshold."""
        from rapidfuzz.distance import LCSseq

        if _share(prompt, frozenset(window)) < self.threshold:
            return 0.0
        edits = LCSseq.opcodes(prompt.words, window)
        same = Counter(w for op in edits if op.tag == "equal" for w in prompt.words[op.src_start : op.src_end])
        counts = Counter(prompt.words)
        return min(1.0, sum(prompt.shares[w] * n / counts[w] for w, n in same.items()))


def _share(prompt: _Prompt, present: frozenset[str]) -> float:
    """Weighted share of the prompt's words that are present, in any order."""
    return sum(map(prompt.shares.__getitem__, prompt.distinct & present))


def _corrections(missing: frozenset[str], extra: frozenset[str]) -> dict[str, str]:
    """A missing word for each extra word that differs from it by one edit: a letter inserted, deleted or replaced, or
    two adjacent letters swapped."""
    from rapidfuzz.distance import OSA
    from rapidfuzz.process import extract

    targets = [word for word in sorted(missing) if len(word) >= MIN_MISSPELT and word.isalpha()]
    candidates = sorted(extra)
    matches = ((word, extract(word, candidates, scorer=OSA.distance, score_cutoff=1, limit=None)) for word in targets)
    return {other: word for word, hits in matches for other, _, _ in hits}
