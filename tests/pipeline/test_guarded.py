"""The guards of a row look at the prompts that its figures are of, and leave out those that something was chosen on."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.boards.entry import Entry
from harness.engine.execute import ExecutionResult
from harness.pipeline.provenance.guarded import with_guards
from harness.pipeline.selection.choose import left_out
from harness.pipeline.study import StudyPlan, StudyRow, make_study_plan
from harness.recipe.load import load_study
from harness.types import Answer

BENCHMARK = "alpaca_eval"
PROMPTS = [f"q{i}" for i in range(20)]


@pytest.fixture
def plan(tiny_model: Path) -> StudyPlan:
    generator = {"name": "hf", "model": str(tiny_model), "dtype": "float32"}
    recipe = {
        "name": "s",
        "seed": 1,
        "policy": {"model": str(tiny_model), "dtype": "float32"},
        "data": {
            "seeds": [{"name": "builtin"}],
            "holdout": 0.2,
            "responses": {"generator": generator, "n": 2},
            "reward": {"name": "length"},
        },
        "methods": [{"id": "dpo", "loss": {"name": "dpo_adjacent", "beta": 0.1}}],
        "evaluation": {
            "judge": {"name": "local", "model": str(tiny_model)},
            "benchmarks": [{"name": BENCHMARK, "prompts": "builtin", "reference": "file", "limit": 20}],
            "checkpoints": [0.5],
            "select": {"metric": f"{BENCHMARK}.win_rate", "prompts": 0.5},
            "gold_reward": {"name": "gold", "words": [1, 9]},
        },
    }
    return make_study_plan(load_study(recipe))


class Artifacts(dict[str, Any]):
    """Those of the stages that are given; all others are empty."""

    def __missing__(self, key: str) -> Any:
        files: dict[str, Any] = {"metrics.json": {}, "outcomes.json": {"gold_reward": {}}}
        return SimpleNamespace(report={"dtype": "float32"}, json=files.__getitem__, rows=lambda *_: [])


def guarded(plan: StudyPlan, artifacts: Artifacts, unreported: dict[str, frozenset[str]]) -> dict[str, str]:
    """The texts of the flags of the trained row by name."""
    member = row(plan)
    entry = Entry(id="dpo", method="m", provenance={"answers": {BENCHMARK: {}}, "leaks": {}})  # type: ignore[arg-type]
    executed = cast(ExecutionResult, SimpleNamespace(artifacts=artifacts))
    guards = with_guards(entry, member, executed, unreported).provenance.guards
    return {flag.name: flag.text for flags in guards.values() for flag in flags}


def row(plan: StudyPlan, name: str = "dpo") -> StudyRow:
    return next(member for member in plan.rows if member.row.id == name)


def chosen(plan: StudyPlan) -> frozenset[str]:
    entries = [Entry(id=m.row.id, method="m", outcomes={BENCHMARK: dict.fromkeys(PROMPTS, 1.5)}) for m in plan.rows]
    found = left_out(plan, entries)
    assert list(found) == [BENCHMARK]
    assert len(found[BENCHMARK]) == 10
    return found[BENCHMARK]


def test_answers_to_prompts_that_were_chosen_on_raise_no_flag(plan: StudyPlan) -> None:
    slice_ = chosen(plan)

    def answers(bad: set[str]) -> Artifacts:
        rows = [
            Answer(
                question_id=prompt,
                turns=(f"{prompt} says {i * 7919}{prompt * i}",),
                finish_reasons=("length" if prompt in bad else "stop",),
                tokens=3,
            )
            for i, prompt in enumerate(PROMPTS)
        ]
        return Artifacts({row(plan).row.answers[BENCHMARK].key: SimpleNamespace(rows=lambda *_: rows)})

    there = answers(set(sorted(slice_)[:5]))
    assert guarded(plan, there, {})["truncated"] == "5 of 20 answers were cut at the token limit"
    assert "truncated" not in guarded(plan, there, {BENCHMARK: slice_})
    here = answers(set(sorted(set(PROMPTS) - slice_)[:3]))
    assert "truncated" not in guarded(plan, here, {})
    found = guarded(plan, here, {BENCHMARK: slice_})
    assert found["truncated"] == "3 of 10 answers were cut at the token limit"


def test_a_row_is_overoptimised_only_by_what_is_reported(plan: StudyPlan) -> None:
    slice_ = chosen(plan)

    def scores(gold: dict[str, float], proxy: dict[str, float], **report: Any) -> Any:
        outcomes = {
            name: {f"{BENCHMARK}:{k}": values.get(k, 0.0) + i / 1000 for i, k in enumerate(PROMPTS)}
            for name, values in (("gold_reward", gold), ("proxy_reward", proxy))
        }
        return SimpleNamespace(json={"outcomes.json": outcomes}.__getitem__, report=report)

    base, own = row(plan, "base").row.rewards, row(plan).row.rewards
    assert base is not None
    assert own is not None

    def found(gold: dict[str, float], proxy: dict[str, float]) -> dict[str, str]:
        artifacts = Artifacts({base.key: scores({}, {}), own.key: scores(gold, proxy, overoptimised=None)})
        return guarded(plan, artifacts, {BENCHMARK: slice_})

    up = {prompt: 1.0 + i / 100 for i, prompt in enumerate(PROMPTS)}
    down = {prompt: -1.0 - i / 100 for i, prompt in enumerate(PROMPTS)}
    rest = {prompt: value for prompt, value in down.items() if prompt not in slice_}
    assert "gold's fell" in found(rest, up)["overoptimised"]
    assert "overoptimised" not in found({k: v for k, v in down.items() if k in slice_}, up)
