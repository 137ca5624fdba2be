"""What a set of pairs holds, and what its reader should know before training on it."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.data.pairs import Columns
from harness.data.rankings import layout_of
from harness.data.read import read_pairs
from harness.data.rows import file_rows
from harness.errors import DataError
from harness.printable import printable
from harness.types import PreferencePair

ENOUGH = 20
"""Pairs from which on a share says anything."""
NEARLY_ALWAYS = 0.9
FEW = 50
"""Pairs up to which the figures on held-out prompts say little."""
_COMPARED = 500
_ALIKE = 95.0
"""Percent of characters in common from which on two answers are nearly the same."""
_SHOWN = 4
_MISSING = re.compile(r"\s*(nan|none|null|n/a|#n/a|<na>)\s*", re.IGNORECASE)
_MAY_CHANGE_THE_PROMPT = re.compile(
    r"context|document|passage|system|image|audio|video|file|attach|persona|history|tool", re.IGNORECASE
)
"""Names of columns that a prompt may need."""


class Survey(NamedTuple):
    """`pairs`: how many are read. `longer`: the share whose chosen answer is the longer one. `alike`: the share whose
    answers are nearly the same, of the first 500. `warnings`: whole sentences."""

    pairs: int
    longer: float
    alike: float
    warnings: list[str]


def survey(pairs: Sequence[PreferencePair], same_text: int, ignored: Iterable[str] = ()) -> Survey:
    """What to know of a set of at least one pair. `same_text`: rows that were left out because their answers are
    equal. `ignored`: columns that aren't read."""
    from rapidfuzz import fuzz

    longer = sum(len(p.chosen) > len(p.rejected) for p in pairs) / len(pairs)
    shorter = sum(len(p.chosen) < len(p.rejected) for p in pairs) / len(pairs)
    compared = pairs[:_COMPARED]
    alike = sum(fuzz.ratio(p.chosen, p.rejected) >= _ALIKE for p in compared) / len(compared)
    warnings = []
    if len(pairs) >= ENOUGH and longer >= NEARLY_ALWAYS:
        warnings.append(
            f"the chosen answer is the longer one in {longer:.0%} of the pairs: a policy may learn nothing but length"
        )
    if len(pairs) >= ENOUGH and shorter >= NEARLY_ALWAYS:
        warnings.append(
            f"the chosen answer is the shorter one in {shorter:.0%} of the pairs: a policy may learn nothing but "
            "brevity; are chosen and rejected the right way round?"
        )
    if same_text >= len(pairs) / 4:
        rows = len(pairs) + same_text
        warnings.append(f"in {same_text} of {rows} rows the two answers are equal: few say which answer is better")
    if len(compared) >= ENOUGH and alike >= 0.5:
        warnings.append(f"in {alike:.0%} of the pairs the answers are nearly the same: they differ in few characters")
    texts = {text for pair in compared for text in (pair.chosen, pair.rejected)}
    if len(compared) >= ENOUGH and len(texts) <= len(compared) / 4:
        warnings.append(f"{len(texts)} different answers in {len(compared)} pairs: are these names or labels?")
    if missing := sum(any(map(_MISSING.fullmatch, (p.messages[-1].content, p.chosen, p.rejected))) for p in pairs):
        warnings.append(f"in {missing} of the pairs a text is nan, None or the like: is a value missing there?")
    if columns := [name for name in ignored if _MAY_CHANGE_THE_PROMPT.search(name)]:
        named = printable(", ".join(columns[:_SHOWN]), 200)
        warnings.append(f"{named}: not read; if the answers depend on it, put its text into the prompt")
    if len(pairs) < FEW:
        warnings.append(f"{len(pairs)} pairs are few: figures on the held-out ones will have wide intervals")
    return Survey(len(pairs), longer, alike, warnings)


def ranks(path: Path) -> bool:
    """Whether the first row of a file ranks responses instead of holding a pair. Raises DataError."""
    first = next(iter(file_rows([path])), None)
    return first is not None and "chosen" not in first[1] and layout_of(first[1]) is not None


def unreadable(path: Path, columns: Columns | None) -> DataError | None:
    """The error for a file with rows that can't be read: the first ones, and how many there are; None if there are
    none. Raises DataError for what isn't one row's."""
    errors: list[str] = []
    try:
        loaded = read_pairs(file_rows([path]), str(path), path.stem, columns=columns, strict=False, errors=errors)
    except DataError:
        if len(errors) < 2:
            raise
        loaded = None
    if not errors:
        return None
    places = [error.partition(": ")[0].removeprefix(str(path)).lstrip(":, ") for error in errors[1:_SHOWN]]
    more = f"; nor can {len(errors) - 1} more" if len(errors) > 1 else ""
    where = f" ({', '.join(places)}{', …' * (len(errors) > _SHOWN)})" if places else ""
    kept = f"; {len(loaded.pairs)} pairs can" if loaded else ""
    return DataError(f"{errors[0]}{more}{where}{kept}; correct these rows or remove them")
