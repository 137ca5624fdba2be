"""Checkpoints on the way: each is what the training would have left if it had ended there, and changes nothing."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.errors import StoreError
from harness.recipe.evaluation import Checkpoints
from harness.recipe.policy import Policy
from harness.recipe.training import Point, Training
from harness.recipe.trl_loss import TrlLoss
from harness.training.budget import Budget
from harness.training.trl.dpo import train_with_trl
from tests.training.models import examples
from tests.training.runs import LENGTHS, LORA, assert_same_weights, train, untimed

POINTS = (Point(share=0.25), Point(share=0.5), Point(steps=7))
STEPS = {"0.25": 2, "0.5": 5, "step-7": 7}  # of 10, and half of an odd number is rounded to even
CONSTANT: dict[str, Any] = {"epochs": 2, "lr_scheduler": "constant_with_warmup", "warmup_ratio": 0.0}


@pytest.mark.parametrize(
    "options",
    [
        {"lora": {"r": 4, "dropout": 0.2}},
        pytest.param({"lora": False}, marks=pytest.mark.slow),
        pytest.param({"merge": True}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_the_training_is_the_same_and_each_point_is_a_shorter_one(
    tiny_model: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    plain, steps = train(tiny_model, examples(20), tmp_path / "plain", **CONSTANT, **options)
    report, same = train(tiny_model, examples(20), tmp_path / "points", points=POINTS, **CONSTANT, **options)
    assert untimed(same) == untimed(steps)
    assert_same_weights(tmp_path / "plain", tmp_path / "points", atol=0)
    assert {name: used["steps"] for name, used in report["checkpoints"].items()} == STEPS
    assert "checkpoints" not in plain
    assert sorted(p.name for p in (tmp_path / "points" / "at").iterdir()) == sorted(STEPS)
    for name, count in [*STEPS.items()][1:]:
        ended = tmp_path / f"until-{name}"
        short, _ = train(tiny_model, examples(20), ended, budget=Budget("steps", count), **CONSTANT, **options)
        assert_same_weights(ended, tmp_path / "points" / "at" / name, atol=0)
        used = report["checkpoints"][name]
        assert used == {key: short[key] for key in used}
        assert used["forward_tokens"] > 0


@pytest.mark.slow
def test_trl_leaves_the_same(tiny_model: Path, tmp_path: Path) -> None:
    def run(name: str, points: tuple[Point, ...] = (), budget: Budget | None = None) -> dict[str, Any]:
        (tmp_path / name).mkdir()
        return train_with_trl(
            Policy(model=str(tiny_model), dtype="float32"),
            examples(20),
            TrlLoss.model_validate({"name": "sigmoid", "pairs": "best_worst"}),
            Training.model_validate({"learning_rate": 5e-3, "batch_size": 4, "lora": LORA, **LENGTHS, **CONSTANT}),
            folder=tmp_path / name,
            seed=3,
            micro_batch_size=2,
            advance=lambda _n: None,
            points=points,
            budget=budget,
        )

    run("plain")
    report = run("points", POINTS)
    assert_same_weights(tmp_path / "plain", tmp_path / "points", atol=0)
    for name, count in STEPS.items():
        short = run(f"until-{name}", budget=Budget("steps", count))
        assert_same_weights(tmp_path / f"until-{name}", tmp_path / "points" / "at" / name, atol=0)
        assert report["checkpoints"][name]["steps"] == count
        assert report["checkpoints"][name]["forward_tokens"] == short["forward_tokens"]


def test_a_resumed_training_has_each_point_once(tiny_model: Path, tmp_path: Path) -> None:
    partial = tmp_path / "partial"
    options: dict[str, Any] = {**CONSTANT, "save_every": 4, "points": POINTS}
    straight, _ = train(tiny_model, examples(20), tmp_path / "one", partial_folder=partial, **options)
    for step in (8, 10):  # as if it had been killed while it wrote the last point
        shutil.rmtree(partial / f"checkpoint-{step}")
    (partial / "at" / "step-7").rename(partial / "at" / "step-7.unfinished")
    report, _ = train(tiny_model, examples(20), tmp_path / "two", partial_folder=partial, **options)
    assert report["checkpoints"] == straight["checkpoints"]
    for name in STEPS:
        assert_same_weights(tmp_path / "one" / "at" / name, tmp_path / "two" / "at" / name, atol=1e-7)
    assert sorted(p.name for p in (tmp_path / "two" / "at").iterdir()) == sorted(STEPS)


def test_a_point_that_was_taken_away_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    partial = tmp_path / "partial"
    options: dict[str, Any] = {**CONSTANT, "save_every": 4, "points": POINTS, "partial_folder": partial}
    train(tiny_model, examples(20), tmp_path / "one", **options)
    shutil.rmtree(partial / "at" / "0.25")
    with pytest.raises(StoreError, match=r"at/0\.25: missing, though the training is beyond its step"):
        train(tiny_model, examples(20), tmp_path / "two", **options)


def test_points_beyond_the_last_step_are_the_last_policy(tiny_model: Path, tmp_path: Path) -> None:
    report, _ = train(tiny_model, examples(8), tmp_path / "run", points=[Point(steps=50)], epochs=1)
    assert report["checkpoints"]["step-50"]["steps"] == report["steps"]
    assert_same_weights(tmp_path / "run", tmp_path / "run" / "at" / "step-50", atol=0)


def test_its_folder_is_loaded_by_others(tiny_model: Path, tmp_path: Path) -> None:
    for number, partial in enumerate((None, tmp_path / "deep" / "down" / "partial")):
        run = tmp_path / f"run-{number}"
        train(tiny_model, examples(8), run, points=[Point(share=0.5)], epochs=1, partial_folder=partial)
        checkpoint = run / "at" / "0.5" / "checkpoint"
        adapter = json.loads((checkpoint / "adapter_config.json").read_text())
        assert (checkpoint / adapter["base_model_name_or_path"]).resolve() == tiny_model


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([0.5, 0.5], "expected each share once"),
        ([1.0, 1.0], "expected each share once"),
        ([], "expected shares of the training"),
        (0.5, "expected shares of the training"),
        ("half", "expected shares of the training"),
        ([1.5], "less than or equal to 1"),
        ({"every": 0}, "greater than or equal to 1"),
        ({"every": 2, "at": [0.5]}, "expected shares of the training"),
        ([i / 100 for i in range(1, 52)], "at most 50 checkpoints"),
    ],
)
def test_what_makes_no_sense_is_refused(value: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Checkpoints.model_validate(value)


def test_every_so_many_steps() -> None:
    every = Checkpoints.model_validate({"every": 4})
    assert [point.name for point in every.points(13)] == ["step-4", "step-8", "step-12"]
    assert [point.name for point in every.points(12)] == ["step-4", "step-8"]  # the 12th is the last one
    assert every.points(4) == ()
    with pytest.raises(ValueError, match="would be 63 checkpoints; expected at most 50"):
        every.points(253)
