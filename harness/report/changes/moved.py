"""Which rows moved from one board to another: paired tests over the prompts that both were judged on."""

from collections.abc import Sequence
from typing import NamedTuple

from harness.boards.catalog import Figures
from harness.boards.entry import Entry
from harness.boards.outcomes import able_rows, figure_values, has_resamples, pair_compared
from harness.boards.versions.measured import measured_differently
from harness.figures import Figure
from harness.stats.paired import Comparison, holm


class Pair(NamedTuple):
    """A row on both boards. `same`: nothing that decides its figures has changed."""

    old: Entry
    new: Entry
    same: bool

    @property
    def name(self) -> str:
        """Its id; both where it was renamed."""
        return self.new.id if self.old.id == self.new.id else f"{self.old.id} → {self.new.id}"


class Move(NamedTuple):
    """A row's figure before and now. `comparison`: now minus before, with Holm's correction over the rows."""

    row: str
    before: float | None
    now: float | None
    comparison: Comparison


class FigureMoves(NamedTuple):
    """The rows that were compared by a figure, and (why not, rows) for those that can't be."""

    figure: Figure
    moves: tuple[Move, ...]
    apart: tuple[tuple[str, tuple[str, ...]], ...]


def moves(pairs: Sequence[Pair]) -> list[FigureMoves]:
    """For each figure that boards compare rows by, the rows that are not the same on both boards, tested."""
    changed = [pair for pair in pairs if not pair.same]
    found = []
    for figure in Figures([row for pair in changed for row in (pair.old, pair.new)]).compared:
        tested, apart = [], dict[str, list[str]]()
        for pair in changed:
            compared = _compared(pair, figure)
            if isinstance(compared, str):
                apart.setdefault(compared, []).append(pair.name)
            elif compared is not None:
                tested.append((pair, compared))
        adjusted = holm([comparison.p for _, comparison in tested])
        told = tuple(
            Move(
                pair.name,
                pair.old.value(figure.metric),
                pair.new.value(figure.metric),
                comparison.model_copy(update={"adjusted_p": p}),
            )
            for (pair, comparison), p in zip(tested, adjusted, strict=True)
        )
        if told or apart:
            found.append(FigureMoves(figure, told, tuple((reason, tuple(rows)) for reason, rows in apart.items())))
    return found


def _compared(pair: Pair, figure: Figure) -> Comparison | str | None:
    """Now minus before; a text that says why they can't be compared; None where neither has the figure, or it is a
    constant on both boards."""
    there = [figure.metric in row.metrics for row in (pair.old, pair.new)]
    if not any(there):
        return None
    if not all(there):
        return f"only the {'later' if there[1] else 'earlier'} board has {figure.group} {figure.title}"
    if len(able_rows([pair.old, pair.new], figure)) < 2:
        return None  # an untrained policy on held-out pairs
    if reason := measured_differently(pair.new, pair.old, figure.benchmark):
        return reason
    resampled = figure.pairing is not None and figure.pairing.kind == "resamples"
    if resampled and not all(has_resamples(row, figure) for row in (pair.old, pair.new)):
        return "it could not be computed on both boards"
    # Two ids: a comparison is of two rows, and these may have one name.
    now, before = (row.model_copy(update={"id": name}) for row, name in ((pair.new, "now"), (pair.old, "before")))
    found = pair_compared(now, before, figure, lambda row: figure_values(row, figure))
    return found or "they share too few prompts"
