"""A board's comparisons as its file has them, if they follow from its rows' outcomes; else computed anew.

To compute all comparisons takes numpy and seconds on a large board. To see that stored ones are right takes neither:
differences, standard errors and counts are computed again, what was drawn at random must be what can be drawn.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from harness.boards.catalog import Figures
from harness.boards.consistency import percentile
from harness.boards.entry import Entry, comparable
from harness.boards.outcomes import figure_values, has_resamples, paired_comparisons
from harness.figures import Figure
from harness.stats.paired import Comparison, detectable, holm, prompt_of
from harness.stats.plausible import bootstrap_ends, sign_flip_range

MOST_WITH_ALL_PAIRS = 20
"""Rows up to which `board.json` holds all pairs; `comparisons.csv` always does."""

LARGEST_CHECK = 50_000
"""Comparisons times prompts up to which a check is faster than computing all pairs of up to MOST_WITH_ALL_PAIRS rows,
numpy's import included."""

Comparisons = Mapping[str, Sequence[Comparison]]


def comparisons_of(entries: Sequence[Entry], stored: Comparisons) -> dict[str, tuple[Comparison, ...]]:
    """The comparisons of these rows, by metric: `stored`, or computed from the outcomes where those don't follow from
    them. None for rows without outcomes."""
    if not any(entry.outcomes for entry in entries):
        return {}
    prompts = max(len(outcomes) for entry in entries for outcomes in entry.outcomes.values())
    work = prompts * sum(len(comparisons) for comparisons in stored.values())
    if (len(entries) > MOST_WITH_ALL_PAIRS or work <= LARGEST_CHECK) and _are_stored(entries, stored):
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
                for e in rows
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
        if self.figure.pairing is not None and self.figure.pairing.kind == "resamples":
            return self._is_right_by_resamples(c)
        first, second = self._of(c.first), self._of(c.second)
        shared = [(k, x, y) for k, x in first.items() if x is not None and (y := second.get(k)) is not None]
        by_prompt: dict[str, list[tuple[float, float]]] = {}
        for key, x, y in shared:
            by_prompt.setdefault(prompt_of(key), []).append((x, y))
        total, n = len(shared), len(by_prompt)
        answered = {prompt_of(key) for key in (*first, *second)}
        means = [fmean(x for _, x, _ in shared), fmean(y for _, _, y in shared)]
        differences = [(math.fsum(x - y for x, y in values), len(values)) for values in by_prompt.values()]
        difference = means[0] - means[1]
        residuals = [[math.fsum(v[s] for v in vs) - len(vs) * means[s] for vs in by_prompt.values()] for s in (0, 1)]
        one, other = (math.fsum(r * r for r in of_row) for of_row in residuals)
        both = math.fsum((x - y) ** 2 for x, y in zip(*residuals, strict=True))
        stderr, unpaired = (math.sqrt(n / (n - 1) * squares) / total for squares in (both, one + other))
        if (c.prompts, c.left_out) != (n, len(answered) - n):
            return False
        if not _same((c.difference, c.stderr, c.unpaired_stderr), (difference, stderr, unpaired)):
            return False
        if not _same((c.detectable,), (detectable(stderr, n),)):
            return False
        low, high = sign_flip_range([sum_ / total for sum_, _ in differences], stderr)
        ends = bootstrap_ends(differences)
        slack = 1e-9 * max(1.0, abs(difference))
        return low <= c.p <= high and all(
            least - slack <= x <= most + slack for x, (least, most) in zip(c.ci95, ends, strict=True)
        )

    def _of(self, row: str) -> dict[str, float | None]:
        if row not in self._values:
            self._values[row] = figure_values(self.rows[row], self.figure)
        return self._values[row]

    def _is_right_by_resamples(self, c: Comparison) -> bool:
        one, other = (self.rows[name].resamples[self.figure.metric] for name in (c.first, c.second))
        differences = sorted(x - y for x, y in zip(one, other, strict=True))
        first, second = (self.rows[name].value(self.figure.metric) or 0.0 for name in (c.first, c.second))
        difference, stderr = first - second, stdev(differences)
        n = len(self.rows[c.first].outcomes[self.figure.benchmark])
        p = math.erfc(abs(difference) / stderr / math.sqrt(2)) if stderr > 0 else float(difference == 0)
        computed = (
            *(difference, stderr, math.hypot(stdev(one), stdev(other)), detectable(stderr, n), p),
            *(percentile(differences, share) for share in (0.025, 0.975)),
        )
        written = (c.difference, c.stderr, c.unpaired_stderr, c.detectable, c.p, *c.ci95)
        return (c.prompts, c.left_out) == (n, 0) and _same(written, computed)


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
