"""Choosing among candidates: which rows stand for their methods, and that no figure is of prompts that were used."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.boards.entry import Entry, stands_for_its_method
from harness.claims.selection import selection_words
from harness.engine.execute import ExecutionResult
from harness.errors import RecipeError
from harness.figures import GOLD_REWARD
from harness.pipeline.selection import choose
from harness.pipeline.selection.prompts import Rest, chosen_on, reported_on
from harness.pipeline.study import StudyPlan, make_study_plan
from harness.recipe.load import Study, load_study
from harness.types import Metric

BENCHMARK = "alpaca_eval"
PROMPTS = [f"q{i}" for i in range(10)]


def study(model: Path, select: dict[str, Any], grid: dict[str, list[Any]], **more: Any) -> Study:
    recipe = {
        "name": "s",
        "seed": 1,
        "policy": {"model": str(model), "dtype": "float32"},
        "data": {"seeds": [{"name": "builtin"}], "holdout": 0.2},
        "methods": [
            {"id": "pairs", "loss": {"name": "dpo_adjacent", "beta": 0.1}},
            {"id": "multi", "loss": {"name": "mdpo_linear", "beta": 0.1}},
        ],
        "training": {"seeds": [1, 2], "lora": {"r": 4}},
        "evaluation": {
            "judge": {"name": "local", "model": str(model)},
            "benchmarks": [{"name": BENCHMARK, "prompts": "builtin", "reference": "base", "limit": 10}],
            "checkpoints": [0.5],
            "select": {"metric": f"{BENCHMARK}.win_rate", "prompts": 0.3, **select},
        },
        **({"sweep": {"grid": grid}} if grid else {}),
        **more,
    }
    return load_study(recipe)


def rest_of(benchmark: Any, verdicts: Any, executed: Any, left_out: frozenset[str]) -> Rest:
    kept = {name: 1.5 for name in PROMPTS if name not in left_out}
    return Rest({f"{BENCHMARK}.win_rate": Metric(value=50.0, n=len(kept))}, kept, {}, {})


def rows(plan: StudyPlan, rates: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> dict[str, Entry]:
    """The board's rows after the choice. `rates`: win rates of rows whose id begins so, in percent; of others, 50."""
    monkeypatch.setattr(choose, "rest_of", rest_of)
    entries = []
    for member in plan.rows:
        rate = next((value for name, value in rates.items() if member.row.id.startswith(name)), 50.0)
        own = dict.fromkeys(PROMPTS, 1 + rate / 100)
        gold = {f"{BENCHMARK}:{name}": float(i) for i, name in enumerate(PROMPTS)}
        about = {"checkpoint": {"point": member.row.point.name}} if member.row.point else {}
        outcomes = {BENCHMARK: own, GOLD_REWARD.benchmark: gold}
        entries.append(Entry(id=member.row.id, method="m", outcomes=outcomes, provenance=about))
    executed = cast(ExecutionResult, SimpleNamespace(artifacts={}))
    return {entry.id: entry for entry in choose.with_selection(plan, entries, executed)}


def test_a_method_without_the_axis_is_one_candidate_and_stands(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_study_plan(study(tiny_model, {"over": ["beta"]}, {"methods.0.loss.beta": [0.1, 0.5]}))
    found = rows(plan, {"pairs.seed-1.beta-0.5": 70.0, "pairs.seed-2.beta-0.5": 40.0}, monkeypatch)
    standing = [name for name, entry in found.items() if stands_for_its_method(entry)]
    assert sorted(standing) == sorted(
        ["base", "multi.seed-1", "multi.seed-2", "pairs.seed-1.beta-0.5", "pairs.seed-2.beta-0.5"]
    )
    facts = found["multi.seed-1"].provenance.selection
    assert facts is not None
    assert facts.candidates == {"beta 0.1 or 0.5": pytest.approx(50)}
    chosen = found["pairs.seed-2.beta-0.5"].provenance.selection
    assert chosen is not None
    assert chosen.candidates == {"beta 0.1": pytest.approx(50), "beta 0.5": pytest.approx(55)}
    words = " ".join(selection_words([found[name] for name in standing], BENCHMARK))
    assert "the best of its 1 to 2 candidates" in words
    assert "unequally many" in words


def test_each_other_value_has_its_own_choice_and_a_shared_row_is_chosen_once(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = {"methods.0.loss.beta": [0.1, 0.5], "training.learning_rate": [1e-4, 1e-3]}
    plan = make_study_plan(study(tiny_model, {"over": ["learning_rate", "checkpoint"]}, grid))
    found = rows(plan, {"multi.seed-1.at-0.5.learning_rate-0.001": 90.0, "pairs.seed-1.beta-0.5": 60.0}, monkeypatch)
    chosen = [name for name, entry in found.items() if (of := entry.provenance.selection) and of.is_chosen]
    assert [name for name in chosen if name.startswith("multi")] == [
        "multi.seed-1.at-0.5.learning_rate-0.001",
        "multi.seed-2.at-0.5.learning_rate-0.001",
    ]
    for value in ("0.1", "0.5"):
        assert sum(f"beta-{value}" in name for name in chosen) == 2  # one candidate, of two seeds
    assert {len(e.provenance.selection.candidates) for e in found.values() if e.provenance.selection} == {4}


def test_no_figure_is_of_the_prompts(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = study(tiny_model, {}, {})
    found = rows(make_study_plan(made), {}, monkeypatch)
    rest = reported_on(made.cells[0].recipe, made.cells[0].recipe.evaluation.benchmarks[0], PROMPTS)  # type: ignore[union-attr]
    assert len(rest) == 7
    for entry in found.values():
        assert list(entry.outcomes[BENCHMARK]) == rest
        gold = entry.outcomes[GOLD_REWARD.benchmark]
        assert list(gold) == [f"{BENCHMARK}:{name}" for name in rest]
        assert entry.metrics[GOLD_REWARD.metric].n == 7
        assert entry.metrics[GOLD_REWARD.metric].value == pytest.approx(sum(v or 0.0 for v in gold.values()) / 7)


def test_one_cell_alone_has_nothing_to_choose_among(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swept = study(tiny_model, {"over": ["beta"]}, {"methods.0.loss.beta": [0.1, 0.5]})
    found = rows(make_study_plan(swept.only("beta-0.5")), {}, monkeypatch)
    assert all(entry.provenance.selection is None for entry in found.values())
    assert {len(entry.outcomes[BENCHMARK]) for entry in found.values()} == {10}


@pytest.mark.parametrize("share", [0.001, 0.5, 0.97, 0.999])
def test_some_prompts_are_chosen_on_and_some_are_left(share: float) -> None:
    for n in (2, 3, 10):
        assert 0 < len(chosen_on(PROMPTS[:n], share, 0)) < n


@pytest.mark.parametrize(
    ("select", "grid", "more", "why"),
    [
        ({"over": ["lr"]}, {"training.learning_rate": [1e-4, 1e-3]}, {}, "over: nothing varies 'lr'"),
        ({}, {}, {"methods": []}, "there are no `methods`"),
        ({}, {"evaluation.select.prompts": [0.2, 0.4]}, {}, "a sweep has one way to choose"),
        ({"over": ["limit"]}, {"evaluation.benchmarks.0.limit": [4, 8]}, {}, "not judged alike"),
    ],
)
def test_what_can_not_be_chosen_among_is_said_before_anything_runs(
    tiny_model: Path, select: dict[str, Any], grid: dict[str, list[Any]], more: dict[str, Any], why: str
) -> None:
    with pytest.raises(RecipeError, match=why):
        study(tiny_model, select, grid, **more)


def test_rows_that_were_chosen_otherwise_or_not_at_all_are_told() -> None:
    def row(name: str, **facts: Any) -> Entry:
        about = {"metric": f"{BENCHMARK}.win_rate", "over": ["checkpoint"], "candidates": {"a": 1.0, "b": 2.0}, **facts}
        return Entry(
            id=name,
            method="m",
            provenance={"method_id": name, "training": {}, **({"selection": about} if facts else {})},
        )

    first, second = row("x", prompts=3, candidate="b", is_chosen=True), row("y", prompts=4, candidate="a")
    words = selection_words([first, second, row("z")], BENCHMARK)
    assert len([text for text in words if "best of its 2 candidates" in text]) == 2
    assert any("not all chosen in the same way" in text for text in words)
    assert any("were not chosen" in text for text in words)
    assert selection_words([row("z")], BENCHMARK) == []
