"""Differences between methods, and between the values of a sweep's axes, with seeds and prompts both random.

Pairs of rows that differ in one setting only are pooled: outcomes are averaged per prompt over the pairs of a seed.
With several training seeds, seeds and prompts are crossed (`harness.stats.crossed`), and the difference is one of
methods. With one, it is one of checkpoints: only the prompts vary, and nothing is tried about the methods.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from statistics import fmean
from typing import NamedTuple

from harness.boards.catalog import Figures
from harness.boards.entry import Entry
from harness.boards.facts import loss_facts
from harness.boards.provenance import TrainingFacts
from harness.claims.cells import METHOD, RowPair, SweepAxis, cell_rows, row_pairs
from harness.claims.pooling import pooled
from harness.figures import Figure
from harness.stats.bounds import FEWEST, Mean
from harness.stats.crossed import Crossed
from harness.stats.paired import ALPHA, detectable, holm
from harness.stats.power import Design, Parts
from harness.stats.power import detectable as detectable_by_methods

MATCHED_WITHIN = 0.02
"""Budgets whose ratio is within this distance of one are matched."""
SAME_LOSS_AT = 2
"""Responses a prompt at which Multi-DPO is DPO: such a cell says nothing about the two."""


class Effect:
    """A value against another, by one metric, pooled over pairs of rows. `estimate`: with one seed a mean over prompts,
    else crossed over seeds and prompts. `rows`: the pairs, each the row with the value first."""

    def __init__(
        self,
        value: str,
        against: str,
        figure: Figure,
        estimate: Mean | Crossed,
        rows: Sequence[tuple[Entry, Entry]],
    ) -> None:
        self.value, self.against, self.figure = value, against, figure
        self.estimate, self.rows = estimate, tuple(rows)
        self._adjusted_p: float | None = None
        self._family = 1

    @property
    def pairs(self) -> int:
        """The number of pairs of rows."""
        return len(self.rows)

    @property
    def is_trained(self) -> bool:
        """Whether a training is part of it; else it compares systems, which have no seeds."""
        return any(row.provenance.training is not None for pair in self.rows for row in pair)

    @property
    def metric(self) -> str:
        """The figure's metric name."""
        return self.figure.metric

    @property
    def difference(self) -> float:
        """The mean difference, in the unit of the figure's differences."""
        return self.estimate.value

    @property
    def prompts(self) -> int:
        """Prompts that are scored in every row."""
        return (self.estimate.over_prompts if isinstance(self.estimate, Crossed) else self.estimate).n

    @property
    def seeds(self) -> int:
        """Training seeds; with one, nothing is said about the methods."""
        return self.estimate.seeds

    @cached_property
    def ci95(self) -> tuple[float, float] | None:
        """The 95 % confidence interval, within what a difference can be; None for fewer than FEWEST prompts, which are
        too few to tell anything."""
        if self.prompts < FEWEST:
            return None
        (low, high), reach = self.estimate.interval(), self.figure.reach
        return (low, high) if reach is None else (max(low, -reach), min(high, reach))

    @cached_property
    def p(self) -> float:
        """The two-sided p value, below 0.05 exactly where the interval leaves out zero."""
        return self.estimate.p_value() if self.prompts >= FEWEST else 1.0

    @property
    def adjusted_p(self) -> float:
        """The p value adjusted for the family that the effect was made in; alone, its own."""
        return self.p if self._adjusted_p is None else self._adjusted_p

    def adjust(self, p: float, family: int) -> None:
        """Set the p value adjusted for a family of so many effects."""
        self._adjusted_p, self._family = p, family

    @property
    def is_significant(self) -> bool:
        """Whether it is significant at the 5 % level, adjusted for its family."""
        return self.adjusted_p < ALPHA

    @property
    def by_seed(self) -> tuple[float, ...]:
        """Each seed's difference; empty for a single seed."""
        return self.estimate.by_seed if isinstance(self.estimate, Crossed) else ()

    @cached_property
    def detectable(self) -> float:
        """The smallest true difference that as many seeds and prompts detect with 80 % power, at the 5 % level shared
        by the family: the first step of Holm's correction. Infinite where it is larger than any difference can be."""
        size = self._detected(ALPHA / self._family)
        return math.inf if self.figure.reach is not None and size > self.figure.reach else size

    def _detected(self, level: float) -> float:
        if isinstance(self.estimate, Mean):
            return detectable(self.estimate, level / 2)
        return detectable_by_methods(self.parts, Design(self.seeds, self.prompts), level=1 - level)

    @property
    def parts(self) -> Parts:
        """Standard deviations from trainings, prompts and the rest, as these rows show them. With one seed what
        trainings add is unknown, and not a number."""
        if isinstance(self.estimate, Mean):
            mean = self.estimate
            return Parts(math.nan, 0.0, mean.stderr * math.sqrt(mean.n), 0.0, mean.reach)
        over, k = self.estimate.over_prompts, self.seeds
        prompts = math.sqrt(max(0.0, over.stderr**2 - self.estimate.rest) * over.n)
        rest = math.sqrt(self.estimate.rest * k * over.n)
        return Parts(self.estimate.from_trainings * math.sqrt(k), prompts, rest, 0.0, over.reach)

    def p_not_below(self, margin: float) -> float:
        """The one-sided p value of `value` being worse than `against` by `margin` or more."""
        side = 1 if self.figure.higher_is_better is False else -1
        return self.estimate.p_beyond(side * margin, side) if self.prompts >= FEWEST else 1.0

    def p_not_equal(self, margin: float) -> float:
        """The p value of the two differing by `margin` or more: the larger of two one-sided tests (Schuirmann 1987)."""
        if self.prompts < FEWEST:
            return 1.0
        return max(self.estimate.p_beyond(-margin, -1), self.estimate.p_beyond(margin, 1))


class Edge(NamedTuple):
    """Multi-DPO minus a method on pairs, over the cells that have both. `steps`, `tokens`: the mean ratio of
    Multi-DPO's to the other's; None where unknown. `left_out`: pairs of rows at two responses a prompt."""

    method: str
    against: str
    effects: tuple[Effect, ...]
    steps: float | None
    tokens: float | None
    left_out: int = 0

    @property
    def matched(self) -> str:
        """Which budgets of the two are equal: steps, tokens, both or neither."""
        return matched_budgets(self.steps, self.tokens)


def matched_budgets(steps: float | None, tokens: float | None) -> str:
    """Which ratios are one: steps, tokens, both or neither."""
    equal = [
        name
        for name, ratio in (("steps", steps), ("tokens", tokens))
        if ratio is not None and abs(ratio - 1) <= MATCHED_WITHIN
    ]
    return " and ".join(equal) or "neither"


def effects(entries: Sequence[Entry], axis: SweepAxis) -> list[Effect]:
    """Each value against the first one, by each compared metric; Holm's correction over the values, per metric. Values
    without a pair of rows to compare are left out."""
    rows = cell_rows(entries)
    result: list[Effect] = []
    for figure in Figures(entries).compared:
        of_figure = [
            effect
            for value in axis.values[1:]
            if (effect := effect_of(figure, row_pairs(rows, axis, value), value, axis.values[0]))
        ]
        result += adjusted(of_figure)
    return result


def edges(entries: Sequence[Entry]) -> list[Edge]:
    """Multi-DPO against each method on pairs; Holm's correction over all of these comparisons, per metric. Cells with
    two responses a prompt, where the two are one method, are left out."""
    rows = cell_rows(entries)
    figures = Figures(entries).compared
    losses = {row.method: loss_facts(row.entry) for row in rows}
    multi = [method for method, loss in losses.items() if loss.is_multi_dpo]
    others = [method for method, loss in losses.items() if loss.on_pairs]
    result = []
    for method in multi:
        for against in others:
            found = row_pairs(rows, SweepAxis(METHOD, (), (against, method)), method)
            pairs = [pair for pair in found if not are_one_method(pair[1:])]
            of_pair = [e for figure in figures if (e := effect_of(figure, pairs, method, against))]
            if of_pair:
                steps, tokens = (mean_ratio(pairs, name) for name in ("steps", "forward_tokens"))
                result.append(Edge(method, against, tuple(of_pair), steps, tokens, len(found) - len(pairs)))
    for figure in figures:
        adjusted([e for edge in result for e in edge.effects if e.metric == figure.metric])
    return result


def are_one_method(rows: tuple[Entry, Entry]) -> bool:
    """Whether both rows were trained on two responses a prompt, with Multi-DPO and with pairs: the same loss."""
    kinds = [loss_facts(row) for row in rows]
    if not any(kind.is_multi_dpo for kind in kinds) or not any(kind.on_pairs for kind in kinds):
        return False
    return all(row.provenance.responses == SAME_LOSS_AT for row in rows)


def adjusted(family: Sequence[Effect]) -> Sequence[Effect]:
    """The effects with Holm's correction over all of them."""
    if len(family) > 1:
        for effect, p in zip(family, holm([effect.p for effect in family]), strict=True):
            effect.adjust(p, len(family))
    return family


def effect_of(figure: Figure, pairs: Sequence[RowPair], value: str, against: str) -> Effect | None:
    """The effect over these pairs of rows; None where they have no shared outcomes."""
    found = pooled(figure, pairs)
    return Effect(value, against, figure, found.estimate, found.pairs) if found else None


def mean_ratio(pairs: Sequence[RowPair], name: str) -> float | None:
    """Mean ratio of one row's training figure to the other's."""
    ratios = []
    for _, one, other in pairs:
        x, y = (dict(e.provenance.training or TrainingFacts())[name] for e in (one, other))
        if x is not None and y:
            ratios.append(x / y)
    return fmean(ratios) if ratios else None
