"""Boards with answers, and people who label their pages."""

import atexit
import json
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.benchmark import JudgedRow
from harness.boards.entry import Entry
from harness.boards.gold.verdicts import GOLD
from harness.components import build
from harness.pipeline.public_data import write_public_data
from harness.report.write import write_board
from harness.stats.intervals import mean_metric
from harness.types import Answer, Verdict
from tests.report.boards import NASTY

ROWS = ("row 0 <b>bold</b>", "row-1", "row-2")
ROW = ROWS[1]


@lru_cache(maxsize=1)
def _written() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="board-to-label-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    benchmarks: list[Any] = [
        build("benchmark", {"name": "alpaca_eval", "prompts": "builtin", "reference": "file"}),
        build("benchmark", {"name": "mt_bench", "questions": "builtin"}),
    ]
    entries: list[Entry] = []
    files: dict[str, str] = {}
    judged = [[_judged(benchmark, name, i) for i, name in enumerate(ROWS)] for benchmark in benchmarks]
    for benchmark, rows in zip(benchmarks, judged, strict=True):
        files |= benchmark.public_files("the-judge", rows)
    for name, (wins, ratings) in zip(ROWS, zip(*judged, strict=True), strict=True):
        won = mean_metric([(v.value or 1) - 1 for v in wins.verdicts], scale=100, limits=(0.0, 100.0))
        scores = [v.value for v in ratings.verdicts]
        score = mean_metric(scores, groups=[v.question_id for v in ratings.verdicts], limits=(0.0, 10.0))
        entries.append(
            Entry(
                id=name,
                method="nca",
                metrics={"alpaca_eval.win_rate": won, "mt_bench.score": score},
                provenance={"judge": {"name": "openai"}, "benchmarks": {"alpaca_eval": {}, "mt_bench": {}}},
                outcomes={
                    "alpaca_eval": {v.key: v.value for v in wins.verdicts},
                    "mt_bench": {v.key: v.value for v in ratings.verdicts},
                },
            )
        )
    write_board(folder, "nasty </title><script>window.hacked = 1</script>", entries)
    write_public_data(folder, files)
    return folder


def _judged(benchmark: Any, name: str, i: int) -> JudgedRow:
    """Row i wins question k where i + k is even."""
    answers, verdicts = [], []
    for k, question in enumerate(benchmark.load_questions()):
        good, is_wins = (i + k) % 2 == 0, benchmark.name == "alpaca_eval"
        texts = tuple(
            f"Answer {i} to {k}, turn {t}: {NASTY[(i + k + t) % len(NASTY)]}" for t, _ in enumerate(question.turns)
        )
        answers.append(Answer(question_id=question.id, turns=texts, finish_reasons=(), tokens=None))
        for t, _ in enumerate(question.turns, start=1):
            value = (1.9 if good else 1.1) if is_wins else (8.0 if good else 3.0)
            turn = None if is_wins else t
            verdicts.append(Verdict(question_id=question.id, turn=turn, value=value, reply="The judge says so"))
    return JudgedRow(name, answers, [], verdicts)


def board(folder: Path) -> Path:
    """A board whose row i wins prompt k of both benchmarks where i + k is even; AlpacaEval has 32 prompts."""
    shutil.copytree(_written(), folder)
    return folder


def key_of(folder: Path) -> dict[str, Any]:
    """The only key beside a board."""
    (path,) = (folder / GOLD).glob("*.key.json")
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def saved(folder: Path, path: Path, likes: Any, annotator: str = "ada", **changes: Any) -> Path:
    """The file that somebody saves who likes `likes(item)`: the row's answer, the other, or neither (None)."""
    key = key_of(folder)
    labels = {}
    for item in key["items"]:
        if item["row_is"] == "same":
            continue
        choice = likes(item)
        other = "left" if item["row_is"] == "right" else "right"
        labels[str(item["number"])] = {True: item["row_is"], False: other}.get(choice, choice or "tie")
    content = {"harness_labels": 1, "page": key["id"], "annotator": annotator, "labels": labels}
    path.write_text(json.dumps(content | changes))
    return path
