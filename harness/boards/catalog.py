"""The catalog of figures for a board's rows: those their benchmarks declare, in the order of the tables."""

from collections.abc import Iterable, Sequence
from functools import cached_property

from harness.boards.entry import BoardRow, Entry
from harness.components import benchmark_class, ships_with_harness
from harness.figures import HELDOUT, HELDOUT_FIGURES, Figure


class Figures:
    """Declared figures, ordered by benchmark title; then those on held-out pairs; then undeclared metrics, by name.

    An entry carries the declarations of its benchmarks, so that it can be read where they are not installed. Benchmarks
    of this package are asked themselves, whatever an entry says of them; so are others for entries without any."""

    def __init__(self, rows: Iterable[BoardRow]) -> None:
        declared: dict[str, Figure] = {}
        metrics: set[str] = set()
        for row in rows:
            carried = row.figures if isinstance(row, Entry) else ()
            figures = {figure.metric: figure for figure in carried}
            for name in dict.fromkeys(metric.split(".")[0] for metric in row.metrics):
                if name == HELDOUT:
                    continue
                if ships_with_harness("benchmark", name) or not any(figure.benchmark == name for figure in carried):
                    installed = benchmark_class(name).figures_of(row.provenance.benchmark(name))
                    figures |= {figure.metric: figure for figure in installed}
            declared = figures | declared
            metrics |= row.metrics.keys()
        declared = {m: f for m, f in declared.items() if f.benchmark != HELDOUT}
        # The sort is stable: figures of one benchmark stay in the order of their declaration.
        ordered = sorted(declared.values(), key=lambda figure: figure.group.casefold())
        by_metric = {figure.metric: figure for figure in (*ordered, *HELDOUT_FIGURES)}
        undeclared = {name: _undeclared(name) for name in sorted(metrics - by_metric.keys())}
        self._by_metric = by_metric | undeclared

    def __getitem__(self, metric: str) -> Figure:
        """The figure with this metric name. Raises KeyError."""
        return self._by_metric[metric]

    def get(self, metric: str) -> Figure | None:
        """The figure with this metric name, or None."""
        return self._by_metric.get(metric)

    @cached_property
    def all(self) -> tuple[Figure, ...]:
        """Figures of the board's table, then those by category, then the details."""
        return (*self.board, *self.categories, *self.details)

    @cached_property
    def board(self) -> tuple[Figure, ...]:
        """Figures of the board's main table."""
        return self._at("board")

    @cached_property
    def categories(self) -> tuple[Figure, ...]:
        """Figures of the tables by category."""
        return self._at("category")

    @cached_property
    def details(self) -> tuple[Figure, ...]:
        """Further figures, shown below the main tables."""
        return self._at("details")

    @cached_property
    def compared(self) -> tuple[Figure, ...]:
        """Figures by which each pair of rows is compared."""
        return tuple(figure for figure in self._by_metric.values() if figure.compared)

    @cached_property
    def headlines(self) -> tuple[Figure, ...]:
        """The compared figures that come from a benchmark, not from held-out pairs."""
        return tuple(figure for figure in self.compared if figure.benchmark != HELDOUT)

    @cached_property
    def gated(self) -> tuple[Figure, ...]:
        """Figures that a gate can test."""
        figures = self._by_metric.values()
        return tuple(f for f in figures if f.pairing is not None and f.higher_is_better is not None)

    def _at(self, place: str) -> tuple[Figure, ...]:
        return tuple(figure for figure in self._by_metric.values() if figure.place == place)


def _undeclared(metric: str) -> Figure:
    return Figure(metric=metric, group="", title=metric, decimals=4, higher_is_better=None, place="details")


def present(figures: Iterable[Figure], rows: Sequence[BoardRow]) -> list[Figure]:
    """The figures that at least one row has; the order is kept."""
    return [figure for figure in figures if any(figure.metric in row.metrics for row in rows)]


def by_group(figures: Iterable[Figure]) -> dict[str, list[Figure]]:
    """Figures by their group heading, in order of first appearance."""
    groups: dict[str, list[Figure]] = {}
    for figure in figures:
        groups.setdefault(figure.group, []).append(figure)
    return groups
