"""A board whose figures follow from its outcomes."""

import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.report.write import write_board
from tests.boards.measured import measured


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    """The entry's file of a board with one row and a baseline."""
    made = measured(random.Random(0), 40, 0)
    drawn_at_random = [round(random.Random(i).gauss(50, 2), 4) for i in range(50)]
    made = made.model_copy(update={"resamples": {"alpaca_eval.lc_win_rate": drawn_at_random}})
    write_board(tmp_path / "board", "board", [made])
    assert CliRunner().invoke(app, ["baseline", "promote", str(tmp_path / "board")]).exit_code == 0
    return tmp_path / "board" / "entries" / "dpo.json"
