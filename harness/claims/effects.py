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
from harness.boards.entry import Entry, measured_by
from harness.boards.facts import loss_facts
from harness.boards.outcomes import able_rows, figure_values, has_resamples, strata_of
from harness.boards.provenance import TrainingFacts
from harness.claims.cells import METHOD, SEEDS, RowPair, SweepAxis, cell_rows, row_pairs
from harness.figures import HELDOUT, Figure
from harness.stats.bounds import FEWEST, Mean, mean_of
from harness.stats.crossed import Crossed, crossed, crossed_resamples, mean_of_resamples
from harness.stats.paired import ALPHA, detectable, holm, per_prompt, prompt_of
from harness.stats.power import Design, Parts
from harness.stats.power import detectable as detectable_by_methods

MATCHED_WITHIN = 0.02
"""Budgets whose ratio is within this distance of one are matched."""
SAME_LOSS_AT = 2
"""Responses a prompt at which Multi-DPO is DPO: such a cell says nothing about the two."""


class Effect:
    """A value against another, by one metric, pooled over `pairs` pairs of rows. `estimate`: with one seed a mean over
    prompts, else crossed over seeds and prompts."""

    def __init__(self, value: str, against: str, figure: Figure, estimate: Mean | Crossed, pairs: int) -> None:
        self.value, self.against, self.figure = value, against, figure
        self.estimate, self.pairs = estimate, pairs
        self._adjusted_p: float | None = None
        self._family = 1

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
        """The 95 % confidence interval; None for fewer than FEWEST prompts, which are too few to tell anything."""
        return self.estimate.interval() if self.prompts >= FEWEST else None

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
        by the family: the first step of Holm's correction."""
        level = ALPHA / self._family
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
            pairs = [pair for pair in found if not is_one_method(pair)]
            of_pair = [e for figure in figures if (e := effect_of(figure, pairs, method, against))]
            if of_pair:
                steps, tokens = (mean_ratio(pairs, name) for name in ("steps", "forward_tokens"))
                result.append(Edge(method, against, tuple(of_pair), steps, tokens, len(found) - len(pairs)))
    for figure in figures:
        adjusted([e for edge in result for e in edge.effects if e.metric == figure.metric])
    return result


def is_one_method(pair: RowPair) -> bool:
    """Whether both rows were trained on two responses a prompt, with Multi-DPO and with pairs: the same loss."""
    rows = pair[1:]
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
    usable = [pair for pair in pairs if _are_comparable(figure, pair)]
    by_seed: dict[tuple[str, ...], list[RowPair]] = {}
    for pair in usable:
        seed = tuple(label for axis, label in sorted(pair[0]) if axis in SEEDS)
        by_seed.setdefault(seed, []).append(pair)
    resampled = figure.pairing is not None and figure.pairing.kind == "resamples"
    pooled = _pooled_resamples(figure, by_seed) if resampled else _pooled(figure, by_seed)
    return Effect(value, against, figure, *pooled) if pooled else None


def _are_comparable(figure: Figure, pair: RowPair) -> bool:
    """Whether both rows have the figure, measured in the same way."""
    _, one, other = pair
    if len(able_rows([one, other], figure)) < 2:
        return False
    # In a sweep over policies or judges, figures by another judge or against other answers are not comparable.
    return figure.benchmark == HELDOUT or measured_by(one) == measured_by(other)


BySeed = dict[tuple[str, ...], list[RowPair]]


def _pooled(figure: Figure, by_seed: BySeed) -> tuple[Mean | Crossed, int] | None:
    """(the estimate, the number of pairs in it); None where no pair has two shared prompts."""
    differences: list[dict[str, float]] = []
    used = 0
    for pairs in by_seed.values():
        of_seed: dict[str, list[float]] = {}
        for _, one, other in pairs:
            first, second = figure_values(one, figure), figure_values(other, figure)
            shared = {k: x - y for k, x in first.items() if x is not None and (y := second.get(k)) is not None}
            used += bool(shared)
            for key, difference in shared.items():
                of_seed.setdefault(key, []).append(difference)
        if of_seed:
            differences.append({key: fmean(values) for key, values in of_seed.items()})
    keys = sorted(set.intersection(*(set(of_seed) for of_seed in differences))) if differences else []
    prompts = list(dict.fromkeys(map(prompt_of, keys)))
    if len(prompts) < 2:
        return None
    rows = [per_prompt(of_seed, keys) for of_seed in differences]
    all_rows = [row for pairs in by_seed.values() for pair in pairs for row in pair[1:]]
    categories = strata_of(all_rows, figure)
    strata = None if categories is None else [categories.get(prompt, "") for prompt in prompts]
    if len(rows) == 1:
        return mean_of(rows[0], figure.reach, 0.0, strata), used
    return crossed(rows, figure.reach, strata), used


def _pooled_resamples(figure: Figure, by_seed: BySeed) -> tuple[Mean | Crossed, int] | None:
    """`_pooled` for a figure that is not a mean over prompts: the mean over the pairs, also in each resample."""
    complete = {
        seed: kept
        for seed, pairs in by_seed.items()
        if (kept := [pair for pair in pairs if _share_resamples(figure, pair[1], pair[2])])
    }
    pairs = [pair for kept in complete.values() for pair in kept]
    if not pairs or len({len(row.resamples[figure.metric]) for pair in pairs for row in pair[1:]}) > 1:
        return None
    prompts = min(len(pair[1].outcomes[figure.benchmark]) for pair in pairs)
    values = [
        fmean(_value(one, figure) - _value(other, figure) for _, one, other in kept) for kept in complete.values()
    ]
    resamples = [_mean_resamples(figure, kept) for kept in complete.values()]
    reach = figure.reach or 0.0
    if len(values) == 1:
        return mean_of_resamples(values[0], resamples[0], prompts, reach), len(pairs)
    return crossed_resamples(values, resamples, prompts, reach), len(pairs)


def _share_resamples(figure: Figure, one: Entry, other: Entry) -> bool:
    both = has_resamples(one, figure) and has_resamples(other, figure)
    return both and one.outcomes[figure.benchmark].keys() == other.outcomes[figure.benchmark].keys()


def _value(row: Entry, figure: Figure) -> float:
    return float(row.metrics[figure.metric].value or 0.0)


def _mean_resamples(figure: Figure, pairs: Sequence[RowPair]) -> list[float]:
    """The mean difference over the pairs, in each resample."""
    differences = [
        [x - y for x, y in zip(one.resamples[figure.metric], other.resamples[figure.metric], strict=True)]
        for _, one, other in pairs
    ]
    return [fmean(column) for column in zip(*differences, strict=True)]


def mean_ratio(pairs: Sequence[RowPair], name: str) -> float | None:
    """Mean ratio of one row's training figure to the other's."""
    ratios = []
    for _, one, other in pairs:
        x, y = (dict(e.provenance.training or TrainingFacts())[name] for e in (one, other))
        if x is not None and y:
            ratios.append(x / y)
    return fmean(ratios) if ratios else None
