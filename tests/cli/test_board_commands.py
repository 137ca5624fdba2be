"""`harness show` without a name, and `harness diff`, on a command line."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.cli.endings import as_exit_code
from harness.errors import DataError
from harness.report.write import write_board
from tests.gate.rows import row
from tests.pipeline.test_board import RECIPE, write_systems


def lines(*arguments: str) -> list[str]:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.exception
    return done.output.splitlines()


def test_show_lists_boards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"there are no boards in leaderboards; name one, as in harness show BOARD"):
        CliRunner().invoke(app, ["show"], catch_exceptions=False)
    write_board(Path("leaderboards/one"), "one", [row("a", 0, 200), row("b", 5, 200)])
    write_board(Path("leaderboards/two"), "two", [row("a", 0, 200)])
    Path("leaderboards/torn/entries").mkdir(parents=True)
    Path("leaderboards/torn/board.json").write_text("{")
    Path("leaderboards/notes.txt").write_text("mine")
    shown = lines("show")
    assert shown == lines("show", "leaderboards")
    heads = [line for line in shown if not line.startswith(" ")]
    assert [line.split()[0] for line in heads] == ["leaderboards/one", "leaderboards/torn", "leaderboards/two"]
    assert heads[0].endswith(" UTC  2 rows")
    assert "can't be read" in heads[1]
    assert heads[2].endswith(" UTC  1 row")
    below = [line.strip() for line in shown if line.startswith(" ")]
    assert below[0].startswith("b against a, by AlpacaEval win rate")
    assert below[1] == "No two of its rows can be compared."


def test_diff_needs_an_old_board_that_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_board(tmp_path / "one", "one", [row("a", 0, 200)])
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "board.json").write_text("{")
    board, torn = str(tmp_path / "one"), str(tmp_path / "torn")
    for arguments, named in (
        ([board], "has replaced no board"),
        ([str(tmp_path / "none")], "none does not exist"),
        ([board, torn], "torn/board.json can't be read"),
        ([str(tmp_path / "none"), board], "none does not exist"),
        ([board, board, board], "compares two boards, got 3"),
    ):
        error = CliRunner().invoke(app, ["diff", *arguments]).exception
        assert error is not None
        assert as_exit_code(error) == 2
        printed = capsys.readouterr().err
        assert named in printed
        assert printed.count("\n") == 1


@pytest.mark.slow
def test_a_run_says_where_the_old_board_is_and_diff_what_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_systems(tmp_path)
    (tmp_path / "x.yaml").write_text(RECIPE)
    run = ["run", "x.yaml", "--store", "store"]
    assert not [line for line in lines(*run) if "kept" in line]
    (told,) = [line for line in lines(*run, "--set", "evaluation.benchmarks.0.limit=11") if "kept" in line]
    kept = told.removeprefix("The board that was here is kept in ").partition(";")[0]
    assert told.endswith("; what changed: harness diff leaderboards/study")
    assert not [line for line in lines(*run, "--set", "evaluation.benchmarks.0.limit=11") if "kept" in line]
    changed = lines("diff", "leaderboards/study")
    assert changed == lines("diff", kept, "leaderboards/study")
    assert "1 field of the recipe (evaluation.benchmarks.0.limit (alpaca_eval) 12 → 11)" in " ".join(changed)
    assert "No row can be compared: different alpaca_eval: limit: 12 -> 11" in " ".join(changed)
    assert lines("show", "leaderboards/study/history")[0].startswith(f"{kept}  ")
