"""Mistakes in a component's file are found when it is loaded, and are one line."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

from harness import components, protocols
from harness.benchmark import Benchmark
from harness.components import component_class
from harness.errors import ComponentError
from harness.figures import Figure
from harness.protocols import Component

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("seam", "body", "message"),
    [
        (
            protocols.Judge,
            {"resample": True, "__annotations__": {"resample": ClassVar[bool]}},
            "did you mean 'resamples'",
        ),
        (protocols.Judge, {"resample": True, "__annotations__": {"resample": bool}}, "did you mean 'resamples'"),
        (
            protocols.Judge,
            {"quick": True, "__annotations__": {"quick": ClassVar[bool]}},
            "flags are is_metered, is_served",
        ),
        (protocols.Judge, {"member": property(lambda self: ())}, "did you mean 'members'"),
        (protocols.RewardModel, {"group_wise": property(lambda self: True)}, "did you mean 'groupwise'"),
        (protocols.Loss, {"on_pair": True, "__annotations__": {"on_pair": ClassVar[bool]}}, "did you mean 'on_pairs'"),
        (Benchmark, {"metric": lambda self, answers, reference, verdicts: {}}, "did you mean 'metrics'"),
        (
            Benchmark,
            {"figure": (), "__annotations__": {"figure": ClassVar[tuple[Figure, ...]]}},
            "did you mean 'figures'",
        ),
    ],
)
def test_a_misspelt_flag_is_an_error_when_the_class_is_made(
    seam: type[Component], body: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        type("Mine", (seam,), {"__module__": __name__, **body})


def test_a_flag_that_is_spelt_right_is_none() -> None:
    body = {"__module__": __name__, "resamples": True, "__annotations__": {"resamples": ClassVar[bool]}}
    mine = type("Mine", (protocols.Judge,), {**body, "reply": lambda self, requests: []})
    assert mine(name="mine").resamples
    assert not mine(name="mine").is_metered


BROKEN = {
    "from harness.losses._base import PreferenceLoss\n\n\nclass Mine(PreferenceLoss):\n    name: str = 'mine'\n\n"
    "    def loses(self, batch, pairs):\n        return batch.logps.sum(dim=1)\n": "Mine must define losses",
    "from harness.losses._base import PreferenceLoss\n\n\nclass Mine(PreferenceLoss):\n    name: str = 'mine'\n": (
        "Mine must define losses"
    ),
    "from harness.losses._base import DpoLoss\n\n\nclass Mine(DpoLoss):\n    name: str = 'other'\n\n"
    "    def losses(self, batch, pairs):\n        return batch.logps.sum(dim=1)\n": (
        "installed as 'mine'; make them the same"
    ),
    "import nothing_of_this_name\n": "ModuleNotFoundError: No module named 'nothing_of_this_name'",
}


@pytest.mark.parametrize(("text", "message"), BROKEN.items(), ids=["misspelt", "incomplete", "name", "import"])
def test_a_broken_component_file_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(text)
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harness.losses]\nmine = mine\n")
    recipe = (ROOT / "recipes" / "quickstart.yaml").read_text().replace("name: dpo_best_worst", "name: mine")
    (tmp_path / "x.yaml").write_text(recipe)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    command = [sys.executable, "-m", "harness.cli", "validate", "--offline", "x.yaml"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_a_figure_of_another_benchmark_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[1] / "benchmarks" / "arena.py").read_text()
    (tmp_path / "arena_typo.py").write_text(text.replace('metric="arena_hard.score"', 'metric="arena_had.score"'))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(components, "modules", lambda _: {"arena_hard": "arena_typo"})
    with pytest.raises(ComponentError, match=r"declares the figure 'arena_had\.score'; expected 'arena_hard\.'"):
        component_class("benchmark", "arena_hard")
