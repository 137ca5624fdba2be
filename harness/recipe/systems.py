"""Checks of a recipe's `systems`: rows whose answers, and optionally verdicts, come from files."""

from collections.abc import Mapping

from harness.errors import nearest, quoted
from harness.recipe.evaluation import RecordedFile
from harness.recipe.reading.plain_yaml import FieldPath
from harness.recipe.reading.problems import Problem
from harness.recipe.recipe import BASE, Recipe

SYSTEM = "system"
"""The method of a row whose answers come from files."""


def is_replay(recipe: Recipe) -> bool:
    """Whether the recipe's judge only replays recorded verdicts."""
    return recipe.evaluation is not None and recipe.evaluation.is_replay


def system_problems(recipe: Recipe) -> list[Problem]:
    """Problems of the systems: duplicate ids, missing files, missing verdicts."""
    problems = []
    # By name: a benchmark's identity would read its files, which are checked later.
    benchmarks: list[str] = [b.name for b in recipe.evaluation.benchmarks] if recipe.evaluation else []
    judged = {b.name for b in recipe.evaluation.judged} if recipe.evaluation else set()
    row_ids = {BASE, *(method.id for method in recipe.methods)}
    for i, system in enumerate(recipe.systems):
        path: FieldPath = ("systems", i)
        if system.id in row_ids:
            problems.append(Problem((*path, "id"), f"another row has the id '{system.id}'; choose a different one"))
        row_ids.add(system.id)
        for field, files in (("answers", system.answers), ("verdicts", system.verdicts)):
            problems += [
                Problem((*path, field, name), f"no benchmark {quoted(name)} in evaluation; {nearest(name, benchmarks)}")
                for name in files
                if name not in benchmarks
            ]
            problems += _missing_files((*path, field), files)
        for name in system.verdicts.keys() - system.answers.keys():
            message = f"verdicts without their answers: add answers.{name}"
            problems.append(Problem((*path, "verdicts", name), message))
        if is_replay(recipe):
            for name in (system.answers.keys() & judged) - system.verdicts.keys():
                message = f"no recorded verdicts for judge 'replay': give verdicts.{name}, or another judge"
                problems.append(Problem((*path, "answers", name), message))
    if is_replay(recipe) and recipe.policy:
        message = "'replay' only has verdicts on the systems' answers; the policy's rows need another judge"
        problems.append(Problem(("evaluation", "judge", "name"), message))
    return problems


def _missing_files(path: FieldPath, files: Mapping[str, RecordedFile]) -> list[Problem]:
    return [
        Problem(
            (*path, name), f"no file {recorded.file}; expected a file in the benchmark's public format, plain or .gz"
        )
        for name, recorded in files.items()
        if not recorded.file.is_file()
    ]
