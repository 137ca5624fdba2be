"""Garbage is collected in all commands but those that end at once."""

import gc
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.boards import read
from harness.cli.app import app
from harness.pipeline import run
from harness.recipe import load

ROOT = Path(__file__).parents[2]


class Stop(Exception):
    """Ends a command where it begins its work."""


def is_collecting(monkeypatch: pytest.MonkeyPatch, module: object, function: str, *arguments: str) -> bool:
    """Whether garbage is collected when a command calls a function."""
    states: list[bool] = []

    def stop(*args: object, **options: object) -> None:
        states.append(gc.isenabled())
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(module, function, stop)
        assert isinstance(CliRunner().invoke(app, arguments).exception, Stop)
    assert gc.isenabled()
    return states == [True]


def test_short_commands_collect_no_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    quickstart, board = str(ROOT / "recipes" / "quickstart.yaml"), str(ROOT / "leaderboards" / "quickstart")
    assert not is_collecting(monkeypatch, read, "read_board", "show", board)
    assert not is_collecting(monkeypatch, load, "load_study", "validate", quickstart)
    assert not is_collecting(monkeypatch, load, "load_study", "plan", quickstart)


def test_long_commands_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    quickstart, board = str(ROOT / "recipes" / "quickstart.yaml"), str(ROOT / "leaderboards" / "quickstart")
    assert is_collecting(monkeypatch, load, "load_study", "run", quickstart)
    assert is_collecting(monkeypatch, run, "run_study", "run", quickstart)
    assert is_collecting(monkeypatch, read, "read_board", "merge", board, "--out", str(tmp_path / "merged"))
