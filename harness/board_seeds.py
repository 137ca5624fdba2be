"""Figures of a method over its training seeds, from the rows that it was trained into."""

from collections.abc import Iterable, Sequence

from harness import stats
from harness.board_rows import Entry, comparable, number
from harness.types import Record, Spread

OVER_SEEDS = (
    "Mean over training seeds ± standard deviation between them: what another order of the data and another "
    "initialisation do to a figure, on the same data. The intervals of single rows say nothing of it: they are about "
    "the prompts that one checkpoint was measured on."
)


class SeedGroup(Record):
    """A method's rows, one a training seed, and its figures over them: mean and spread by the metric's name."""

    method_id: str
    method: str
    seeds: tuple[int, ...]
    rows: tuple[str, ...]
    metrics: dict[str, Spread]

    @property
    def seeds_text(self) -> str:
        """`0, 1, 2 (n=3)`."""
        return f"{', '.join(map(str, self.seeds))} (n={len(self.seeds)})"


def seed_groups(rows: Iterable[Entry]) -> list[SeedGroup]:
    """One group a method that has training seeds, in order of first appearance. `rows` are of one table: figures of
    other judges or prompts must not be averaged."""
    found: dict[tuple[str, str], list[Entry]] = {}
    for row in rows:
        method, seed = row.provenance.get("method_id"), row.provenance.get("training_seed")
        if isinstance(method, str) and isinstance(seed, int):
            found.setdefault((method, row.method), []).append(row)
    return [_group(method, loss, trained) for (method, loss), trained in found.items()]


def all_seed_groups(entries: Sequence[Entry]) -> list[SeedGroup]:
    """Those of every table of a board."""
    return [group for rows in comparable(entries) for group in seed_groups(rows)]


def _group(method: str, loss: str, rows: Sequence[Entry]) -> SeedGroup:
    names = dict.fromkeys(name for row in rows for name in row.metrics)
    values = {name: [row.metrics[name].value if name in row.metrics else None for row in rows] for name in names}
    return SeedGroup(
        method_id=method,
        method=loss,
        seeds=tuple(row.provenance["training_seed"] for row in rows),
        rows=tuple(row.id for row in rows),
        metrics={name: stats.spread(found) for name, found in values.items()},
    )


def spread_figure(spread: Spread, decimals: int) -> str:
    """`53.1 ± 1.2`; without the deviation where there is none; what some trainings don't have is counted."""
    if spread.mean is None:
        return f"in none of {spread.n_invalid}"
    shown = number(spread.mean, decimals)
    if spread.sd is not None:
        shown += f" ± {number(spread.sd, decimals)}"
    return f"{shown} (in {spread.n} of {spread.n + spread.n_invalid})" if spread.n_invalid else shown
