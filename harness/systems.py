"""Rows from files, as a recipe lists them: what may be wrong with them, and whether their verdicts were recorded."""

from collections.abc import Mapping
from pathlib import Path

from harness.errors import nearest, quoted
from harness.plain_yaml import FieldPath
from harness.recipe import Recipe
from harness.recipe_problems import Problem

SYSTEM = "system"
"""The method of a row whose answers come from a file."""


def is_replay(recipe: Recipe) -> bool:
    """Whether the recipe's judge is the one that only has recorded verdicts."""
    return recipe.evaluation is not None and getattr(recipe.evaluation.judge, "recorded", False)


def problems(recipe: Recipe) -> list[Problem]:
    """What is wrong with the systems: names, files that are not there, verdicts that are missing."""
    found = []
    # Their identities would read files, which are looked at later.
    benchmarks: list[str] = [b.name for b in recipe.evaluation.benchmarks] if recipe.evaluation else []  # type: ignore[attr-defined]
    taken = {"base", *(method.id for method in recipe.methods)}
    for i, system in enumerate(recipe.systems):
        at: FieldPath = ("systems", i)
        if system.id in taken:
            found.append(Problem((*at, "id"), f"there is a row '{system.id}' already; give it another id"))
        taken.add(system.id)
        for field, files in (("answers", system.answers), ("verdicts", system.verdicts)):
            found += [
                Problem((*at, field, name), f"no benchmark {quoted(name)} in evaluation; {nearest(name, benchmarks)}")
                for name in files
                if name not in benchmarks
            ]
            found += _missing((*at, field), files)
        for name in system.verdicts.keys() - system.answers.keys():
            found.append(
                Problem((*at, "verdicts", name), f"verdicts on answers that are not given: add answers.{name}")
            )
        if is_replay(recipe):
            for name in system.answers.keys() - system.verdicts.keys():
                message = f"no recorded verdicts for judge 'replay': give verdicts.{name}, or another judge"
                found.append(Problem((*at, "answers", name), message))
    if is_replay(recipe) and recipe.given_policy:
        message = "'replay' has verdicts on the systems' answers only; the policy's rows need a judge that can be asked"
        found.append(Problem(("evaluation", "judge", "name"), message))
    return found


def _missing(at: FieldPath, files: Mapping[str, Path]) -> list[Problem]:
    return [
        Problem((*at, name), f"no file {path}; expected the public format, plain or .gz")
        for name, path in files.items()
        if not path.is_file()
    ]
