"""`harness gate --until-settled`: asks a recipe's judge about more prompts until it is settled whether one row is worse
than another, by a test that is valid at every n (`harness.stats.sequential`).

All answers are written first. Then both rows are judged on batches of prompts, in a random order that the recipe's seed
fixes. Replies are journalled as in a run, so that neither a second gate nor a run asks for them again.
"""

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import NamedTuple

from harness.benchmark import Benchmark
from harness.components import identity
from harness.engine.execute import Overview, Reporter, execute
from harness.engine.runs import running
from harness.engine.stage import Stage
from harness.engine.store import Store
from harness.errors import CostError, RecipeError, nearest, quoted
from harness.figures import Figure
from harness.gate.check import INCONCLUSIVE, PASS, REFUSED, WORSE, Code, Result
from harness.gate.margins import Allowed, Check, checked, given_margin
from harness.gate.means import Case, filled_values
from harness.gate.words import of_calibration, of_sequence
from harness.judging.asker import Asker, make_ask
from harness.judging.batches.asking import directly
from harness.judging.calibration.record import calibration_of
from harness.judging.costs import journal_of, start_spending
from harness.judging.panel import collect_verdicts
from harness.pipeline.guards import answer_flags, family_flag
from harness.pipeline.plan import make_plan
from harness.pipeline.planning.row import PlannedRow
from harness.pipeline.selection.prompts import reported_on
from harness.protocols import Judge
from harness.recipe.load import Study
from harness.recipe.policy import policy_identity
from harness.recipe.recipe import Recipe
from harness.servers.prices import dollars, price_table
from harness.servers.spending import Spending
from harness.stats.paired import prompt_of
from harness.stats.sequential import Betting
from harness.types import Answer, Ask, Verdict

BATCH = 20
"""Prompts that the judge is asked about between two looks."""


class Contest(NamedTuple):
    """Two rows of a recipe, what they are compared by, and the stages that their answers need."""

    recipe: Recipe
    benchmark: Benchmark
    figure: Figure
    rows: tuple[PlannedRow, PlannedRow]

    @property
    def stages(self) -> list[Stage]:
        """The answers' stages, and those of what they are compared with, each after its inputs."""
        name = self.benchmark.name
        found: dict[str, Stage] = {}
        for row in self.rows:
            for stage in row.verdicts[name].inputs.values():
                _add(stage, found)
        return list(found.values())


def _add(stage: Stage, found: dict[str, Stage]) -> None:
    if stage.key not in found:
        for needed in stage.inputs.values():
            _add(needed, found)
        found[stage.key] = stage


def until_settled(
    study: Study,
    check: Check,
    row: str,
    baseline_row: str,
    store_folder: Path,
    view: AbstractContextManager[Overview],
    max_cost: float | None = None,
) -> Result:
    """Judge two rows of a recipe until the gate is settled, all prompts are judged, or the judge would cost more than
    `max_cost` dollars. Raises HarnessError for what can't be compared in this way."""
    check = checked(check)
    contest = _contest(study, check, row, baseline_row)
    margin = given_margin(check.margin, contest.figure)
    if not isinstance(margin, Allowed):
        raise RecipeError(f"gate: {margin}")
    if margin.share:
        raise RecipeError(
            f"gate: --until-settled takes a margin in points, not {check.margin} of a value not yet known"
        )
    reach = contest.figure.reach
    if reach is None or not margin.points < reach:
        limit = "declares no limits" if reach is None else f"differs by at most {reach:g}"
        raise RecipeError(f"gate: --until-settled needs a margin below the largest difference; {check.metric} {limit}")
    spending = start_spending([contest.recipe], max_cost)
    contest.benchmark.prepare()
    store = Store(store_folder)
    with running(store, (stage.key for stage in contest.stages)), view as overview:
        answers = _answers(contest, store, overview, spending)
        if not check.allow and (flag := _flag(contest, *answers[:2])):
            reason = f"row {quoted(row)} is flagged: {flag}; allow it explicitly (--allow) if that is no harm"
            return Result(REFUSED, row, baseline_row, check, reason, figure=contest.figure)
        with ExitStack() as locks:
            _lock(contest, store, overview, locks)
            return _bet(contest, check, margin.points, answers, store, overview, spending)


def _contest(study: Study, check: Check, row: str, baseline_row: str) -> Contest:
    if study.axes:
        raise RecipeError(f"recipe {study.name}: --until-settled takes a recipe without a sweep")
    recipe = study.cells[0].recipe
    names = {b.name: b for b in recipe.evaluation.benchmarks} if recipe.evaluation else {}
    name = check.metric.split(".")[0]
    if recipe.evaluation is None or name not in names:
        raise RecipeError(f"recipe {study.name} does not measure {quoted(name)}; {nearest(name, names)}")
    benchmark = names[name]
    figures = {
        f.metric: f
        for f in benchmark.figures_of(identity(benchmark))
        if f.pairing is not None and f.pairing.kind != "resamples" and f.higher_is_better is not None
    }
    if check.metric not in figures:
        raise RecipeError(f"gate: --until-settled tests means over prompts; {nearest(check.metric, figures)}")
    if not benchmark.judged or recipe.evaluation.judge_of(benchmark).recorded:
        raise RecipeError(
            f"recipe {study.name}: its verdicts are recorded or computed: there is no judge to ask for more"
        )
    if check.minimum is not None:
        raise RecipeError("gate: --until-settled tests no floor; leave out --min")
    planned = {r.id: r for r in make_plan(recipe).rows if name in r.verdicts}
    for wanted in (row, baseline_row):
        if wanted not in planned:
            raise RecipeError(f"recipe {study.name}: no row {quoted(wanted)}; {nearest(wanted, planned)}")
    return Contest(recipe, benchmark, figures[check.metric], (planned[row], planned[baseline_row]))


class _Stages(NamedTuple):
    stages: list[Stage]


class Answered(NamedTuple):
    """A row's answers, and those that they are compared with."""

    answers: list[Answer]
    reference: list[Answer]


def _answers(contest: Contest, store: Store, overview: Reporter, spending: Spending) -> tuple[Answered, Answered]:
    """Both rows' answers to all prompts, written now where the store lacks them."""
    resources = contest.recipe.runtime.resources
    artifacts = execute(_Stages(contest.stages), store, overview, spending, resources).artifacts

    def rows(stage: Stage | None) -> list[Answer]:
        return [] if stage is None else artifacts[stage.key].rows("answers.jsonl", Answer)

    name = contest.benchmark.name
    inputs = [row.verdicts[name].inputs for row in contest.rows]
    ours, theirs = (Answered(rows(part["answers"]), rows(part.get("reference"))) for part in inputs)
    return ours, theirs


def _flag(contest: Contest, ours: Answered, theirs: Answered) -> str | None:
    """The first validity guard that fires for the row's answers."""
    references = contest.benchmark.reference_texts(ours.reference)
    flags = list(answer_flags(ours.answers, references))
    recipe, row = contest.recipe, contest.rows[0]
    if recipe.policy is not None and row.system is None and recipe.evaluation is not None:
        judge = identity(recipe.evaluation.judge_of(contest.benchmark))
        family = family_flag(judge, policy_identity(recipe.policy))
        flags += [family] if family else []
    return flags[0].text if flags else None


def _lock(contest: Contest, store: Store, overview: Reporter, locks: ExitStack) -> None:
    """Hold the judge's journals, as a stage of verdicts does."""
    name, (row, _) = contest.benchmark.name, contest.rows
    for journal in sorted(row.verdicts[name].exclusive):
        lease = store.lock(hashlib.sha256(journal.encode()).hexdigest())
        lease.acquire(lambda: overview.waiting(row.verdicts[name]))
        locks.callback(lease.release)


def _bet(
    contest: Contest,
    check: Check,
    margin: float,
    answers: tuple[Answered, Answered],
    store: Store,
    overview: Overview,
    spending: Spending,
) -> Result:
    """Ask and test, batch by batch."""
    figure, (row, baseline) = contest.figure, contest.rows
    betting = Betting(margin, figure.reach or 0.0, check.alpha)
    asked = list(dict.fromkeys(prompt_of(q.id) for q in contest.benchmark.load_questions()))
    order = reported_on(contest.recipe, contest.benchmark, asked)
    random.Random(f"until settled {contest.recipe.seed}").shuffle(order)
    overview.start(f"judging {row.id} and {baseline.id} until settled", len(order))
    ended, missing = "", 0
    for batch in _batches(order):
        try:
            ours, theirs = (
                _judged(contest, planned, answered, batch, store, spending)
                for planned, answered in zip(contest.rows, answers, strict=True)
            )
        except CostError as error:
            ended = str(error)
            break
        for prompt in batch:
            missing += any(v is None for v in (*ours[prompt].values(), *theirs[prompt].values()))
            difference = _difference(ours[prompt], theirs[prompt], figure)
            if difference is not None and betting.add(*difference) != "inconclusive":
                break
        overview.advance(len(batch))
        if betting.outcome != "inconclusive":
            break
    code: Code = {"not worse": PASS, "worse": WORSE, "inconclusive": INCONCLUSIVE}[betting.outcome]  # type: ignore[assignment]
    cost = "" if spending.unpriced else f"; the judge was paid {dollars(spending.spent)}"
    text = of_sequence(betting, figure, margin, check.alpha, len(order), missing)
    about = f"{judged_by}; " if (judged_by := _at_chance(contest)) else ""
    reason = f"{about}{text}{f'; {ended}' if ended else cost}"
    check = check.model_copy(update={"margin": margin})
    return Result(code, row.id, baseline.id, check, reason, figure=figure)


def _at_chance(contest: Contest) -> str:
    """What is said of a judge that was measured to be no better than chance; empty of any other."""
    evaluation, by = contest.recipe.evaluation, contest.benchmark.calibrated_by
    if evaluation is None or by is None:
        return ""
    judge = evaluation.judge_of(contest.benchmark)
    found = calibration_of(identity(judge), by.annotator, by.asked)
    return "" if found is None else of_calibration(judge.name, found.on_board({}))


def _batches(order: Sequence[str]) -> Iterator[Sequence[str]]:
    return (order[i : i + BATCH] for i in range(0, len(order), BATCH))


Outcomes = Mapping[str, float | None]


def _judged(
    contest: Contest,
    row: PlannedRow,
    answered: Answered,
    batch: Sequence[str],
    store: Store,
    spending: Spending,
) -> dict[str, Outcomes]:
    """A row's outcomes on a batch, by prompt."""
    evaluation, benchmark = contest.recipe.evaluation, contest.benchmark
    assert evaluation is not None
    chosen = set(batch)
    some = [answer for answer in answered.answers if prompt_of(answer.question_id) in chosen]

    def asker(judge: Judge) -> Asker:
        return make_ask(
            directly(judge),
            journal_of(judge, store),
            concurrency=contest.recipe.runtime.judge_concurrency,
            advance=lambda _: None,
            retries_invalid=evaluation.retries_invalid,
            price=judge.token_price(price_table(evaluation.prices)),
            spending=spending,
        )

    def verdicts(ask: Ask) -> list[Verdict]:
        found = benchmark.verdicts(some, answered.reference, ask)
        return [v for v in found if prompt_of(v.question_id) in chosen]

    judged, _, _ = collect_verdicts(evaluation.judge_of(benchmark), asker, verdicts, f"{row.id} on {benchmark.name}")
    by_prompt: dict[str, dict[str, float | None]] = {prompt: {} for prompt in batch}
    for verdict in judged:
        by_prompt[prompt_of(verdict.question_id)][verdict.key] = verdict.value
    return dict(by_prompt)


def _difference(ours: Outcomes, theirs: Outcomes, figure: Figure) -> tuple[float, float] | None:
    """(the worst, the best) difference on one prompt: equal where no verdict is missing. Negative is worse. None where
    the figure has nothing on the prompt."""
    sign = -1 if figure.higher_is_better is False else 1
    cases: tuple[tuple[Case, Case], ...] = ((-1, 1), (1, -1))
    found = []
    for own, other in cases:
        new, old = filled_values(ours, figure, own), filled_values(theirs, figure, other)
        if not new or not old:
            return None
        found.append(
            sign * (sum(v or 0.0 for v in new.values()) / len(new) - sum(v or 0.0 for v in old.values()) / len(old))
        )
    return found[0], found[1]
