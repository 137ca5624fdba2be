"""The boards that a folder has had: kept whole, bounded in number, and safe from links, strangers and kills."""

import os
from pathlib import Path

import pytest

from harness.boards import folder as folder_module
from harness.boards.entry import Entry
from harness.boards.read import read_board
from harness.boards.versions import history
from harness.boards.versions.history import keep_board, kept_boards, last_kept, moment
from harness.boards.writing import writing
from harness.errors import DataError, StoreError
from harness.report.write import write_board
from tests.gate.rows import row
from tests.sample_boards import contents


def rows(shift: float) -> list[Entry]:
    return [row("base", 0, 200), row("dpo", shift, 200)]


def replaced(folder: Path, entries: list[Entry]) -> Path | None:
    """What a run does with its board."""
    with writing(folder):
        kept = keep_board(folder, entries)
        write_board(folder, folder.name, entries)
    return kept


def test_what_is_replaced_is_kept_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    assert replaced(folder, rows(0)) is None
    before = read_board(folder)
    kept = replaced(folder, rows(5))
    assert kept is not None
    assert kept == last_kept(folder) == last_kept(folder / "board.json")
    assert kept.name == f"0001-{before.generated[:10]}"  # type: ignore[index]
    assert read_board(kept) == before
    assert read_board(folder).entries[1] == rows(5)[1]
    assert moment(before.generated).startswith(f"{before.generated[:10]} ")  # type: ignore[index]


def test_the_same_board_makes_no_history(tmp_path: Path) -> None:
    replaced(tmp_path / "mine", rows(0))
    assert replaced(tmp_path / "mine", rows(0)) is None
    with pytest.raises(DataError, match="mine has replaced no board: name the one to compare it with"):
        last_kept(tmp_path / "mine")
    assert not (tmp_path / "mine" / "history").exists()


def test_the_oldest_are_removed_but_none_with_a_file_of_the_user_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "KEPT", 3)
    folder = tmp_path / "mine"
    for shift in range(3):
        replaced(folder, rows(shift))
    (kept_boards(folder)[0] / "notes.txt").write_text("the best so far")
    (folder / "history" / "mine.txt").write_text("mine")
    (folder / "history" / "0000-mine").mkdir()
    for shift in range(3, 8):
        replaced(folder, rows(shift))
    assert [int(path.name[:4]) for path in kept_boards(folder)] == [1, 5, 6, 7]
    assert read_board(kept_boards(folder)[0]).entries[1] == rows(0)[1]
    assert read_board(last_kept(folder)).entries[1] == rows(6)[1]
    assert {path.name[:4] for path in (folder / "history").iterdir()} == {
        *("0000", "0001", "0005", "0006", "0007", "mine")
    }


@pytest.mark.parametrize("call", range(1, 8))
def test_a_run_that_is_killed_keeps_the_board_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """As by a SIGKILL before any rename, after which nothing is put back: of the copies, then of the new board."""
    folder = tmp_path / "mine"
    replaced(folder, rows(0))
    before = read_board(folder)
    done, real = [], os.replace

    def replace(*paths: Path) -> None:
        done.append(paths)
        if len(done) >= call:
            raise SystemExit("killed")
        real(*paths)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(SystemExit):
        replaced(folder, rows(5))
    monkeypatch.undo()
    for path in kept_boards(folder):
        assert read_board(path) == before, "half of a board is no board"
    replaced(folder, rows(5))
    assert [read_board(path) for path in kept_boards(folder)] == [before]
    assert read_board(folder).entries[1] == rows(5)[1]


@pytest.mark.parametrize("call", range(1, 4))
def test_a_removal_that_is_killed_leaves_no_half_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    monkeypatch.setattr(history, "KEPT", 1)
    folder = tmp_path / "mine"
    replaced(folder, rows(0))
    replaced(folder, rows(1))
    done, real = [], Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if "history" in path.parts and not path.name.startswith("."):
            done.append(path)
            if len(done) >= call:
                raise SystemExit("killed")
        real(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(SystemExit):
        replaced(folder, rows(2))
    monkeypatch.undo()
    for path in kept_boards(folder):
        read_board(path)
    replaced(folder, rows(2))
    assert [read_board(path).entries[1] for path in kept_boards(folder)] == [rows(1)[1]]


@pytest.mark.parametrize("place", ["history", "history/0001", "history/0001/board.json", "history/0001/entries"])
def test_nothing_is_kept_or_removed_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setattr(history, "KEPT", 0)
    folder, secret = tmp_path / "mine", tmp_path / "secret"
    replaced(folder, rows(0))
    secret.mkdir()
    write_board(secret, "secret", rows(1))
    before = contents(secret)
    path = folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(secret / "board.json" if place.endswith(".json") else secret)
    if place in ("history/0001", "history/0001/entries"):
        replaced(folder, rows(5))  # a link is no board that was kept, nor is a folder without a board.json
    else:
        with pytest.raises(StoreError, match=r"is a symbolic link; expected a ") as raised:
            replaced(folder, rows(5))
        assert "\n" not in str(raised.value)
        assert read_board(folder).entries[1] == rows(0)[1]
    assert contents(secret) == before


def test_a_full_disk_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mine"
    replaced(folder, rows(0))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder_module, "replace_files", full)
    with pytest.raises(StoreError, match=r"mine keeps its board, for it can't be copied to history/ \(No space left"):
        replaced(folder, rows(5))
    assert read_board(folder).entries[1] == rows(0)[1]


@pytest.mark.parametrize("generated", ["", "yesterday", "../../x", "0001-01-01T00:00:00+14:00", "2026-11-25T10:12:00"])
def test_odd_time_stamps_lead_nowhere(tmp_path: Path, generated: str) -> None:
    folder = tmp_path / "mine"
    replaced(folder, rows(0))
    text = (folder / "board.json").read_text()
    stamp = read_board(folder).generated
    (folder / "board.json").write_text(text.replace(f'"{stamp}"', f'"{generated}"'))
    kept = replaced(folder, rows(5))
    assert kept is not None
    assert kept.parent == folder / "history"
    assert kept.name in ("0001", "0001-2026-11-25")
    assert moment(generated) == ("2026-11-25 10:12 UTC" if kept.name != "0001" else "")
