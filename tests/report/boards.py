"""Boards with answers beside them, the answers as bad as they come."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.benchmark import JudgedRow
from harness.boards.entry import Entry
from harness.components import build
from harness.pipeline.guards import answer_flags
from harness.pipeline.public_data import write_public_data
from harness.report.write import write_board
from harness.stats.intervals import mean_metric
from harness.types import Answer, Metric, Verdict

NASTY = (
    "<script>window.hacked = 1</script>",
    "</textarea><img src=x onerror=window.hacked=1>",
    "</script><script>window.hacked = 1</script>",
    "[click](javascript:window.hacked=1)",
    "\u202eright to left\u202c and \u2066isolated\u2069",
    "<!-- <script>",
    "&lt;b&gt; {{7*7}} ${7*7}",
)


def board_with_answers(folder: Path, rows: int = 3) -> None:
    """`rows` rows on both builtin benchmarks; row i wins prompt k where i + k is even. The first row's name is odd."""
    alpaca = build("benchmark", {"name": "alpaca_eval", "prompts": "builtin", "reference": "file"})
    bench = build("benchmark", {"name": "mt_bench", "questions": "builtin"})
    entries, judged = [], {"alpaca_eval": [], "mt_bench": []}
    for i in range(rows):
        name = f"row {i} <b>bold</b>" if i == 0 else f"row-{i}"
        figures, outcomes, guards = {}, {}, {}
        strata = {"mt_bench": {q.id: q.category for q in bench.load_questions()}}  # type: ignore[attr-defined]
        for made in (alpaca, bench):
            answers, verdicts = [], []
            for k, q in enumerate(made.load_questions()):  # type: ignore[attr-defined]
                texts = tuple(
                    f"Answer {i} to {k}, turn {t}: {NASTY[(i + k + t) % len(NASTY)]}" for t, _ in enumerate(q.turns)
                )
                answers.append(Answer(question_id=q.id, turns=texts, finish_reasons=(), tokens=None))
                for t, _ in enumerate(q.turns, start=1):
                    won = (i + k) % 2 == 0
                    value = (1.9 if won else 1.1) if made is alpaca else (8.0 if won else 3.0)
                    lost = k == 4
                    verdicts.append(
                        Verdict(
                            question_id=q.id,
                            turn=None if made is alpaca else t,
                            category=q.category,
                            value=None if lost else value,
                            invalid="the judge fell silent" if lost else None,
                            prompt=" ".join(texts),
                            reply=f"The judge says: {NASTY[k % len(NASTY)]}",
                        )
                    )
            judged[made.name].append(JudgedRow(name, answers, [], verdicts))
            figures |= made.metrics(answers, [], verdicts)  # type: ignore[attr-defined]
            outcomes[made.name] = {
                v.question_id if v.turn is None else f"{v.question_id}/{v.turn}": v.value for v in verdicts
            }
            guards[made.name] = [flag.model_dump(mode="json") for flag in answer_flags(answers)]
        provenance = {
            "judge": {"name": "openai", "model": "j"},
            "judge_calibration": "uncalibrated",
            "benchmarks": {"alpaca_eval": {"limit": None}, "mt_bench": {"limit": None}},
            "guards": guards,
            "training": {"first_loss": 0.69, "last_loss": 0.5 - i / 10, "steps": 40},
            "recipe": {"name": NASTY[0]},
        }
        entries.append(
            Entry(id=name, method="nca", metrics=figures, provenance=provenance, outcomes=outcomes, strata=strata)
        )
    write_board(folder, "nasty </title><script>window.hacked = 1</script>", entries)
    files = alpaca.public_files("j", judged["alpaca_eval"])  # type: ignore[attr-defined]
    write_public_data(folder, files | bench.public_files("j", judged["mt_bench"]))  # type: ignore[attr-defined]


def trained_rows(
    names: Sequence[str], seeds: int = 1, prompts: int = 60, categories: bool = False, **more: Any
) -> list[Entry]:
    """Rows of methods that answered the same prompts, each method half a point better than the one before up to the
    tenth; with several seeds a row each, with a spread of one point. `categories`: they were also rated on MT-bench."""
    rng = random.Random(0)
    hard = [0.2 + 0.5 * rng.random() for _ in range(prompts)]
    rows = []
    for i, name in enumerate(names):
        for s in range(seeds):
            shift = 0.005 * min(i, 10) + rng.gauss(0, 0.01) * (seeds > 1)
            values = {f"q{k}": 1 + min(1.0, max(0.0, h + shift + rng.gauss(0, 0.03))) for k, h in enumerate(hard)}
            facts = {"method_id": name, "training_seed": s} if seeds > 1 else {}
            ratings = {f"{k}/1": float(rng.randint(2, 9)) for k in range(80)} if categories else {}
            won = mean_metric([v - 1 for v in values.values()], scale=100, limits=(0.0, 100.0))
            losses = {"first_loss": 0.7, "last_loss": 0.6 - i / 100}
            provenance = {
                "judge": {"name": "j"},
                "judge_calibration": "recorded",
                "benchmarks": {"alpaca_eval": {}, **({"mt_bench": {}} if categories else {})},
                "training": {"steps": 10, "forward_tokens": 1000, **losses},
                **facts,
                **more,
            }
            rows.append(
                Entry(
                    id=f"{name}.seed-{s}" if seeds > 1 else name,
                    method="dpo_adjacent",
                    metrics={"alpaca_eval.win_rate": won, **_rated(list(ratings.values()))},
                    provenance=provenance,
                    outcomes={"alpaca_eval": dict(values), **({"mt_bench": dict(ratings)} if categories else {})},
                )
            )
    return rows


def _rated(ratings: Sequence[float]) -> dict[str, Metric]:
    """MT-bench's score and categories, ten questions each."""
    kinds = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
    parts = {f"mt_bench.{kind}": mean_metric(ratings[10 * k : 10 * k + 10]) for k, kind in enumerate(kinds)}
    return {"mt_bench.score": mean_metric(ratings), **parts} if ratings else {}
