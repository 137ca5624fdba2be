"""The trainings of a recipe, one a row of the board: which methods, with which training seeds, on whose budget."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from harness.errors import nearest, quoted
from harness.recipe import Method, Recipe, Training
from harness.recipe_problems import Problem


class Arm(NamedTuple):
    """One training of a method. `seed`: one of the method's training seeds; None where it has none of its own, is
    trained once with the recipe's seed, and its row has the method's id."""

    id: str
    method: Method
    training: Training
    seed: int | None


def arms_of(recipe: Recipe) -> list[Arm]:
    """All trainings, in the recipe's order. Raises pydantic's ValidationError for a method's wrong training fields."""
    found = []
    for method in recipe.methods:
        training = recipe.training_of(method)
        if training.seeds is None:
            found.append(Arm(method.id, method, training, None))
        else:
            found += [Arm(f"{method.id}.seed-{seed}", method, training, seed) for seed in training.seeds]
    return found


def matched(recipe: Recipe, arm: Arm, arms: Sequence[Arm]) -> Arm | None:
    """The training whose budget this one is given: the other method's with the same training seed (without seeds of
    its own: the recipe's), or its only one. None where `match` is not asked for, or there is no such training."""
    if arm.method.match is None:
        return None
    others = [other for other in arms if other.method.id == _target(recipe, arm.method)]
    if len(others) == 1:
        return others[0]
    seed = recipe.seed if arm.seed is None else arm.seed
    return next((other for other in others if other.seed == seed), None)


def _target(recipe: Recipe, method: Method) -> str:
    return method.match_to or recipe.methods[0].id


def problems(recipe: Recipe) -> list[Problem]:
    """What is wrong with the methods taken together."""
    together = _same_ids(recipe) or _unknown_targets(recipe) or _circles(recipe) or _unmatched_seeds(recipe)
    return [*together, *_wrong_lists(recipe), *_unknown_references(recipe), *_wrong_gates(recipe)]


def _same_ids(recipe: Recipe) -> list[Problem]:
    """A method's own id that is also another's with its training seed."""
    seeded = {arm.id: arm for arm in arms_of(recipe) if arm.seed is not None}
    found = []
    for i, method in enumerate(recipe.methods):
        if arm := seeded.get(method.id):
            message = f"'{method.id}' is the row of '{arm.method.id}' with training seed {arm.seed}; rename one of them"
            found.append(Problem(("methods", i, "id"), message))
    return found


def row_ids(recipe: Recipe) -> list[str]:
    """The rows of the run's board. Policies that are only fine-tuned otherwise than the first are not among them: how
    many there are the plan knows."""
    arms = arms_of(recipe)
    rows = ["base"] if recipe.given_policy else []
    rows += [*(["sft"] if any(arm.training.sft for arm in arms) else []), *(arm.id for arm in arms)]
    return rows + [system.id for system in recipe.systems]


def _wrong_gates(recipe: Recipe) -> list[Problem]:
    """Gates on rows, figures or baselines that there won't be."""
    rows = row_ids(recipe)
    measured = {b.name for b in recipe.evaluation.benchmarks} if recipe.evaluation else set()  # type: ignore[attr-defined]
    measured |= {"heldout"} if recipe.methods else set()
    found = []
    for i, gate in enumerate(recipe.gates):
        own = [("row", gate.row)] + ([("baseline_row", gate.baseline_row)] if gate.baseline is None else [])
        found += [
            Problem(("gates", i, field), f"no row {quoted(row)} in this recipe; {nearest(row, rows)}")
            for field, row in own
            if row is not None and row not in rows and not ("sft" in rows and re.fullmatch(r"sft-\d+", row))
        ]
        if (group := gate.metric.split(".")[0]) not in measured:
            message = f"this recipe does not measure {group}; it measures {', '.join(sorted(measured)) or 'nothing'}"
            found.append(Problem(("gates", i, "metric"), message))
        if gate.baseline is not None and not gate.baseline.exists():
            message = f"no file {gate.baseline}; make it from a board with harness baseline promote"
            found.append(Problem(("gates", i, "baseline"), message))
    return found


def _unknown_references(recipe: Recipe) -> list[Problem]:
    """A benchmark's reference that is no row of the run."""
    rows = row_ids(recipe)
    found = []
    for i, benchmark in enumerate(recipe.evaluation.benchmarks if recipe.evaluation else []):
        needed = getattr(benchmark, "needs_row", None)
        # Policies that are only fine-tuned differently are sft-2 and so on: how many there are the plan knows.
        known = needed in rows or ("sft" in rows and re.fullmatch(r"sft-\d+", needed or ""))
        if needed is not None and not known:
            message = f"no row {quoted(needed)} in this recipe; {nearest(needed, ['file', *rows])}"
            found.append(Problem(("evaluation", "benchmarks", i, "reference"), message))
    return found


def _wrong_lists(recipe: Recipe) -> list[Problem]:
    """Weights given one by one for another number of responses than there will be."""
    responses = recipe.given_data.responses if recipe.given_data else None
    n = responses.n if responses else 2
    given = [(i, getattr(method.loss, "weights", None)) for i, method in enumerate(recipe.methods)]
    return [
        Problem(
            ("methods", i, "loss", "weights"), f"{len(weights)} weights for {n} responses; expected {n}, best first"
        )
        for i, weights in given
        if isinstance(weights, tuple) and len(weights) != n
    ]


def _at(i: int, method: Method) -> tuple[str, int, str]:
    """Where a recipe says whom its method no. `i` is matched to."""
    return "methods", i, "match_to" if method.match_to else "match"


def _unknown_targets(recipe: Recipe) -> list[Problem]:
    found = []
    for i, method in enumerate(recipe.methods):
        others = [other.id for other in recipe.methods if other is not method]
        if method.match is None:
            if method.match_to:
                message = "has no effect without `match`; add match: steps, prompts or tokens, or remove it"
                found.append(Problem(_at(i, method), message))
        elif (target := _target(recipe, method)) == method.id:
            advice = f"expected match_to: one of {', '.join(others)}" if others else "there is no other"
            found.append(Problem(_at(i, method), f"'{method.id}' would be matched to itself; {advice}"))
        elif target not in others:
            found.append(Problem(_at(i, method), f"unknown method {quoted(target)}; {nearest(target, others)}"))
    return found


def _circles(recipe: Recipe) -> list[Problem]:
    """Methods whose budgets would wait for each other's."""
    target = {method.id: _target(recipe, method) for method in recipe.methods if method.match}
    found = []
    for i, method in enumerate(recipe.methods):
        chain = [method.id]
        while chain[-1] in target and target[chain[-1]] not in chain:
            chain.append(target[chain[-1]])
        if target.get(chain[-1]) == method.id:
            circle = " -> ".join([*chain, method.id])
            found.append(Problem(_at(i, method), f"matched in a circle: {circle}; one of them needs epochs of its own"))
    return found


def _unmatched_seeds(recipe: Recipe) -> list[Problem]:
    arms = arms_of(recipe)
    found = []
    for i, method in enumerate(recipe.methods):
        lost = [arm for arm in arms if arm.method is method and method.match and matched(recipe, arm, arms) is None]
        if lost:
            target = _target(recipe, method)
            seed = recipe.seed if lost[0].seed is None else lost[0].seed
            there = ", ".join(str(arm.seed) for arm in arms if arm.method.id == target)
            message = f"'{target}' has no training with seed {seed} to match; its training seeds are {there}"
            found.append(Problem(_at(i, method), message))
    return found
