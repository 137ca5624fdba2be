"""A plan counts every request to a judge: of each sample, order and game."""

from typing import Any

import pytest

from harness.components import build
from harness.engine.stage import Stage
from harness.recipe.evaluation import Evaluation
from harness.stages.verdicts import verdicts_stage

FREE = {"name": "openai", "model": "m", "base_url": "http://127.0.0.1:1/v1"}


def calls(fields: dict[str, Any]) -> tuple[int, int]:
    """(the calls that are estimated, the prompts)."""
    evaluation = Evaluation.model_validate(
        {"judge": FREE, "benchmarks": [fields | {"limit": 4}], "answers": {"max_new_tokens": 16}}
    )
    (benchmark,) = evaluation.benchmarks
    answers = Stage("answers/x/row", "answers", 1, {}, {}, lambda ctx: {})
    stage = verdicts_stage("row", evaluation, benchmark, answers, answers, 4)
    return stage.estimate().judge_calls, sum(len(q.turns) for q in benchmark.load_questions())


@pytest.mark.parametrize(
    ("fields", "each"),
    [
        ({}, 1),
        ({"orders": "both"}, 2),
        ({"samples": 5}, 5),
        ({"samples": 5, "orders": "both"}, 10),
    ],
)
def test_of_alpaca_eval(fields: dict[str, Any], each: int) -> None:
    found, prompts = calls({"name": "alpaca_eval", "prompts": "builtin", "reference": "base"} | fields)
    assert (found, prompts) == (4 * each, 4)


def test_of_mt_bench() -> None:
    assert calls({"name": "mt_bench", "questions": "builtin"}) == (8, 8)
    made: Any = build("benchmark", {"name": "mt_bench", "mode": "pairwise", "reference": "base"})
    assert made.requests_per_turn == 2
