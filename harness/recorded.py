"""Stages of rows from files: a system's answers in a benchmark's public format, and the verdicts recorded on them."""

from pathlib import Path
from typing import Any

from harness import datafiles
from harness.components import identity
from harness.evaluate import write_metrics
from harness.protocols import Benchmark
from harness.recipe import System
from harness.stages import Context, Stage
from harness.store import write_rows
from harness.types import Answer


def recorded_answers_stage(system: System, benchmark: Benchmark) -> Stage:
    """A system's answers as its file has them: `answers.jsonl`. What is missing, twice there or of other questions is
    counted."""
    name = identity(benchmark)["name"]
    path = system.answers[name]

    def body(ctx: Context) -> dict[str, Any]:
        answers, counts = benchmark.recorded_answers(path)
        write_rows(ctx.folder / "answers.jsonl", answers)
        return {"questions": len(answers), "file": counts}

    params = {"questions": benchmark.question_identity(), "file_sha256": _file_hash(path)}
    return Stage(f"answers/{name}/{system.id}", "recorded_answers", 1, params, {}, body)


def recorded_verdicts_stage(system: System, benchmark: Benchmark, answers: Stage, reference: Stage | None) -> Stage:
    """Recorded verdicts on a system's answers: `verdicts.jsonl`, `metrics.json`. `recorded_by`: who gave them. Nothing
    that the file lacks, or that failed when it was made, is scored."""
    name = identity(benchmark)["name"]
    path = system.verdicts[name]

    def body(ctx: Context) -> dict[str, Any]:
        given = ctx.inputs["answers"].rows("answers.jsonl", Answer)
        against = ctx.inputs["reference"].rows("answers.jsonl", Answer) if "reference" in ctx.inputs else []
        verdicts, counts, judge = benchmark.recorded_verdicts(path, given)
        write_rows(ctx.folder / "verdicts.jsonl", verdicts)
        write_metrics(ctx, benchmark.metrics(given, against, verdicts))
        return {"invalid": sum(v.value is None for v in verdicts), "file": counts, "recorded_by": judge}

    params = {"benchmark": identity(benchmark), "file_sha256": _file_hash(path)}
    inputs = {"answers": answers} | ({"reference": reference} if reference else {})
    return Stage(f"verdicts/{name}/{system.id}", "recorded_verdicts", 2, params, inputs, body)


def _file_hash(path: Path) -> str:
    """Of the content, packed or not."""
    return datafiles.sha256(datafiles.read_bytes(path))
