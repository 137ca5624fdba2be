"""A board's comparisons as its file has them, if they follow from its rows' outcomes; else computed anew.

To compute all comparisons of a large board takes seconds; its file lists only some, and those are computed again.
"""

import math
from collections.abc import Mapping, Sequence

from harness.boards.catalog import Figures
from harness.boards.entry import Entry, comparable
from harness.boards.outcomes import able_rows, figure_values, has_resamples, pair_compared, paired_comparisons
from harness.figures import Figure
from harness.stats.paired import Comparison, holm, prompt_of

MOST_WITH_ALL_PAIRS = 20
"""Rows up to which `board.json` holds all pairs; `comparisons.csv` always does."""

Comparisons = Mapping[str, Sequence[Comparison]]


def comparisons_of(entries: Sequence[Entry], stored: Comparisons) -> dict[str, tuple[Comparison, ...]]:
    """The comparisons of these rows, by metric: `stored`, or computed from the outcomes where those don't follow from
    them. None for rows without outcomes."""
    if not any(entry.outcomes for entry in entries):
        return {}
    if len(entries) > MOST_WITH_ALL_PAIRS and _are_stored(entries, stored):
        return {metric: tuple(comparisons) for metric, comparisons in stored.items()}
    return {metric: tuple(comparisons) for metric, comparisons in paired_comparisons(entries).items()}


def _are_stored(entries: Sequence[Entry], stored: Comparisons) -> bool:
    """Whether stored comparisons are complete and right."""
    rows = {entry.id: entry for entry in entries}
    tables = comparable(entries)
    expected = {m: pairs for m, f in _compared(tables).items() if (pairs := _pairs(tables, f))}
    if {m for m, pairs in expected.items() if any(pairs)} != stored.keys():
        return False
    for metric, comparisons in stored.items():
        figure, tables_pairs = _compared(tables)[metric], expected[metric]
        listed = [(c.first, c.second) for c in comparisons]
        complete = [pair for of_table in tables_pairs for pair in of_table]
        if len(set(listed)) != len(listed) or not set(listed) <= set(complete):
            return False
        if len({name for pair in complete for name in pair}) <= MOST_WITH_ALL_PAIRS and len(listed) != len(complete):
            return False
        check = _Check(figure, rows)
        if not all(check.is_right(c) for c in comparisons) or not _is_adjusted(comparisons, tables_pairs):
            return False
    return True


def _compared(tables: Sequence[Sequence[Entry]]) -> dict[str, Figure]:
    return {figure.metric: figure for rows in tables for figure in Figures(rows).compared}


def _pairs(tables: Sequence[Sequence[Entry]], figure: Figure) -> list[list[tuple[str, str]]]:
    """The pairs of rows of each table that can be compared by a figure."""
    result = []
    for rows in tables:
        if figure.pairing is not None and figure.pairing.kind == "resamples":
            able = [(e.id, frozenset(e.outcomes[figure.benchmark])) for e in rows if has_resamples(e, figure)]
            sizes = {e.id: len(e.resamples.get(figure.metric, ())) for e in rows}
            fit = [
                (a, b)
                for i, (a, ours) in enumerate(able)
                for b, theirs in able[i + 1 :]
                if ours == theirs and sizes[a] == sizes[b]
            ]
        else:
            scored = [
                (e.id, {k for k, v in values.items() if v is not None})
                for e in able_rows(rows, figure)
                if (values := figure_values(e, figure))
            ]
            fit = [
                (a, b)
                for i, (a, ours) in enumerate(scored)
                for b, theirs in scored[i + 1 :]
                if len({prompt_of(key) for key in ours & theirs}) > 1
            ]
        result.append(fit)
    return result


class _Check:
    """Checks comparisons by one figure; each row's values are computed once."""

    def __init__(self, figure: Figure, rows: Mapping[str, Entry]) -> None:
        self.figure, self.rows = figure, rows
        self._values: dict[str, dict[str, float | None]] = {}

    def is_right(self, c: Comparison) -> bool:
        computed = pair_compared(self.rows[c.first], self.rows[c.second], self.figure, self._of)
        if computed is None or (c.prompts, c.left_out) != (computed.prompts, computed.left_out):
            return False
        if (c.ci95 is None) != (computed.ci95 is None):
            return False
        written, right = (
            (x.difference, x.stderr, x.unpaired_stderr, x.detectable, x.p, *(x.ci95 or ())) for x in (c, computed)
        )
        return _same(written, right)

    def _of(self, row: Entry) -> dict[str, float | None]:
        if row.id not in self._values:
            self._values[row.id] = figure_values(row, self.figure)
        return self._values[row.id]


def _is_adjusted(comparisons: Sequence[Comparison], tables: Sequence[Sequence[tuple[str, str]]]) -> bool:
    """Whether p values are adjusted by Holm's method within each table. Where only some of the pairs are listed, they
    are at least in the order of the p values, and within its bounds."""
    by_pair = {(c.first, c.second): c for c in comparisons}
    for pairs in tables:
        listed = [by_pair[pair] for pair in pairs if pair in by_pair]
        if len(listed) == len(pairs):
            if not _same([c.adjusted_p for c in listed], holm([c.p for c in listed])):
                return False
            continue
        ordered = sorted(listed, key=lambda c: (c.p, c.adjusted_p))
        most = [min(1.0, len(pairs) * c.p) for c in ordered]
        adjusted = [c.adjusted_p for c in ordered]
        if adjusted != sorted(adjusted) or any(
            not c.p - 1e-12 <= c.adjusted_p <= bound + 1e-12 for c, bound in zip(ordered, most, strict=True)
        ):
            return False
    return True


def _same(written: Sequence[float], computed: Sequence[float]) -> bool:
    return all(math.isclose(x, y, rel_tol=1e-6, abs_tol=1e-9) for x, y in zip(written, computed, strict=True))
