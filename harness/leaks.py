"""Is a prompt one of an evaluation set's, perhaps edited? Then what is trained on it has seen the test.

A text is compared as words: Unicode-normalised, lower case, without punctuation. Candidates are the evaluation prompts
of whose rarest words it has one; of each the share of its words that stand in the text in the same order is taken (the
longest common subsequence), every word weighted by how rare it is. So changed case, punctuation, inserted words and a
text around the prompt leave the overlap high, and what two prompts share by being English doesn't.
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
_WORD = re.compile(r"\w+")


class Leak(NamedTuple):
    """A hit: the evaluation set, the id and the text of its prompt, and the overlap in [0, 1]."""

    set: str
    id: str
    text: str
    overlap: float


def words(text: str) -> list[str]:
    """The words of a text as they are compared."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("'", "").replace("’", "")
    return _WORD.findall(folded)


class _Known(NamedTuple):
    set: str
    id: str
    text: str
    words: list[str]
    weight: float


class LeakIndex:
    """Evaluation prompts by set: `{"alpaca_eval": [(id, text), ...], ...}`."""

    def __init__(self, prompts: Mapping[str, Iterable[tuple[str, str]]], threshold: float = THRESHOLD) -> None:
        named = [(name, key, text, words(text)) for name, rows in prompts.items() for key, text in rows]
        named = [row for row in named if row[3]]
        self.threshold = threshold
        appears = Counter(word for *_, text in named for word in set(text))
        self._weights = {word: math.log((len(named) + 1) / (count + 0.5)) for word, count in appears.items()}
        self._known = [_Known(*row, sum(self._weights[w] for w in row[3])) for row in named]
        self._by_word: dict[str, list[int]] = defaultdict(list)
        for place, known in enumerate(self._known):
            # The rarest words find it, whichever of them an edit has changed.
            rarest = sorted(set(known.words), key=lambda w: (-self._weights[w], w))[: max(4, len(known.words) // 4)]
            for word in rarest:
                self._by_word[word].append(place)

    def find(self, text: str) -> Leak | None:
        """The evaluation prompt that a text overlaps most, where it does by the threshold."""
        asked = words(text)
        places: dict[int, list[int]] = defaultdict(list)
        for at, word in enumerate(asked):
            for place in self._by_word.get(word, ()):
                places[place].append(at)
        best: tuple[float, _Known] | None = None
        for place, found_at in sorted(places.items()):
            known = self._known[place]
            overlap = self._overlap(known, asked, found_at)
            if overlap >= self.threshold and (best is None or overlap > best[0]):
                best = (overlap, known)
        return Leak(best[1].set, best[1].id, best[1].text, round(best[0], 4)) if best else None

    def _overlap(self, known: _Known, asked: Sequence[str], found_at: Sequence[int]) -> float:
        """Weighted share of the prompt's words in the text, in order, within one stretch of it."""
        from rapidfuzz.distance import LCSseq

        length = math.ceil(WINDOW * len(known.words)) + 1
        starts = {0} if len(asked) <= length else {max(0, at - length // 2) for at in found_at}
        starts |= set() if len(asked) <= length else {max(0, at - length + 1) for at in found_at} | set(found_at)
        best = 0.0
        for start in sorted(starts):
            stretch = list(asked[start : start + length])
            kept = LCSseq.opcodes(known.words, stretch)
            same = [known.words[i] for op in kept if op.tag == "equal" for i in range(op.src_start, op.src_end)]
            best = max(best, sum(self._weights[w] for w in same) / known.weight)
        return best
