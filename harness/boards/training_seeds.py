"""A method's figures over its training seeds, from its rows (one row per seed)."""

from collections.abc import Iterable, Sequence

from harness.boards.entry import Entry, comparable
from harness.boards.format import number
from harness.stats.intervals import spread
from harness.types import Record, Spread

OVER_SEEDS = (
    "Mean over training seeds ± standard deviation between them: how a figure changes with the order of the data and "
    "the initialisation, on the same data. The intervals of single rows do not cover this: they are about the prompts "
    "that one checkpoint was measured on."
)


class SeedGroup(Record):
    """A method's rows, one per training seed, and its figures over them: mean and spread by metric name."""

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
    """One group per method with training seeds, in order of first appearance. All `rows` must belong to one table:
    figures by different judges or on different prompts must not be averaged."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for row in rows:
        method, seed = row.provenance.method_id, row.provenance.training_seed
        if method is not None and seed is not None:
            groups.setdefault((method, row.method), []).append(row)
    return [_group(method, loss, trained) for (method, loss), trained in groups.items()]


def all_seed_groups(entries: Sequence[Entry]) -> list[SeedGroup]:
    """The seed groups of all tables of a board."""
    return [group for rows in comparable(entries) for group in seed_groups(rows)]


def _group(method: str, loss: str, rows: Sequence[Entry]) -> SeedGroup:
    names = dict.fromkeys(name for row in rows for name in row.metrics)
    values = {name: [row.value(name) for row in rows] for name in names}
    return SeedGroup(
        method_id=method,
        method=loss,
        seeds=tuple(row.provenance.training_seed or 0 for row in rows),
        rows=tuple(row.id for row in rows),
        metrics={name: spread(by_seed) for name, by_seed in values.items()},
    )


def spread_figure(spread: Spread, decimals: int) -> str:
    """`53.1 ± 1.2`; without the deviation where there is none; where only some seeds have a value, with their count."""
    if spread.mean is None:
        return f"in none of {spread.n_invalid}"
    shown = number(spread.mean, decimals)
    if spread.sd is not None:
        shown += f" ± {number(spread.sd, decimals)}"
    return f"{shown} (in {spread.n} of {spread.n + spread.n_invalid})" if spread.n_invalid else shown
