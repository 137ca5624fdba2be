"""MT-bench as tests build it, answers to it, and recorded ones."""

import gzip
import json
from pathlib import Path
from typing import Any

from harness.benchmarks.mt_bench.benchmark import MtBench
from harness.components import build
from harness.types import Answer

CATEGORIES = ["writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities"]


def benchmark(**fields: Any) -> MtBench:
    made = build("benchmark", {"name": "mt_bench"} | fields)
    assert isinstance(made, MtBench)
    return made


def recorded_answers(shared_data: Path, model: str) -> dict[int, dict[str, Any]]:
    lines = (shared_data / "mt_bench" / "recorded" / model / "model_answer.jsonl").read_text().split("\n")
    return {row["question_id"]: row for row in map(json.loads, filter(None, lines))}


def recorded_judgments(shared_data: Path, model: str) -> list[dict[str, Any]]:
    with gzip.open(shared_data / "mt_bench" / "recorded" / model / "gpt-4_single.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


def as_answers(rows: dict[int, dict[str, Any]]) -> list[Answer]:
    return [
        Answer(question_id=str(i), turns=tuple(row["choices"][0]["turns"]), finish_reasons=(), tokens=0)
        for i, row in rows.items()
    ]


def answers(made: MtBench, text: str = "A") -> list[Answer]:
    """An answer a turn, in which its question and turn are named."""
    return [
        Answer(
            question_id=q.id,
            turns=tuple(f"{text}{q.id}.{k}" for k in range(1, len(q.turns) + 1)),
            finish_reasons=(),
            tokens=None,
        )
        for q in made.load_questions()
    ]
