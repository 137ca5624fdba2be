"""Checkpoints on the way of a training whose weights two processes of a CPU share (FSDP): those of one process."""

from pathlib import Path
from typing import Any

import pytest

from harness.recipe.training import Lora, Point
from tests.training.models import examples
from tests.training.processes.test_sharded import SHARDED, _sharding  # noqa: F401  the fixture
from tests.training.processes.test_training import job
from tests.training.runs import LORA, assert_same_weights, train

POINTS = (Point(share=0.34), Point(steps=4), Point(steps=99))
STEPS = {"0.34": 2, "step-4": 4, "step-99": 6}
"""Of six steps; the last is where training ends."""


@pytest.mark.slow
@pytest.mark.usefixtures("_sharding", "together")
@pytest.mark.parametrize("lora", [pytest.param(LORA, marks=pytest.mark.soak), None])
def test_checkpoints_on_the_way_are_those_of_one_process(tiny_model: Path, tmp_path: Path, lora: Lora | None) -> None:
    data, options = examples(12), {"epochs": 2, "lora": lora}
    expected, _ = train(tiny_model, data, tmp_path / "one", micro=1, points=POINTS, **options)
    shared = job(tiny_model, data, tmp_path / "two", **options).model_copy(update={"points": POINTS})
    report: dict[str, Any] = shared.launch(SHARDED, lambda _n: None)
    assert {name: used["steps"] for name, used in report["checkpoints"].items()} == STEPS
    assert report["checkpoints"] == expected["checkpoints"]
    assert sorted(path.name for path in (tmp_path / "two" / "at").iterdir()) == sorted(STEPS)
    for name in STEPS:
        assert_same_weights(tmp_path / "one" / "at" / name, tmp_path / "two" / "at" / name, atol=2e-4)
    with pytest.raises(AssertionError):
        assert_same_weights(tmp_path / "two" / "at" / "0.34", tmp_path / "two" / "at" / "step-4", atol=2e-4)
