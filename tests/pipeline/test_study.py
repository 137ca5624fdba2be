"""One plan of all cells: shared stages once, the one that serves others first, and rows named by their differences."""

from pathlib import Path

import pytest

from harness.engine.stage import Stage
from harness.engine.store import ArtifactRecord, Store
from harness.pipeline.estimates import Estimates, total_cost
from harness.pipeline.study import StudyPlan, make_study_plan
from harness.recipe.load import load_study

RECIPE = """\
name: s
seed: 1
policy: {{model: {model}, dtype: float32}}
data:
  seeds: [{{name: builtin}}]
  holdout: 0.2
  prompts: {{generator: {{name: hf, model: {model}}}, count: 4}}
  responses: {{generator: {{name: hf, model: {model}}}, n: 3, max_new_tokens: 12}}
  reward: {{name: length}}
methods:
  - {{id: pairs, loss: {{name: dpo_adjacent, beta: 0.1}}}}
  - {{id: multi, loss: {{name: mdpo_linear, beta: 0.1}}}}
evaluation:
  judge: {{name: local, model: {model}}}
  benchmarks: [{{name: alpaca_eval, prompts: builtin, reference: base, limit: 4}}]
sweep:
  grid:
    data.responses.n: [2, 5, 3]
    data.reward: {{trained: {{name: trained, base: {model}}}, length: {{name: length}}}}
"""


def plan(tmp_path: Path, model: Path, *edits: str) -> StudyPlan:
    (tmp_path / "s.yaml").write_text(RECIPE.format(model=model))
    return make_study_plan(load_study(tmp_path / "s.yaml", edits))


def of(swept: StudyPlan, name: str) -> list[Stage]:
    return [stage for stage in swept.stages if stage.name == name]


def test_shared_stages_are_planned_once(tmp_path: Path, tiny_model: Path) -> None:
    swept = plan(tmp_path, tiny_model)
    counts = {name: len(of(swept, name)) for name in ("seeds", "prompts", "responses", "reward", "ranked", "train")}
    assert counts == {"seeds": 1, "prompts": 1, "responses": 3, "reward": 2, "ranked": 6, "train": 12}
    assert len({stage.key for stage in swept.stages}) == len(swept.stages)


def test_inputs_come_first_and_the_largest_n_before_the_others(tmp_path: Path, tiny_model: Path) -> None:
    swept = plan(tmp_path, tiny_model)
    done: set[str] = set()
    for stage in swept.stages:
        assert {before.key for before in stage.inputs.values()} <= done
        done.add(stage.key)
    for name in ("responses", "ranked", "reference"):
        assert [stage.serves for stage in of(swept, name)] == sorted((s.serves for s in of(swept, name)), reverse=True)


def test_stages_that_add_to_one_journal_say_so(tmp_path: Path, tiny_model: Path) -> None:
    swept = plan(tmp_path, tiny_model)
    for name in ("responses", "reference", "verdicts"):
        first, *others = of(swept, name)
        assert first.exclusive
        assert all(stage.exclusive == first.exclusive for stage in others)
    by_reward = {stage.inputs["reward"].key: stage.exclusive for stage in of(swept, "ranked")}
    assert len(set(by_reward.values())) == 2


def test_rows_are_named_by_their_differences(tmp_path: Path, tiny_model: Path) -> None:
    rows = [row.row.id for row in plan(tmp_path, tiny_model).rows]
    assert rows[0] == "base"
    assert rows[1:3] == ["pairs.n-2.reward-trained", "multi.n-2.reward-trained"]
    assert len(rows) == len(set(rows)) == 13


def test_a_method_that_nothing_touches_has_one_row(tmp_path: Path, tiny_model: Path) -> None:
    swept = plan(tmp_path, tiny_model, "sweep={grid: {'methods[multi].loss.beta': [0.1, 0.5]}}")
    assert [row.row.id for row in swept.rows] == ["base", "pairs", "multi.beta-0.1", "multi.beta-0.5"]
    assert len(swept.rows[1].cells) == 2


def test_gates_hold_in_every_cell(tmp_path: Path, tiny_model: Path) -> None:
    swept = plan(tmp_path, tiny_model, "gates=[{row: multi, baseline_row: pairs}]")
    assert [(gate.row, gate.baseline_row) for gate in swept.gates][:2] == [
        ("multi.n-2.reward-trained", "pairs.n-2.reward-trained"),
        ("multi.n-2.reward-length", "pairs.n-2.reward-length"),
    ]
    assert len(swept.gates) == 6


def test_a_cell_alone_has_the_keys_that_it_has_in_the_sweep(tmp_path: Path, tiny_model: Path) -> None:
    swept = plan(tmp_path, tiny_model)
    alone = plan(tmp_path, tiny_model, "sweep={}", "data.responses.n=5", "data.reward={name: length}")
    assert {stage.key for stage in alone.stages} <= {stage.key for stage in swept.stages}


def test_what_sharing_saves(tmp_path: Path, tiny_model: Path) -> None:
    """Generated tokens: prompts once, responses of the largest N once, each row's answers; alone all of it per cell."""
    swept = plan(tmp_path, tiny_model)
    estimates = Estimates(swept, Store(tmp_path / "store"))
    largest = max(estimates.of[stage.key].generated_tokens for stage in of(swept, "responses"))
    answers = sum(estimates.of[stage.key].generated_tokens for stage in of(swept, "answers"))
    prompts = estimates.of[of(swept, "prompts")[0].key].generated_tokens
    assert estimates.together.generated == largest + answers + prompts
    each = {stage.key: estimates.of[stage.key].generated_tokens for stage in swept.stages}
    alone = sum(each[stage.key] for p in swept.plans for stage in {s.key: s for s in p.stages}.values())
    assert total_cost(estimates.alone).generated == alone > 1.5 * estimates.together.generated


def test_finished_judging_costs_what_it_cost(tmp_path: Path, tiny_model: Path) -> None:
    swept = plan(tmp_path, tiny_model)
    store = Store(tmp_path / "store")
    verdicts = of(swept, "verdicts")[-1]
    inputs = {role: stage.key for role, stage in verdicts.inputs.items()}
    record = ArtifactRecord(
        key=verdicts.key, stage="verdicts", version=verdicts.version, params=dict(verdicts.params), inputs=inputs,
        files={}, report={"dollars": 1.5}, made_by={}, seconds=1.0,
    )  # fmt: skip
    with store.lock(verdicts.key), store.building(verdicts.key) as scratch:
        store.publish(scratch, record)
    estimates = Estimates(swept, store)
    assert estimates.together.dollars == 1.5
    assert estimates.left.dollars == 0


def test_each_seed_has_stages_of_its_own(tmp_path: Path, tiny_model: Path) -> None:
    swept = plan(tmp_path, tiny_model, "sweep.grid[training.epochs]=[1, 2]", "sweep.seeds=[1, 2, 3, 4]")
    assert len(swept.plans) == 48
    assert [stage.id for stage in of(swept, "seeds")] == [f"seeds [seed-{seed}]" for seed in (1, 2, 3, 4)]


@pytest.mark.parametrize("cell", ["n-5.reward-length", "n-4.reward-length"])
def test_one_cell_is_chosen_by_its_id(cell: str, tmp_path: Path, tiny_model: Path) -> None:
    study = plan(tmp_path, tiny_model).study
    if cell.startswith("n-5"):
        assert study.cell(cell).settings == {"n": "5", "reward": "length"}
    else:
        with pytest.raises(Exception, match=r"no cell 'n-4.reward-length'; did you mean"):
            study.cell(cell)
