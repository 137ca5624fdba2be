"""The answers and verdicts beside a board, as the page's browser of examples shows them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.alpaca_files import instruction_id
from harness.board_rows import Entry
from harness.datafiles import file_name
from harness.errors import DataError

DATA = "data"
MEND = "run the recipe again, or remove the board's data folder"


def examples(board: Path, entries: Sequence[Entry]) -> dict[str, Any]:
    """`prompts`: [{id, category, turns, reference}] of all benchmarks; `rows`: row -> prompt id -> [answers a turn,
    values a turn, the judge's words a turn, why not scored a turn]. Empty where the board has no answers beside it."""
    prompts: dict[str, dict[str, Any]] = {}
    rows: dict[str, dict[str, Any]] = {entry.id: {} for entry in entries}
    for entry in entries:
        _alpaca_eval(board / DATA / "alpaca_eval" / file_name(entry.id), prompts, rows[entry.id])
    _mt_bench(board / DATA / "mt_bench", prompts, rows)
    return {"prompts": list(prompts.values()), "rows": {name: found for name, found in rows.items() if found}}


def _alpaca_eval(folder: Path, prompts: dict[str, dict[str, Any]], row: dict[str, Any]) -> None:
    if not (folder / "model_outputs.json").is_file():
        return
    outputs = {item["instruction"]: item["output"] for item in _json(folder / "model_outputs.json")}
    path = folder / "annotations.json"
    judged = {item["instruction"]: item for item in _json(path)} if path.is_file() else {}
    for instruction, output in outputs.items():
        key, verdict = f"alpaca_eval {instruction_id(instruction)}", judged.get(instruction, {})
        prompt = prompts.setdefault(
            key, {"id": key, "category": "AlpacaEval", "turns": [instruction], "reference": None}
        )
        if prompt["reference"] is None and "output_1" in verdict:
            prompt["reference"] = [str(verdict.get("generator_1") or "reference"), verdict["output_1"]]
        row[key] = [
            [output],
            [verdict.get("preference")],
            [str(verdict.get("raw_completion") or "")],
            [verdict.get("invalid")],
        ]


def _mt_bench(folder: Path, prompts: dict[str, dict[str, Any]], rows: Mapping[str, dict[str, Any]]) -> None:
    if not (folder / "question.jsonl").is_file():
        return
    for question in _lines(folder / "question.jsonl"):
        key = f"mt_bench {question['question_id']}"
        category = str(question.get("category") or "MT-bench")
        prompts[key] = {
            "id": key,
            "set": "MT-bench",
            "category": category,
            "turns": question["turns"],
            "reference": None,
        }
    for name, row in rows.items():
        path = folder / "model_answer" / f"{file_name(name)}.jsonl"
        for answer in _lines(path) if path.is_file() else []:
            turns = answer["choices"][0]["turns"]
            row[f"mt_bench {answer['question_id']}"] = [
                turns,
                [None] * len(turns),
                [""] * len(turns),
                [None] * len(turns),
            ]
    for path in sorted((folder / "model_judgment").glob("*_single.jsonl")):
        for judgment in _lines(path):
            found = rows.get(str(judgment["model"]), {}).get(f"mt_bench {judgment['question_id']}")
            turn = int(judgment["turn"]) - 1
            if found is not None and turn < len(found[0]):
                scored = judgment["score"] != -1
                found[1][turn] = judgment["score"] if scored else None
                found[2][turn] = str(judgment["judgment"])
                found[3][turn] = None if scored else str(judgment.get("invalid") or "not scored")


def _json(path: Path) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} can't be read ({error}); run the recipe again, or remove the board's data folder"
        ) from None
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        # Not splitlines(): texts may hold U+2028 and its like.
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} can't be read ({error}); run the recipe again, or remove the board's data folder"
        ) from None
