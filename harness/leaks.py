"""Is a prompt one of an evaluation set's, perhaps edited? Then what is trained on it has seen the test.

A text is compared as words: Unicode-normalised, lower case, without punctuation. Candidates are the evaluation prompts
of whose rarest words it has one; of each the share of its words that stand in the text in the same order is taken (the
longest common subsequence), every word weighted by how rare it is. So changed case, punctuation, inserted words, a
slip of the pen and a text around the prompt leave the overlap high, and what two prompts share by being English
doesn't.
"""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

THRESHOLD = 0.8
"""The overlap from which a text counts as a leak: see `tests/test_leaks.py` for what it finds and what it spares."""
WINDOW = 1.6
"""An evaluation prompt of n words is looked for in stretches of WINDOW n + 1 words: words scattered over a long text in
the right order are no copy."""
MISSPELT = 0.3
"""So much less than the threshold may be there before the rest is looked for under another spelling."""
PLACES = 3
"""A long text is searched around so many of the words that it has in common with a prompt."""
MIN_MISSPELT = 5
"""A word of fewer letters is another word when one of them is changed."""
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Japanese and Chinese have no spaces between words: a character counts as one."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_APOSTROPHE = re.compile("['’]")
_PUNCTUATION = re.compile(r"[^\w\s]|_")


class Leak(NamedTuple):
    """A hit: the evaluation set, the id and the text of its prompt, and the overlap in [0, 1]."""

    set: str
    id: str
    text: str
    overlap: float


def words(text: str) -> list[str]:
    """The words of a text as they are compared."""
    return _WORD.findall(_APOSTROPHE.sub("", _folded(text)))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _readings(text: str) -> list[tuple[str, ...]]:
    """The words of a text in each way that punctuation inside a word can be left out: "don't" is `dont` or `don t`,
    "TCP/IP" is `tcp ip` or `tcpip`. The different ones of these, none empty."""
    folded = _folded(text)
    forms = (_APOSTROPHE.sub("", folded), folded, _PUNCTUATION.sub("", folded))
    return [form for form in dict.fromkeys(tuple(_WORD.findall(form)) for form in forms) if form]


class _Known(NamedTuple):
    set: str
    id: str
    text: str
    words: tuple[str, ...]
    distinct: frozenset[str]
    shares: dict[str, float]


class LeakIndex:
    """Evaluation prompts by set: `{"alpaca_eval": [(id, text), ...], ...}`."""

    def __init__(self, prompts: Mapping[str, Iterable[tuple[str, str]]], threshold: float = THRESHOLD) -> None:
        rows = [(name, key, text, _readings(text)) for name, named in prompts.items() for key, text in named]
        appears = Counter(word for *_, forms in rows for word in {w for form in forms for w in form})
        self.threshold = threshold
        self._weights = {word: math.log((len(rows) + 1) / (count + 0.5)) for word, count in appears.items()}
        self._known = [
            _Known(name, key, text, form, frozenset(form), self._shares(form))
            for name, key, text, forms in rows
            for form in forms
        ]
        self._by_word: dict[str, list[int]] = defaultdict(list)
        for place, known in enumerate(self._known):
            # The rarest words find it, whichever of them an edit has changed.
            rarest = sorted(known.distinct, key=lambda w: (-self._weights[w], w))[: max(4, len(known.words) // 4)]
            for word in rarest:
                self._by_word[word].append(place)

    def _shares(self, form: tuple[str, ...]) -> dict[str, float]:
        """What each distinct word of a prompt, in all its places, is of the prompt's weight."""
        whole = sum(self._weights[w] for w in form)
        return {word: count * self._weights[word] / whole for word, count in Counter(form).items()}

    def find(self, text: str) -> Leak | None:
        """The evaluation prompt that a text overlaps most, where it does by the threshold."""
        best: tuple[float, _Known] | None = None
        for asked in _readings(text):
            there = frozenset(asked)
            for place in sorted({place for word in there for place in self._by_word.get(word, ())}):
                known = self._known[place]
                overlap = self._overlap(known, asked, there)
                if overlap >= self.threshold and (best is None or overlap > best[0]):
                    best = (overlap, known)
        return Leak(best[1].set, best[1].id, best[1].text, round(best[0], 4)) if best else None

    def _overlap(self, known: _Known, asked: tuple[str, ...], there: frozenset[str]) -> float:
        """Weighted share of the prompt's words in the text, in order, within one stretch of it; 0 where it is clear
        beforehand that the threshold is out of reach."""
        share = _share(known, there)
        if share < self.threshold - MISSPELT:
            return 0.0
        if share < self.threshold:
            spelt = _spelt_as(known.distinct - there, there - known.distinct)
            if _share(known, there.union(spelt.values())) < self.threshold:
                return 0.0
            asked = tuple(spelt.get(word, word) for word in asked)
        return max(self._in_order(known, stretch) for stretch in self._stretches(known, asked))

    def _stretches(self, known: _Known, asked: tuple[str, ...]) -> list[tuple[str, ...]]:
        """The parts of a text that may hold the prompt: those around places where its rarest word stands."""
        length = math.ceil(WINDOW * len(known.words)) + 1
        if len(asked) <= length:
            return [asked]
        there = Counter(asked)
        # Of the words that are there those that are so most seldom: the fewest places to look at.
        present = known.distinct.intersection(there)
        rarest = sorted(present, key=lambda w: (there[w] / known.shares[w], w))[:PLACES]
        found_at = [at for at, word in enumerate(asked) if word in rarest]
        starts = {max(0, start) for at in found_at for start in (at - length + 1, at - length // 2, at)}
        return [asked[start : start + length] for start in sorted(starts)]

    def _in_order(self, known: _Known, stretch: Sequence[str]) -> float:
        from rapidfuzz.distance import LCSseq

        if _share(known, frozenset(stretch)) < self.threshold:
            return 0.0
        kept = LCSseq.opcodes(known.words, stretch)
        same = Counter(w for op in kept if op.tag == "equal" for w in known.words[op.src_start : op.src_end])
        counts = Counter(known.words)
        return min(1.0, sum(known.shares[w] * n / counts[w] for w, n in same.items()))


def _share(known: _Known, there: frozenset[str]) -> float:
    """Weighted share of the prompt's words that are there at all."""
    return sum(map(known.shares.__getitem__, known.distinct & there))


def _spelt_as(wanted: frozenset[str], found: frozenset[str]) -> dict[str, str]:
    """Found words that are a wanted one but for a letter: one too many, too few, another, or two changed about."""
    from rapidfuzz.distance import OSA
    from rapidfuzz.process import extract

    names = [word for word in sorted(wanted) if len(word) >= MIN_MISSPELT and word.isalpha()]
    others = sorted(found)
    near = ((word, extract(word, others, scorer=OSA.distance, score_cutoff=1, limit=None)) for word in names)
    return {other: word for word, hits in near for other, _, _ in hits}
