"""Every benchmark of this folder at its small size: it runs, and its last line holds figures."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.perf._shared import ROOT

FOLDER = Path(__file__).parent
NAMES = sorted(p.stem for p in FOLDER.glob("*.py") if not p.stem.startswith(("_", "test_")))
READ_DATA = [name for name in NAMES if "add_data(" in (FOLDER / f"{name}.py").read_text()]

pytestmark = pytest.mark.slow


def figures(folder: Path, name: str, *arguments: str) -> Any:
    """The last line of a benchmark that is run in `folder`."""
    command = [sys.executable, "-m", f"tests.perf.{name}", "--small", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def numbers(value: Any) -> list[Any]:
    """All that a JSON object holds below its names."""
    return [x for inner in value.values() for x in numbers(inner)] if isinstance(value, dict) else [value]


def assert_figures(value: Any) -> None:
    assert isinstance(value, dict)
    assert value
    for number in numbers(value):
        assert type(number) in (int, float), value
        assert math.isfinite(number), value


@pytest.mark.parametrize("name", NAMES)
def test_it_runs(tmp_path: Path, name: str) -> None:
    assert_figures(figures(tmp_path, name))


class TestWithoutTheRealData:
    """A class of its own, which may run on another processor than the tests above."""

    @pytest.mark.parametrize("name", READ_DATA)
    def test_it_runs(self, tmp_path: Path, name: str) -> None:
        assert_figures(figures(tmp_path, name, "--data", str(tmp_path / "absent")))
