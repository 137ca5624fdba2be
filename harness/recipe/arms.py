"""The trainings of a recipe, one per row of the board: their methods, training seeds and budgets."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from harness.engine.resources import declared
from harness.errors import HarnessError, nearest, quoted
from harness.figures import GOLD_REWARD, HELDOUT, HELDOUT_FIGURES, Figure
from harness.protocols import Loss
from harness.recipe.launch import SHARDED, Accelerate
from harness.recipe.making.round_problems import round_problems
from harness.recipe.making.rounds import round_row
from harness.recipe.making.untrained import untrained_problems
from harness.recipe.reading.problems import Problem
from harness.recipe.recipe import BASE, SFT, Method, Recipe
from harness.recipe.sizes import Sizes
from harness.recipe.training import Point, Training


class Arm(NamedTuple):
    """One training of a method. `seed`: one of the method's training seeds; None if it has none, and is trained once
    with the recipe's seed under the method's id."""

    id: str
    method: Method
    training: Training
    seed: int | None


def arms_of(recipe: Recipe) -> list[Arm]:
    """All trainings, in the recipe's order. Raises pydantic's ValidationError for invalid training fields of a
    method."""
    arms = []
    for method in recipe.methods:
        training = recipe.training_of(method)
        if training.seeds is None:
            arms.append(Arm(method.id, method, training, None))
        else:
            arms += [Arm(f"{method.id}.seed-{seed}", method, training, seed) for seed in training.seeds]
    return arms


def matched_arm(recipe: Recipe, arm: Arm, arms: Sequence[Arm]) -> Arm | None:
    """The training whose budget this one gets. Of the method that it is matched to, this is the only training, or the
    one with the same training seed (the recipe's seed if this one has none). None without `match` or such a
    training."""
    if arm.method.match is None:
        return None
    candidates = [other for other in arms if other.method.id == _target(recipe, arm.method)]
    if len(candidates) == 1:
        return candidates[0]
    seed = recipe.seed if arm.seed is None else arm.seed
    return next((other for other in candidates if other.seed == seed), None)


def _target(recipe: Recipe, method: Method) -> str:
    """The id of the method that a method is matched to."""
    return method.match_to or recipe.methods[0].id


def point_row(row: str, point: Point) -> str:
    """The id of the row of a checkpoint on the way: `dpo.at-0.25`."""
    return f"{row}.at-{point.name}"


def row_ids(recipe: Recipe) -> list[str]:
    """The rows of the run's board. Of the rows that are only fine-tuned, just the first, `sft`: only the plan knows how
    many there are."""
    arms = arms_of(recipe)
    rows = [BASE] if recipe.policy else []
    trained = [round_row(arm.id, n + 1) for arm in arms for n in range(recipe.round_count)]
    rows += [*([SFT] if any(arm.training.sft for arm in arms) else []), *trained]
    checkpoints = recipe.evaluation.checkpoints if recipe.evaluation else None
    if checkpoints and checkpoints.every is None:
        rows += [point_row(row, point) for row in trained for point in checkpoints.points(0)]
    return rows + [system.id for system in recipe.systems]


def _may_be_row(row: str, rows: Sequence[str]) -> bool:
    """How many rows there are of fine-tuned policies, and of checkpoints every so many steps, only the plan knows."""
    counted, at, step = row.rpartition(".at-step-")
    if at and step.isdecimal():
        return counted in rows
    return row in rows or (SFT in rows and re.fullmatch(rf"{SFT}-\d+", row) is not None)


def method_problems(recipe: Recipe) -> list[Problem]:
    """Problems that involve several methods, and benchmarks or gates that refer to missing rows."""
    between_methods = _same_ids(recipe) or _unknown_targets(recipe) or _cycles(recipe) or _unmatched_seeds(recipe)
    return [
        *between_methods,
        *_wrong_weights(recipe),
        *_unknown_references(recipe),
        *_wrong_gates(recipe),
        *_wrong_primary(recipe),
        *untrained_problems(recipe),
        *round_problems(recipe, [arm.id for arm in arms_of(recipe)]),
    ]


def _same_ids(recipe: Recipe) -> list[Problem]:
    """Method ids that equal the id of another method's row with a training seed."""
    seeded = {arm.id: arm for arm in arms_of(recipe) if arm.seed is not None}
    problems = []
    for i, method in enumerate(recipe.methods):
        if arm := seeded.get(method.id):
            message = f"'{method.id}' is the row of '{arm.method.id}' with training seed {arm.seed}; rename one of them"
            problems.append(Problem(("methods", i, "id"), message))
    return problems


def _figures(recipe: Recipe) -> dict[str, Sequence[Figure]]:
    """The figures that the recipe's rows will have, by benchmark."""
    # By class: a benchmark's identity would read its files, which are checked later.
    benchmarks = recipe.evaluation.benchmarks if recipe.evaluation else []
    figures: dict[str, Sequence[Figure]] = {b.name: b.figures_of(b.model_dump(mode="json")) for b in benchmarks}
    if recipe.evaluation and recipe.evaluation.gold_reward:
        figures[GOLD_REWARD.benchmark] = (GOLD_REWARD,)
    return figures | ({HELDOUT: HELDOUT_FIGURES} if recipe.methods else {})


def _wrong_primary(recipe: Recipe) -> list[Problem]:
    """A primary metric that nothing measures, or comparisons of methods that are not there."""
    if recipe.primary is None:
        return []
    problems, metric = [], recipe.primary.metric
    compared = [figure.metric for figures in _figures(recipe).values() for figure in figures if figure.compared]
    if metric is not None and metric not in compared:
        message = f"boards don't compare rows by {quoted(metric)}; {nearest(metric, compared, 'expected one of')}"
        problems.append(Problem(("primary", "metric"), message))
    names = [*(method.id for method in recipe.methods), *([BASE] if recipe.policy else [])]
    for i, pair in enumerate(recipe.primary.comparisons or []):
        problems += [
            Problem(("primary", "comparisons", i), f"no method {quoted(name)} in this recipe; {nearest(name, names)}")
            for name in pair
            if name not in names and not _may_be_row(name, row_ids(recipe))
        ]
        if len(set(pair)) == 1:
            message = f"expected two methods, got {quoted(pair[0])} against itself"
            problems.append(Problem(("primary", "comparisons", i), message))
    return problems


def _wrong_gates(recipe: Recipe) -> list[Problem]:
    """Gates on missing rows, figures or baseline files."""
    rows, figures = row_ids(recipe), _figures(recipe)
    problems = []
    for i, gate in enumerate(recipe.gates):
        named_rows = [("row", gate.row)] + ([("baseline_row", gate.baseline_row)] if gate.baseline is None else [])
        problems += [
            Problem(("gates", i, field), f"no row {quoted(row)} in this recipe; {nearest(row, rows)}")
            for field, row in named_rows
            if row is not None and not _may_be_row(row, rows)
        ]
        if message := _wrong_metric(gate.metric, figures):
            problems.append(Problem(("gates", i, "metric"), message))
        elif (gate.baseline or gate.baseline_row) and gate.margin is None and _lacks_margin(gate.metric, figures):
            message = f"{gate.metric} declares no margin; give the largest acceptable drop in its unit"
            problems.append(Problem(("gates", i, "margin"), message))
        if gate.baseline is not None and not gate.baseline.exists():
            message = f"no file {gate.baseline}; create it from a board with harness baseline promote"
            problems.append(Problem(("gates", i, "baseline"), message))
    return problems


def _lacks_margin(metric: str, figures: Mapping[str, Sequence[Figure]]) -> bool:
    return any(f.metric == metric and f.default_margin is None for f in figures[metric.split(".")[0]])


def _wrong_metric(metric: str, figures: Mapping[str, Sequence[Figure]]) -> str | None:
    group = metric.split(".")[0]
    if group not in figures:
        return f"this recipe does not measure {group}; it measures {', '.join(sorted(figures)) or 'nothing'}"
    testable = [f.metric for f in figures[group] if f.pairing is not None and f.higher_is_better is not None]
    if metric in testable:
        return None
    return f"no gate tests {quoted(metric)}; {nearest(metric, testable, 'expected one of')}"


def _unknown_references(recipe: Recipe) -> list[Problem]:
    """Benchmarks whose reference is not a row of the run."""
    rows = row_ids(recipe)
    problems = []
    for i, benchmark in enumerate(recipe.evaluation.benchmarks if recipe.evaluation else []):
        reference = benchmark.needs_row
        if reference is not None and not _may_be_row(reference, rows):
            message = f"no row {quoted(reference)} in this recipe; {nearest(reference, ['file', *rows])}"
            problems.append(Problem(("evaluation", "benchmarks", i, "reference"), message))
    return problems


def _wrong_weights(recipe: Recipe) -> list[Problem]:
    """Losses whose list of weights, one per rank, does not match the number of responses per prompt."""
    losses = [(i, method.loss) for i, method in enumerate(recipe.methods) if isinstance(method.loss, Loss)]
    if recipe.data is None or all(loss.responses_a_prompt is None for _, loss in losses):
        return []
    try:
        n = Sizes(recipe.data).trained_responses
    except HarnessError:  # a seed file that can't be read, which is reported later
        n = 2
    listed = {i: weights for i, loss in losses if (weights := loss.responses_a_prompt) is not None}
    if not recipe.data.selection.fixed:
        message = "a list of weights needs as many responses of every prompt, and data.pairs leaves fewer of some"
        return [Problem(("methods", i, "loss", "weights"), f"{message}: use weights: rank") for i in listed]
    return [
        Problem(("methods", i, "loss", "weights"), f"{weights} weights for {n} responses; expected {n}, best first")
        for i, weights in listed.items()
        if weights != n
    ]


def _match_field(i: int, method: Method) -> tuple[str, int, str]:
    """The field of method number `i` that names or implies the method it is matched to."""
    return "methods", i, "match_to" if method.match_to else "match"


def _unknown_targets(recipe: Recipe) -> list[Problem]:
    problems = []
    for i, method in enumerate(recipe.methods):
        others = [other.id for other in recipe.methods if other is not method]
        if method.match is None:
            if method.match_to:
                message = "has no effect without `match`; add match: steps, prompts or tokens, or remove it"
                problems.append(Problem(_match_field(i, method), message))
        elif (target := _target(recipe, method)) == method.id:
            advice = f"expected match_to: one of {', '.join(others)}" if others else "the recipe has no other method"
            problems.append(Problem(_match_field(i, method), f"'{method.id}' would be matched to itself; {advice}"))
        elif target not in others:
            message = f"unknown method {quoted(target)}; {nearest(target, others)}"
            problems.append(Problem(_match_field(i, method), message))
    return problems


def _cycles(recipe: Recipe) -> list[Problem]:
    """Methods whose budgets depend on each other."""
    target = {method.id: _target(recipe, method) for method in recipe.methods if method.match}
    problems = []
    for i, method in enumerate(recipe.methods):
        chain = [method.id]
        while chain[-1] in target and target[chain[-1]] not in chain:
            chain.append(target[chain[-1]])
        if target.get(chain[-1]) == method.id:
            cycle = " -> ".join([*chain, method.id])
            message = f"matched in a circle: {cycle}; remove `match` from one of them"
            problems.append(Problem(_match_field(i, method), message))
    return problems


def _unmatched_seeds(recipe: Recipe) -> list[Problem]:
    arms = arms_of(recipe)
    problems = []
    for i, method in enumerate(recipe.methods):
        matching = [arm for arm in arms if arm.method is method and method.match]
        if unmatched := [arm for arm in matching if matched_arm(recipe, arm, arms) is None]:
            target = _target(recipe, method)
            seed = recipe.seed if unmatched[0].seed is None else unmatched[0].seed
            seeds = ", ".join(str(arm.seed) for arm in arms if arm.method.id == target)
            message = f"'{target}' has no training with seed {seed} to match; its training seeds are {seeds}"
            problems.append(Problem(_match_field(i, method), message))
    return problems


def _wrong_gpus(recipe: Recipe, accelerate: Accelerate) -> list[Problem]:
    """Kinds of stages with another number of GPUs than processes: each needs one, and more would idle."""
    resources, problems = recipe.runtime.resources, []
    sharing = ["train"] if any(method.engine == "harness" for method in recipe.methods) else []
    sharing += ["reference", "heldout"] if recipe.methods else []
    reward = recipe.data.reward if recipe.data else None
    sharing += ["ranked", "reward"] if reward and reward.batch_rows else []
    for kind in sharing if accelerate.processes > 1 else ():
        needed = declared(resources, kind)
        if needed is None or not needed.gpus or needed.gpus == accelerate.processes:
            continue
        field: tuple[str | int, ...] = ("runtime", "resources", kind if kind in resources else "default", "gpus")
        message = f"{needed.gpus:g} for {kind}, and runtime.launch starts {accelerate.processes} processes there"
        advice = "" if kind in resources else f": add runtime.resources.{kind}"
        problems.append(Problem(field, f"{message}; expected {accelerate.processes}{advice}"))
    return problems[:1]


def launch_problems(recipe: Recipe) -> list[Problem]:
    """Methods that the recipe's processes can't train."""
    if recipe.runtime.launch is None:
        return []
    accelerate = recipe.runtime.launch.accelerate
    processes, problems = accelerate.processes, []
    for i, method in enumerate(recipe.methods):
        size = recipe.training_of(method).batch_size
        if method.engine == "harness" and size % processes:
            field: tuple[str | int, ...] = ("methods", i) if "batch_size" in method.training else ()
            message = f"{size} can't be shared by the {processes} processes of runtime.launch; expected a multiple"
            problems.append(Problem((*field, "training", "batch_size"), message))
    problems += _wrong_gpus(recipe, accelerate)
    if recipe.runtime.memory == "one_response" and accelerate.kind in SHARDED:
        message = f"one_response works in one process or with DDP, and runtime.launch uses {accelerate.kind}"
        problems.append(Problem(("runtime", "memory"), f"{message}: use checkpointed"))
    return problems
