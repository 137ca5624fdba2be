"""`models/<row>` of a board: links to checkpoints, which replace nothing of anybody else's."""

import errno
import logging
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.cli.app import app
from harness.errors import StoreError
from harness.pipeline.export.links import gone, link_models, linked_store

ROOT = Path(__file__).parents[3]


@pytest.fixture
def board(tmp_path: Path) -> Path:
    folder = tmp_path / "project" / "leaderboards" / "board"
    folder.mkdir(parents=True)
    return folder


def checkpoint(store: Path, letter: str) -> Path:
    folder = store / "artifacts" / (letter * 64) / "checkpoint"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(letter)
    return folder


def links(board: Path) -> dict[str, str]:
    return {path.name: os.readlink(path) for path in (board / "models").iterdir() if path.is_symlink()}


def test_every_row_has_a_link_that_follows_its_run(board: Path, tmp_path: Path) -> None:
    store = tmp_path / "project" / "store"
    first, second, third = (checkpoint(store, letter) for letter in "abc")
    link_models(board, {"dpo": first, "lr=1/2": second})
    assert links(board) == {
        "dpo": f"../../../store/artifacts/{'a' * 64}/checkpoint",
        "lr%3D1%2F2": f"../../../store/artifacts/{'b' * 64}/checkpoint",
    }
    assert (board / "models" / "dpo" / "config.json").read_text() == "a"
    link_models(board, {"dpo": third})
    assert links(board) == {"dpo": f"../../../store/artifacts/{'c' * 64}/checkpoint"}
    assert linked_store(board, "dpo", "c" * 64) == store
    assert linked_store(board, "dpo", "a" * 64) is None
    shutil.move(tmp_path / "project", tmp_path / "moved")
    assert (tmp_path / "moved" / "leaderboards" / "board" / "models" / "dpo" / "config.json").read_text() == "c"


def test_a_store_elsewhere_is_named_by_its_whole_path(board: Path, tmp_path: Path) -> None:
    there = checkpoint(tmp_path / "cache" / "store", "a")
    link_models(board, {"dpo": there})
    assert links(board) == {"dpo": str(there)}


def test_a_board_without_trained_rows_has_no_links(board: Path, tmp_path: Path) -> None:
    link_models(board, {})
    assert not (board / "models").exists()
    link_models(board, {"dpo": checkpoint(tmp_path, "a")})
    link_models(board, {})
    assert links(board) == {}


def test_what_somebody_else_has_put_there_stays(board: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    models = board / "models"
    (models / "notes").mkdir(parents=True)
    (models / "dpo").write_text("mine")
    (models / "mine").symlink_to(tmp_path)
    with caplog.at_level(logging.WARNING):
        link_models(board, {"dpo": checkpoint(tmp_path, "a"), "other": checkpoint(tmp_path, "b")})
        link_models(board, {"dpo": checkpoint(tmp_path, "a")})
    assert links(board) == {"mine": str(tmp_path)}
    assert (models / "dpo").read_text() == "mine"
    assert (models / "notes").is_dir()
    assert "dpo is not a link of the harness; it is kept" in caplog.text


def test_no_link_is_followed_out_of_the_board(board: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (board / "models").symlink_to(other)
    with pytest.raises(StoreError, match="models is a symbolic link; expected a folder"):
        link_models(board, {"dpo": checkpoint(tmp_path, "a")})
    assert list(other.iterdir()) == []
    assert gone(board) is None


def test_git_ignores_the_links(board: Path, tmp_path: Path) -> None:
    link_models(board, {"dpo": checkpoint(tmp_path, "a")})
    (board / "board.md").write_text("")
    git = ["git", "-C", str(tmp_path / "project")]
    subprocess.run([*git, "init", "-q"], check=True)
    listed = subprocess.run([*git, "status", "--porcelain", "-uall"], check=True, capture_output=True, text=True)
    assert listed.stdout.split() == ["??", "leaderboards/board/board.md"]


def test_checkpoints_that_are_gone_are_told_in_one_line(board: Path, tmp_path: Path) -> None:
    assert gone(board) is None
    link_models(board, {"dpo": checkpoint(tmp_path, "a"), "full": checkpoint(tmp_path, "b")})
    assert gone(board) is None
    shutil.rmtree(tmp_path / "artifacts" / ("b" * 64))
    line = gone(board)
    assert line is not None
    assert "the checkpoints of full are gone: the store was moved, or cache gc removed them" in line
    assert "\n" not in line


def test_showing_a_board_tells_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    board = shutil.copytree(ROOT / "leaderboards" / "quickstart", tmp_path / "b" / "quickstart", symlinks=True)
    link_models(board, {"dpo": checkpoint(tmp_path, "a")})
    assert app(["show", str(board)], standalone_mode=False) is None
    assert capsys.readouterr().err == ""
    shutil.rmtree(tmp_path / "artifacts")
    assert app(["show", str(board)], standalone_mode=False) is None
    assert capsys.readouterr().err == f"{gone(board)}\n"


def test_a_file_system_without_links_has_none(
    board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "symlink", refuse)
    link_models(board, {"dpo": checkpoint(tmp_path, "a")})
    assert "models: no links to the checkpoints (Operation not permitted)" in caplog.text
