"""A board says in which commit its recipe stands, and whether that came before its results."""

import os
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from harness.boards.board import Board
from harness.claims.answer import answer
from harness.engine.provenance import committed_since
from harness.pipeline.progress import SilentView
from harness.pipeline.run import run_study
from harness.recipe.load import load_study
from tests.pipeline.test_board import RECIPE, write_systems

AUTHOR = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
SETTINGS = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}


def git(folder: Path, *arguments: str, date: str = "2026-01-02T03:04:05Z") -> str:
    variables = {**os.environ, **AUTHOR, **SETTINGS, "GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    done = subprocess.run(["git", *arguments], cwd=folder, env=variables, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def committed(folder: Path, date: str = "2026-01-02T03:04:05Z") -> str:
    git(folder, "add", "x.yaml")
    git(folder, "commit", "-qm", "the question", date=date)
    return git(folder, "rev-parse", "HEAD")


def run(folder: Path, *overrides: str) -> Board:
    done = run_study(load_study(folder / "x.yaml", overrides), folder / "boards", folder / "store", SilentView())
    assert done.board is not None
    return done.board


def said(board: Board) -> list[str]:
    found = answer(board.entries)
    assert found is not None
    return [line for line in found.cautions if "committed" in line]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository with a recipe that no commit has yet."""
    write_systems(tmp_path)
    (tmp_path / "x.yaml").write_text(RECIPE)
    git(tmp_path, "init", "-q")
    return tmp_path


def test_the_commit_before_the_results(folder: Path) -> None:
    commit = committed(folder)
    board = run(folder)
    assert said(board) == [
        f"The recipe was committed before any of these rows was computed ({commit[:12]}, 2026-01-02 03:04 UTC)."
    ]
    (folder / "x.yaml").write_text(f"# a comment that comes later\n{RECIPE}")
    assert said(run(folder)) == said(board)
    assert committed(folder, date="2038-01-01T00:00:00Z") != commit
    assert said(run(folder)) == said(board)


def test_a_commit_after_the_results_is_called_one(folder: Path) -> None:
    assert said(run(folder)) == []  # no commit has it
    commit = committed(folder, date="2038-01-01T00:00:00Z")
    assert said(run(folder)) == [
        f"The recipe was committed after 2 of these 2 rows had been computed ({commit[:12]}, 2038-01-01 00:00 UTC)."
    ]


def test_a_recipe_that_ran_otherwise_than_committed_claims_nothing(folder: Path) -> None:
    committed(folder)
    assert said(run(folder, "primary.margin=3")) == []
    (folder / "x.yaml").write_text(RECIPE.replace("limit: 12", "limit: 11"))
    assert said(run(folder)) == []
    committed(folder, date="2038-01-01T00:00:00Z")
    assert "after 2 of these 2 rows" in said(run(folder))[0]


def test_only_a_file_whose_data_the_last_commit_has_has_one(folder: Path) -> None:
    assert committed_since(folder / "x.yaml") is None
    commit = committed(folder)
    assert committed_since(folder / "x.yaml") == (commit, datetime.fromisoformat("2026-01-02T03:04:05+00:00"))
    (folder / ".gitignore").write_text("ignored.yaml\n")
    (folder / "ignored.yaml").write_text(RECIPE)
    assert committed_since(folder / "ignored.yaml") is None
    assert committed_since(folder.parent / "nowhere.yaml") is None
