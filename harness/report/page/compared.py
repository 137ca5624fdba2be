"""The page's comparisons: a matrix of row minus column for each metric, or with many rows a list of pairs."""

from collections.abc import Sequence
from typing import NamedTuple

from harness.boards.board import Board
from harness.boards.catalog import Figures
from harness.figures import Figure
from harness.report.comparisons import by_pair, compared_ids, detectable_difference
from harness.report.page.words import difference_text, interval_text
from harness.stats.paired import Comparison

MOST_IN_MATRIX = 12
"""Rows up to which a matrix is drawn."""


class Pair(NamedTuple):
    """A comparison of two rows. `kind`: up (significantly better), down (worse), unsure; none where there is nothing to
    show."""

    first: str
    second: str
    kind: str
    difference: str
    interval: str
    sort: str
    p: str
    adjusted_p: str


class Compared(NamedTuple):
    """A metric's comparisons. `ids`: the columns of its matrix; empty for a list. `rows`: (row, its cells). `summary`:
    a sentence on all of them."""

    title: str
    is_primary: bool
    ids: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Pair, ...]], ...]
    pairs: tuple[Pair, ...]
    summary: str


def compared(board: Board, primary: Figure | None) -> list[Compared]:
    """The comparisons of each metric, the primary one first."""
    figures = Figures(board.entries)
    order = [*(figure.metric for figure in figures.compared), *board.comparisons]
    metrics = sorted(board.comparisons, key=lambda m: (primary is None or m != primary.metric, order.index(m)))
    return [
        _of_metric(board.comparisons[metric], figures[metric], primary is not None and metric == primary.metric)
        for metric in metrics
    ]


def _of_metric(comparisons: Sequence[Comparison], figure: Figure, is_primary: bool) -> Compared:
    detectable = detectable_difference(comparisons, figure)
    count = sum(c.is_significant for c in comparisons)
    summary = f"{count} of {len(comparisons)} pairs differ significantly{';' + detectable if detectable else ''}."
    title, ids = figure.difference_head, compared_ids(comparisons)
    if len(ids) > MOST_IN_MATRIX:
        return Compared(title, is_primary, (), (), tuple(_pair(c, figure) for c in comparisons), summary)
    pairs = by_pair(comparisons)
    rows = tuple((a, tuple(_cell(a, b, pairs.get((a, b)), figure) for b in ids)) for a in ids)
    return Compared(title, is_primary, tuple(ids), rows, (), summary)


def _cell(first: str, second: str, comparison: Comparison | None, figure: Figure) -> Pair:
    if comparison is None:
        return Pair(first, second, "none", "" if first == second else "–", "", "", "", "")
    return _pair(comparison, figure)


def _pair(comparison: Comparison, figure: Figure) -> Pair:
    difference, decimals = comparison.difference, figure.difference_decimals
    interval = "too few prompts" if comparison.ci95 is None else interval_text(comparison.ci95, decimals)
    better = difference < 0 if figure.higher_is_better is False else difference > 0
    kind = ("up" if better else "down") if comparison.is_significant else "unsure"
    text, sort = difference_text(difference, decimals), repr(difference)
    p, adjusted = f"{comparison.p:.2g}", f"{comparison.adjusted_p:.2g}"
    return Pair(comparison.first, comparison.second, kind, text, interval, sort, p, adjusted)
