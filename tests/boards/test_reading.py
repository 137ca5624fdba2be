"""Boards are read whatever their files are, and what is not theirs is refused in a line."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.boards.read import boards_in, read_board
from harness.cli.app import app
from harness.errors import DataError
from harness.report.page import page
from tests.gate.rows import board, row
from tests.sample_boards import drawn

COMMITTED = sorted(path.parent for path in (Path(__file__).parents[2] / "leaderboards").glob("*/board.json"))


@pytest.mark.parametrize("folder", COMMITTED, ids=[path.name for path in COMMITTED])
def test_committed_boards_are_read_and_their_comparisons_are_right(folder: Path) -> None:
    opened = read_board(folder)
    assert opened.comparisons == opened.listed


@pytest.mark.parametrize(
    "bare", ["NaN", "1e999", "-Infinity", '"1.5"', '1.5, "q0": 1.5', "[" * 999 + "]" * 999, "9" * 99]
)
def test_numbers_that_json_does_not_know_are_refused(bare: str, entry: Path) -> None:
    entry.write_text(entry.read_text().replace('"q0": ', f'"q0": {bare}, "q00": ', 1))
    with pytest.raises(DataError, match=r"dpo\.json"):
        read_board(entry.parents[1])


@pytest.mark.parametrize("kind", ["FIFO", "device", "secret", "nowhere", "folder", "sparse"])
@pytest.mark.parametrize("file", ["entries/dpo.json", "board.json", "entries"])
def test_what_is_no_file_of_the_boards_own_ends_in_a_line(kind: str, file: str, entry: Path, tmp_path: Path) -> None:
    path = entry.parents[1] / file
    path.rename(tmp_path / "kept")
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "sparse":
        with path.open("wb") as large:
            large.truncate(100 << 20)
    else:
        path.symlink_to({"device": Path("/dev/zero"), "secret": tmp_path / "kept", "nowhere": Path("/none")}[kind])
    with pytest.raises(DataError, match=r"can't be read|is not a board"):
        read_board(entry.parents[1])


def test_a_board_may_itself_be_a_link(entry: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(entry.parents[1])
    (tmp_path / "linked.json").symlink_to(entry.parents[1] / "board.json")
    assert read_board(tmp_path / "latest").entries == read_board(entry.parents[1]).entries
    assert read_board(tmp_path / "linked.json").entries == read_board(entry.parents[1]).entries


# --- comparisons and rows beside the entries


def test_another_boards_comparisons_are_computed_anew(tmp_path: Path) -> None:
    one = board(tmp_path / "one", row("a", 0, 40), row("b", 0.5, 40), row("c", 1, 40))
    two = board(tmp_path / "two", row("a", 0, 40), row("b", 20, 40), row("c", 40, 40))
    right = read_board(one).comparisons
    shown, html = drawn(one, 200), page(one)
    file = json.loads((one / "board.json").read_text())
    file["comparisons"] = json.loads((two / "board.json").read_text())["comparisons"]
    (one / "board.json").write_text(json.dumps(file))
    assert read_board(one).listed != right
    assert {m: list(map(tuple, cs)) for m, cs in read_board(one).comparisons.items()} == {
        m: list(map(tuple, cs)) for m, cs in right.items()
    }
    assert drawn(one, 200) == shown
    assert page(one) == html


@pytest.mark.parametrize(
    "field", ["difference", "stderr", "unpaired_stderr", "p", "adjusted_p", "detectable", "prompts"]
)
def test_a_comparison_that_was_changed_is_computed_anew(field: str, tmp_path: Path) -> None:
    folder = board(tmp_path / "one", row("a", 0, 60), row("b", 3, 60), row("c", -2, 60))
    right = read_board(folder).comparisons
    file = json.loads((folder / "board.json").read_text())
    for pair in file["comparisons"]["alpaca_eval.win_rate"]:
        pair[field] = pair[field] * 2 + 1
    (folder / "board.json").write_text(json.dumps(file))
    assert read_board(folder).comparisons == {name: tuple(pairs) for name, pairs in right.items()}


def test_the_entries_count_where_board_json_says_something_else(entry: Path) -> None:
    path = entry.parents[1] / "board.json"
    file = json.loads(path.read_text())
    file["rows"][0]["metrics"]["alpaca_eval.win_rate"]["value"] = 99.9
    path.write_text(json.dumps(file))
    assert read_board(entry.parents[1]).entries[0].value("alpaca_eval.win_rate") != 99.9


def test_a_row_twice_is_refused(entry: Path) -> None:
    (entry.parent / "copy.json").write_bytes(entry.read_bytes())
    (entry.parents[1] / "board.json").unlink()
    with pytest.raises(DataError, match="row 'dpo' is there twice"):
        read_board(entry.parents[1])


def test_a_folder_of_boards_lists_them(tmp_path: Path) -> None:
    made = [board(tmp_path / name, row("a", 0, 20)) for name in ("one", "two")]
    (tmp_path / "notes.txt").write_text("x")
    assert boards_in(tmp_path) == made
    assert boards_in(made[0]) == []
    done = CliRunner().invoke(app, ["show", str(tmp_path)])
    listed = [line.split()[0] for line in done.output.splitlines() if not line.startswith(" ")]
    assert (done.exit_code, listed) == (0, [str(path) for path in made])
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert f"holds 2 boards; name one of them: {made[0]}, {made[1]}" in str(done.exception)
