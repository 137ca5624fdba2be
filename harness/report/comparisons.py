"""Paired comparisons of a board's rows: the matrices of `board.md`, the lists of `board.json`, and their summaries."""

from collections.abc import Iterable, Sequence
from typing import Any

from harness.boards.board import Board
from harness.boards.catalog import Figures
from harness.boards.comparisons import MOST_WITH_ALL_PAIRS
from harness.boards.entry import Entry
from harness.boards.format import bounds, number, signed
from harness.boards.outcomes import elo, paired_comparisons
from harness.figures import Figure
from harness.report.markup import escape_markdown, table
from harness.stats.paired import Comparison

MOST_IN_MATRIX = 8
"""Rows up to which a matrix is drawn; with more, each row is compared with the first (the base) and with the best."""
HOW_COMPARED = (
    "Row minus column, paired by prompt, with its 95 % CI. **Bold**: significant at the 5 % level, with Holm's "
    "correction over all pairs of the metric. These pairs are exploratory: the run's primary comparisons stand first. "
    "Length-controlled rates are compared by their bootstrap, with the regression refitted in each resample."
)


class Compared:
    """All comparisons of a board, computed once. `by_metric`: see `harness.boards.outcomes.paired_comparisons`."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.figures = Figures(entries)
        self.by_metric = paired_comparisons(entries)
        self.elo = elo(entries)

    def listed(self, metric: str) -> list[Comparison]:
        """With few rows all pairs; with many, each row against the first one and against the best one."""
        comparisons = self.by_metric[metric]
        ids = compared_ids(comparisons)
        if len(ids) <= MOST_WITH_ALL_PAIRS:
            return comparisons
        value = {e.id: e.value(metric) or 0.0 for e in self.entries if e.id in set(ids)}
        best = min if self.figures[metric].higher_is_better is False else max
        ends = {ids[0], best(ids, key=lambda i: value[i])}
        return [c for c in comparisons if c.first in ends or c.second in ends]

    def json(self) -> dict[str, list[dict[str, Any]]]:
        """The comparisons in `board.json`, by metric."""
        return {metric: [c.model_dump(mode="json") for c in self.listed(metric)] for metric in self.by_metric}

    def sections(self) -> list[str]:
        """The comparisons in `board.md`: per metric a table, the detectable difference, and Elo ratings."""
        if not self.by_metric:
            return []
        parts = ["## Rows compared", HOW_COMPARED]
        for metric in self.by_metric:
            parts += [
                f"### {self.figures[metric].difference_head}",
                self._table(metric),
                _power_note(self.by_metric[metric], self.figures[metric]),
                *self._elo(metric),
            ]
        return parts

    def _elo(self, metric: str) -> list[str]:
        """Elo ratings, best first; empty where none were fitted."""
        strengths = sorted(self.elo.get(metric, {}).items(), key=lambda row: -row[1].elo)
        ratings = [f"{escape_markdown(i)} {s.elo:.0f} [{s.ci95[0]:.0f}, {s.ci95[1]:.0f}]" for i, s in strengths]
        head = "Elo, from who did better on each prompt, small differences in part (Bradley-Terry; mean 1000): "
        return [head + ", ".join(ratings) + "."] if ratings else []

    def _table(self, metric: str) -> str:
        """A matrix of row minus column; with many rows, a list of pairs."""
        comparisons = self.by_metric[metric]
        ids = compared_ids(comparisons)
        decimals = self.figures[metric].difference_decimals
        if len(ids) <= MOST_IN_MATRIX:
            cells = {pair: _cell(c, decimals) for pair, c in by_pair(comparisons).items()}
            heads = ["row", *(escape_markdown(i) for i in ids[:-1])]
            lines = [[escape_markdown(a), *(cells.get((a, b), "") for b in ids[:-1])] for a in ids[1:]]
            return table(heads, lines, left=1)
        heads = ["row", "against", "difference", "p", "after Holm"]
        lines = [
            [
                escape_markdown(c.first),
                escape_markdown(c.second),
                _cell(c, decimals),
                f"{c.p:.3g}",
                f"{c.adjusted_p:.3g}",
            ]
            for c in self.listed(metric)
        ]
        return table(heads, lines, left=2)


def compared_ids(comparisons: Iterable[Comparison]) -> list[str]:
    """Ids of the compared rows, in order of first appearance."""
    return list(dict.fromkeys(name for c in comparisons for name in (c.first, c.second)))


def by_pair(comparisons: Iterable[Comparison]) -> dict[tuple[str, str], Comparison]:
    """(row, other row) -> row minus other row; each pair in both directions."""
    pairs = {}
    for c in comparisons:
        pairs[c.first, c.second] = c
        turned = None if c.ci95 is None else (-c.ci95[1], -c.ci95[0])
        flipped = {"difference": -c.difference, "ci95": turned}
        pairs[c.second, c.first] = c.model_copy(update={"first": c.second, "second": c.first, **flipped})
    return pairs


def _cell(c: Comparison, decimals: int) -> str:
    if c.ci95 is None:
        return f"{signed(c.difference, decimals)} (too few)"
    low, high = bounds(c.ci95, decimals)
    text = f"{signed(c.difference, decimals)} [{low}, {high}]"
    return f"**{text}**" if c.is_significant else text


def _power_note(comparisons: Sequence[Comparison], figure: Figure) -> str:
    """The detectable difference, how much pairing reduced the standard errors, and how many prompts are left out."""
    prompts = sorted({c.prompts for c in comparisons})
    n = f"{prompts[0]:,}" if len(prompts) == 1 else f"{prompts[0]:,} to {prompts[-1]:,}"
    parts = [f"On {n} prompts{detectable_difference(comparisons, figure) or ' all pairs differ by a constant'}."]
    ratios = sorted(c.stderr / c.unpaired_stderr for c in comparisons if c.unpaired_stderr > 0)
    if ratios:
        median = ratios[len(ratios) // 2]
        parts.append(f"Standard errors of the differences are {median:.2f} times the unpaired ones (median).")
    if left := max(c.left_out for c in comparisons):
        parts.append(f"Up to {left:,} prompts are not scored in both rows of a pair and are left out.")
    return " ".join(parts)


def detectable_difference(comparisons: Sequence[Comparison], figure: Figure) -> str:
    """` minimum detectable effect 1.5 to 4.4 at 80 % power`; empty where no pair's differences vary."""
    # Rows that differ by a constant have no standard error, and so no detectable difference.
    detectable = sorted(c.detectable for c in comparisons if c.stderr > 0)
    if not detectable:
        return ""
    span = dict.fromkeys(number(x, figure.difference_decimals) for x in (detectable[0], detectable[-1]))
    return f" the minimum detectable effect at 80 % power is {' to '.join(span)} (each test by itself)"


def significant_differences(board: Board) -> list[str]:
    """One line per metric: how many of the pairs differ, and which difference could have been detected."""
    lines, figures = [], Figures(board.entries)
    for metric, comparisons in board.comparisons.items():
        figure, count = figures[metric], sum(c.is_significant for c in comparisons)
        detectable = detectable_difference(comparisons, figure) or " each difference is the same on every prompt"
        differ = "pair of rows differs" if len(comparisons) == 1 else "pairs of rows differ"
        lines.append(
            f"{figure.difference_head}: {count} of {len(comparisons)} {differ} significantly "
            f"(paired, 5 % level, Holm);{detectable}."
        )
    return lines
