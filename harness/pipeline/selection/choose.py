"""Chooses one candidate of each method, and writes into the rows what was tried and what was chosen.

The choice is made on a part of one benchmark's prompts, by the mean over a method's training seeds; all rows' figures
of that benchmark are then those of the other prompts, so that no figure is of prompts that something was chosen on.
"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from harness.benchmark import Benchmark
from harness.boards.entry import Entry
from harness.boards.provenance import SelectionFacts
from harness.claims.cells import SEEDS
from harness.components import identity
from harness.engine.execute import ExecutionResult
from harness.errors import RecipeError
from harness.figures import ANSWER_FIGURES, Figure
from harness.pipeline.selection.prompts import Rest, chosen_on, kept_scores, rest_of
from harness.pipeline.study import StudyPlan, StudyRow
from harness.recipe.evaluation import CHECKPOINT_AXIS, Select
from harness.stats.intervals import mean_metric
from harness.stats.paired import prompt_of

LAST = "last"
"""The checkpoint at a training's end, among the candidates."""

Setting = tuple[tuple[str, str], ...]
"""A candidate: (axis, value) of everything that is chosen."""


class _Chosen(NamedTuple):
    """What is chosen, by what: the benchmark of the figure, the figure, and the prompts to choose on."""

    select: Select
    benchmark: Benchmark
    figure: Figure
    prompts: frozenset[str]


def with_selection(plan: StudyPlan, entries: Sequence[Entry], executed: ExecutionResult) -> list[Entry]:
    """The rows as they are where the recipe chooses nothing, or one cell of a sweep has nothing to choose among.
    `entries`: those of the plan's rows, in their order, and maybe others after them. Raises RecipeError for a benchmark
    of one prompt."""
    chosen = _what_is_chosen(plan, entries)
    if chosen is None:
        return list(entries)
    members, others = plan.rows, entries[len(plan.rows) :]
    own = list(entries[: len(members)])
    facts = _facts(chosen, members, own)
    rows = [
        _on_the_rest(entry, chosen, member, executed, facts.get(entry.id))
        for member, entry in zip(members, own, strict=True)
    ]
    return [*rows, *others]


def left_out(plan: StudyPlan, entries: Sequence[Entry]) -> dict[str, frozenset[str]]:
    """The prompts that something is chosen on, by benchmark: no figure is of them. `entries`: before the choice."""
    chosen = _what_is_chosen(plan, entries)
    return {} if chosen is None else {chosen.benchmark.name: chosen.prompts}


def _what_is_chosen(plan: StudyPlan, entries: Sequence[Entry]) -> _Chosen | None:
    recipes = [cell.recipe for cell in plan.study.cells]
    evaluation = recipes[0].evaluation
    if evaluation is None or evaluation.select is None:
        return None
    axes = [CHECKPOINT_AXIS, *(axis.name for axis in plan.study.axes)]
    # A cell that runs alone (`--cell`) has no axes.
    select = evaluation.select.model_copy(update={"over": tuple(a for a in evaluation.select.over if a in axes)})
    if not select.over:
        return None
    benchmark = next(b for b in evaluation.benchmarks if b.name == select.metric.split(".")[0])
    figure = next(f for f in benchmark.figures_of(identity(benchmark)) if f.metric == select.metric)
    prompts = {prompt_of(key) for entry in entries for key in entry.outcomes.get(benchmark.name, {})}
    if len(prompts) < 2:
        raise RecipeError(
            f"evaluation.select: expected at least 2 prompts of {benchmark.name}, to choose on and to report on; got "
            f"{len(prompts)}: ask more of them, or leave out select"
        )
    return _Chosen(select, benchmark, figure, chosen_on(prompts, select.prompts, recipes[0].seed))


class _Contest(NamedTuple):
    """The candidates of one choice. `rows`: by id, the row of each, with all settings that it is the same in."""

    settings: dict[str, dict[Setting, None]]
    rows: dict[str, Entry]

    def candidates(self) -> dict[str, list[Entry]]:
        """The rows of each candidate, one a training seed, by the candidate's name. A row on which an axis has no
        effect is one candidate, not one for each of the axis's values."""
        by_name: dict[str, list[Entry]] = {}
        for row, entry in self.rows.items():
            by_name.setdefault(_label(self.settings[row]), []).append(entry)
        return by_name

    def joined(self, other: "_Contest") -> "_Contest":
        both = {row: {**self.settings.get(row, {}), **other.settings.get(row, {})} for row in self.rows | other.rows}
        return _Contest(both, self.rows | other.rows)


def _facts(chosen: _Chosen, members: Sequence[StudyRow], entries: Sequence[Entry]) -> dict[str, SelectionFacts]:
    """What each trained row has to say of the choice, by row."""
    facts: dict[str, SelectionFacts] = {}
    for contest in _contests(chosen, members, entries):
        candidates = contest.candidates()
        values = {name: _mean(chosen, rows) for name, rows in candidates.items()}
        best = _best(chosen.figure, values)
        for name, rows in candidates.items():
            for entry in rows:
                facts[entry.id] = SelectionFacts(
                    metric=chosen.figure.metric,
                    prompts=len(chosen.prompts),
                    over=chosen.select.over,
                    candidates=values,
                    candidate=name,
                    is_chosen=name == best,
                )
    return facts


def _contests(chosen: _Chosen, members: Sequence[StudyRow], entries: Sequence[Entry]) -> list[_Contest]:
    """One choice for each method and each setting that nothing is chosen among. Those that share a row are one, so that
    it is chosen or not."""
    contests: dict[tuple[str, Setting], _Contest] = {}
    for member, entry in zip(members, entries, strict=True):
        if member.row.arm is None or (member.row.round and not member.row.round.is_last):
            continue
        if member.row.point is not None and CHECKPOINT_AXIS not in chosen.select.over:
            continue  # nothing is compared with it, as on a board without a choice
        for cell in member.stands_in:
            rest, setting = _placed(chosen, member, cell.settings)
            contest = contests.setdefault((member.row.arm.method.id, rest), _Contest({}, {}))
            contest.settings.setdefault(entry.id, {})[setting] = None
            contest.rows[entry.id] = entry
    apart: list[_Contest] = []
    for contest in contests.values():
        for other in [one for one in apart if one.rows.keys() & contest.rows.keys()]:
            apart.remove(other)
            contest = other.joined(contest)
        apart.append(contest)
    return apart


def _placed(chosen: _Chosen, member: StudyRow, settings: Mapping[str, str]) -> tuple[Setting, Setting]:
    """(what the row's candidates have in common, which of them it is)."""
    of_axis = {**settings, CHECKPOINT_AXIS: member.row.point.name if member.row.point else LAST}
    common = {k: v for k, v in settings.items() if k not in chosen.select.over and k not in SEEDS}
    return tuple(sorted(common.items())), tuple((axis, of_axis[axis]) for axis in chosen.select.over)


def _mean(chosen: _Chosen, rows: Sequence[Entry]) -> float | None:
    """The figure over the prompts to choose on, in the mean over the rows of a candidate; None where one has none."""
    means = []
    for entry in rows:
        outcomes = entry.outcomes.get(chosen.benchmark.name, {})
        part = {key: value for key, value in outcomes.items() if prompt_of(key) in chosen.prompts}
        scored = (
            [v for v in chosen.figure.pairing.values(part).values() if v is not None] if chosen.figure.pairing else []
        )
        if not scored:
            return None
        means.append(fmean(scored))
    return fmean(means)


def _best(figure: Figure, values: Mapping[str, float | None]) -> str:
    """The best candidate; of equal ones the first, and the first of all where none is scored."""
    side = -1.0 if figure.higher_is_better is False else 1.0
    scored = {name: side * value for name, value in values.items() if value is not None}
    return max(scored, key=lambda name: scored[name]) if scored else next(iter(values))


def _label(settings: Iterable[Setting]) -> str:
    """`learning_rate 1e-4, checkpoint 0.5`; with all values of an axis that has no effect: `beta 0.1 or 0.5`."""
    by_axis: dict[str, dict[str, None]] = {}
    for axis, value in (pair for setting in settings for pair in setting):
        by_axis.setdefault(axis, {})[value] = None
    return ", ".join(f"{axis} {' or '.join(values)}" for axis, values in by_axis.items())


def _on_the_rest(
    entry: Entry, chosen: _Chosen, member: StudyRow, executed: ExecutionResult, facts: SelectionFacts | None
) -> Entry:
    """The row with its figures of the prompts that nothing was chosen on."""
    about = entry.provenance.model_copy(update={"selection": facts}) if facts else entry.provenance
    name = chosen.benchmark.name
    verdicts = member.row.verdicts.get(name)
    if verdicts is None:
        return entry.model_copy(update={"provenance": about})
    rest: Rest = rest_of(chosen.benchmark, verdicts, executed, chosen.prompts)
    kept = {
        figure: kept_scores(entry.outcomes[figure.benchmark], name, chosen.prompts)
        for figure in ANSWER_FIGURES
        if figure.benchmark in entry.outcomes
    }
    means = {figure.metric: mean_metric(list(scores.values())) for figure, scores in kept.items()}
    own = {figure.metric for figure in entry.figures if figure.benchmark == name} | rest.metrics.keys()
    return entry.model_copy(
        update={
            "provenance": about,
            "metrics": {k: m for k, m in entry.metrics.items() if k not in own} | rest.metrics | means,
            "outcomes": {**entry.outcomes, name: rest.outcomes, **{f.benchmark: scores for f, scores in kept.items()}},
            "resamples": {k: v for k, v in entry.resamples.items() if k not in own} | rest.resamples,
            "strata": {**entry.strata, **({name: rest.strata} if name in entry.strata else {})},
        }
    )
