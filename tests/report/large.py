"""Ten rows on the real prompts: the recorded systems' answers, some of them twice."""

from pathlib import Path
from typing import Any

from harness.benchmark import JudgedRow
from harness.boards.entry import Entry
from harness.components import build
from harness.pipeline.public_data import write_public_data
from harness.report.write import write_board
from harness.stats.intervals import mean_metric


def large_board(folder: Path, shared_data: Path) -> None:
    alpaca: Any = build("benchmark", {"name": "alpaca_eval", "data_dir": str(shared_data / "alpaca_eval")})
    bench: Any = build("benchmark", {"name": "mt_bench", "data_dir": str(shared_data / "mt_bench")})
    systems = sorted((shared_data / "alpaca_eval" / "recorded").iterdir())
    chats = sorted((shared_data / "mt_bench" / "recorded").iterdir())
    entries, compared, rated = [], [], []
    for i in range(10):
        system, chat = systems[i % len(systems)], chats[i % len(chats)]
        answers, _ = alpaca.recorded_answers(system / "model_outputs.json.gz")
        verdicts, _, _ = alpaca.recorded_verdicts(system / "annotations.json.gz", answers)
        replies, _ = bench.recorded_answers(chat / "model_answer.jsonl")
        ratings, _, _ = bench.recorded_verdicts(chat / "gpt-4_single.jsonl.gz", replies)
        name = f"row-{i}"
        compared.append(JudgedRow(name, answers, [], verdicts))
        rated.append(JudgedRow(name, replies, [], ratings))
        values = [None if v.value is None else v.value - 1 for v in verdicts]
        outcomes = {
            "alpaca_eval": {v.question_id: v.value for v in verdicts},
            "mt_bench": {f"{v.question_id}/{v.turn}": v.value for v in ratings},
        }
        metrics = bench.metrics(replies, [], ratings) | {"alpaca_eval.win_rate": mean_metric(values, scale=100)}
        judge = {"judge": {"name": "replay"}, "judge_calibration": "recorded"}
        strata = {"mt_bench": {q.id: q.category for q in bench.load_questions()}}
        facts = {"metrics": metrics, "provenance": judge, "outcomes": outcomes, "strata": strata}
        entries.append(Entry(id=name, method="system", **facts))
    write_board(folder, "large", entries)
    write_public_data(folder, alpaca.public_files("gpt4", compared) | bench.public_files("gpt-4", rated))
