"""AlpacaEval as tests build it, answers to it, and the official rows and verdicts that they are held against."""

import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.benchmarks.alpaca_eval.benchmark import AlpacaEval
from harness.benchmarks.alpaca_eval.package import package_folder
from harness.components import build
from harness.types import Answer, Message, prompt_id


def benchmark(**fields: Any) -> AlpacaEval:
    made = build("benchmark", {"name": "alpaca_eval"} | fields)
    assert isinstance(made, AlpacaEval)
    return made


def official(shared_data: Path, **fields: Any) -> AlpacaEval:
    """With the official prompts and references."""
    return benchmark(data_dir=str(shared_data / "alpaca_eval"), **fields)


def question_id(instruction: str) -> str:
    return prompt_id([Message(role="user", content=instruction)])


def answer(instruction: str, text: str, reason: str = "stop") -> Answer:
    return Answer.model_validate(
        {"question_id": question_id(instruction), "turns": (text,), "finish_reasons": (reason,), "tokens": 1}
    )


def prompts_file(folder: Path, rows: Sequence[dict[str, str]]) -> Path:
    path = folder / "prompts.json"
    path.write_text(json.dumps(list(rows)))
    return path


def recorded(shared_data: Path, model: str, name: str) -> list[dict[str, Any]]:
    with gzip.open(shared_data / "alpaca_eval" / "recorded" / model / f"{name}.json.gz") as file:
        return list(json.load(file))


def official_row(model: str) -> dict[str, str]:
    board = "leaderboards/data_AlpacaEval_2/weighted_alpaca_eval_gpt4_turbo_leaderboard.csv"
    with (package_folder() / board).open() as file:
        return next(row for row in csv.DictReader(file) if row[""] == model)
