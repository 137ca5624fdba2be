"""Which runs a plan has for experiment trackers: names, groups, tags, settings; and no key that depends on them."""

from pathlib import Path

import pytest

from harness.pipeline.live.trackers import TrackedPlan
from harness.pipeline.study import StudyPlan, make_study_plan
from harness.recipe.load import load_study
from harness.trackers.tracked import current

RECIPE = """\
name: mine
seed: 1
policy: {{model: {model}, dtype: float32}}
data:
  seeds: [{{name: builtin}}]
  holdout: 0.2
  responses: {{generator: {{name: hf, model: {model}}}, n: 3, max_new_tokens: 12}}
  reward: {{name: trained, base: {model}}}
methods:
  - {{id: multi, loss: {{name: mdpo_linear, beta: 0.1}}, training: {{sft: {{}}, seeds: [0, 1]}}}}
  - {{id: ipo-1, engine: trl, loss: {{name: ipo, beta: 0.5}}}}
evaluation:
  judge: {{name: local, model: {model}}}
  benchmarks: [{{name: alpaca_eval, prompts: builtin, reference: base, limit: 4}}]
"""
TRACKED = "runtime: {report_to: tensorboard}\n"
SWEEP = "sweep: {grid: {training.learning_rate: [1.0e-4, 2.0e-4]}}\n"


def plan(folder: Path, model: Path, more: str = TRACKED) -> StudyPlan:
    (folder / "x.yaml").write_text(RECIPE.format(model=model) + more)
    return make_study_plan(load_study(folder / "x.yaml"))


def test_every_training_is_a_run_of_its_row(tmp_path: Path, tiny_model: Path) -> None:
    pytest.importorskip("tensorboard")
    runs = list(TrackedPlan(plan(tmp_path, tiny_model), tmp_path / "logs").runs.values())
    assert {run.row: (run.kind, run.tags) for run in runs} == {
        "reward": ("reward", ("trained",)),
        "sft": ("sft", ()),
        "multi.seed-0": ("train", ("multi", "mdpo_linear", "N=3")),
        "multi.seed-1": ("train", ("multi", "mdpo_linear", "N=3")),
        "ipo-1": ("train", ("ipo-1", "ipo", "N=3")),
    }
    assert {run.group for run in runs} == {"mine"}
    assert len({run.id for run in runs}) == len(runs)
    assert all(run.name == f"{run.row}-{run.key[:8]}" for run in runs)
    of = {run.row: run.config for run in runs}
    assert of["ipo-1"]["loss"]["beta"] == 0.5
    assert of["multi.seed-1"]["training_seed"] == 1
    assert of["multi.seed-1"]["inputs"]["responses"]["n"] == 3
    assert of["multi.seed-1"]["inputs"]["reward"]["reward"]["name"] == "trained"
    assert "sha256" not in str(of)


def test_rows_of_a_sweep_are_named_with_their_settings(tmp_path: Path, tiny_model: Path) -> None:
    pytest.importorskip("tensorboard")
    swept = plan(tmp_path, tiny_model, TRACKED + SWEEP)
    runs = TrackedPlan(swept, tmp_path / "logs").runs.values()
    assert {run.row for run in runs if run.kind == "train"} == {
        member.row.id for member in swept.rows if member.row.policy and member.row.arm
    }
    assert sum(run.kind == "reward" for run in runs) == 1, "all cells share it"
    assert {run.config["cell"]["learning_rate"] for run in runs if run.row.startswith("ipo-1")} == {"0.0001", "0.0002"}


def test_trackers_are_in_no_key(tmp_path: Path, tiny_model: Path) -> None:
    pytest.importorskip("tensorboard")
    without = plan(tmp_path, tiny_model, "")
    tracked = TrackedPlan(plan(tmp_path, tiny_model), tmp_path / "logs")
    assert [stage.key for stage in tracked.stages] == [stage.key for stage in without.stages]
    assert TrackedPlan(without, tmp_path / "logs").runs == {}
    again = TrackedPlan(plan(tmp_path, tiny_model), tmp_path / "logs").runs
    assert [run.id for run in again.values()] == [run.id for run in tracked.runs.values()]


def test_a_stage_is_its_run_only_while_it_trains(tmp_path: Path, tiny_model: Path) -> None:
    pytest.importorskip("tensorboard")
    from dataclasses import replace

    planned = plan(tmp_path, tiny_model)
    seen = []

    def body(_ctx: object) -> dict[str, object]:
        seen.append(current())
        return {}

    planned.__dict__["stages"] = [replace(stage, body=body) for stage in planned.stages]
    tracked = TrackedPlan(planned, tmp_path / "logs")
    for stage in tracked.stages:
        stage.body(None)  # type: ignore[arg-type]
        assert current() is None
    assert [run.key if run else None for run in seen] == [
        stage.key if stage.key in tracked.runs else None for stage in tracked.stages
    ]
