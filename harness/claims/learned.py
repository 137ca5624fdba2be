"""Whether training has taught policies to order held-out pairs better than chance. The base is no opponent there: by
definition it orders half of them."""

from collections.abc import Sequence

from harness.boards.entry import Entry
from harness.boards.format import number

_ACCURACY = "heldout.pair_accuracy"
_TOLD = 4
"""Methods that are told one by one."""


def learned_words(rows: Sequence[Entry]) -> list[str]:
    """A sentence on the held-out pairs that each method orders, against chance; none where none does, or too many."""
    by_method: dict[str, list[Entry]] = {}
    for row in rows:
        if row.provenance.method_id is not None and row.value(_ACCURACY) is not None:
            by_method.setdefault(row.provenance.method_id, []).append(row)
    if not 0 < len(by_method) <= _TOLD:
        return []
    told = "; ".join(f"{method} {_against_chance(trained)}" for method, trained in by_method.items())
    return [f"Held-out pairs in the right order, of which chance and the base have 50 %: {told}."]


def _against_chance(rows: Sequence[Entry]) -> str:
    """`58.3 % (95 % CI 27.7 to 84.8), not significant`; of several rows their range."""
    values = sorted(100 * value for row in rows if (value := row.value(_ACCURACY)) is not None)
    intervals = [ends for row in rows if (ends := row.metrics[_ACCURACY].ci95)]
    more, fewer = sum(low > 0.5 for low, _ in intervals), sum(high < 0.5 for _, high in intervals)
    if len(rows) > 1:
        shares = f"{number(values[0], 1)} to {number(values[-1], 1)} % in {len(rows)} rows"
        found = [f"{n} significantly {word}" for n, word in ((more, "more"), (fewer, "fewer")) if n]
        return f"{shares}, {' and '.join(found) or 'none significantly more'}"
    if not intervals:
        return f"{number(values[0], 1)} %, too few to tell"
    low, high = (number(100 * end, 1) for end in intervals[0])
    word = "significantly more" if more else "significantly fewer" if fewer else "not significant"
    return f"{number(values[0], 1)} % (95 % CI {low} to {high}), {word}"
