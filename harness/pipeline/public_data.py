"""Writes a board's answers and verdicts in the benchmarks' public formats, for the benchmarks' own tools."""

from collections.abc import Mapping
from pathlib import Path

from harness.benchmark import Benchmark, JudgedRow
from harness.boards.folder import write_owned
from harness.boards.read import DATA
from harness.boards.writing import writing
from harness.components import identity
from harness.engine.execute import ExecutionResult
from harness.errors import StoreError
from harness.pipeline.planning.row import PlannedRow
from harness.pipeline.study import StudyPlan
from harness.protocols import Judge
from harness.recipe.recipe import Recipe
from harness.recipe.systems import is_replay
from harness.types import Answer, Verdict


def public_data(plan: StudyPlan, executed: ExecutionResult) -> dict[str, str]:
    """File contents by path in the board's folder, for all judged rows."""
    by_judge: dict[tuple[str, str], tuple[Benchmark, list[JudgedRow]]] = {}
    for member in plan.rows:
        recipe, row = member.cell.recipe, member.row
        for benchmark in recipe.evaluation.benchmarks if recipe.evaluation else []:
            name = identity(benchmark)["name"]
            if name in row.verdicts:
                judge = _judge_name(recipe, benchmark, row, executed)
                by_judge.setdefault((name, judge), (benchmark, []))[1].append(_judged_row(row, name, executed))
    files: dict[str, str] = {}
    for (_, judge), (benchmark, rows) in by_judge.items():
        files |= benchmark.public_files(judge, rows)
    return files


def _judged_row(row: PlannedRow, name: str, executed: ExecutionResult) -> JudgedRow:
    verdicts = executed.artifacts[row.verdicts[name].key]
    reference = row.verdicts[name].inputs.get("reference")
    return JudgedRow(
        row.id,
        executed.artifacts[row.answers[name].key].rows("answers.jsonl", Answer),
        executed.artifacts[reference.key].rows("answers.jsonl", Answer) if reference else [],
        verdicts.rows("verdicts.jsonl", Verdict),
    )


def _judge_name(recipe: Recipe, benchmark: Benchmark, row: PlannedRow, executed: ExecutionResult) -> str:
    """The judge's name in public files: who gave the recorded verdicts, else the judge's model or component."""
    if not benchmark.judged:
        return "none"
    if is_replay(recipe):
        return str(executed.artifacts[row.verdicts[identity(benchmark)["name"]].key].report["recorded_by"])
    assert recipe.evaluation
    return judge_name(recipe.evaluation.judge_of(benchmark))


def judge_name(judge: Judge) -> str:
    """A judge's model, or its component where it has none."""
    about = identity(judge)
    model = about.get("model", "")
    return str(model.get("model", about["name"]) if isinstance(model, Mapping) else model or about["name"])


def write_public_data(folder: Path, files: Mapping[str, str]) -> None:
    """Replace the files in the board's `data` folder that a run has written. Raises StoreError."""
    try:
        with writing(folder):
            write_owned(folder, files, among=lambda name: name.startswith(f"{DATA}/"))
    except OSError as error:
        raise StoreError(
            f"{folder / DATA} can't be written ({error.strerror or error}); check free space and permissions"
        ) from None
