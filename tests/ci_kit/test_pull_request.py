"""What a gate takes of a pull request: its answers, where they are regular files, and nothing else."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.errors import HarnessError
from harness.gate.pull_request import Event, Pair, pair, read_event
from tests.ci_kit.repository import write_event

SYSTEMS = [{"id": "mine", "answers": {"alpaca_eval": "answers/mine.json"}}]
BASE, HEAD = "a" * 40, "b" * 40


def side(folder: Path, systems: Any = SYSTEMS, **files: str) -> Path:
    """A checkout with a recipe in a folder of its own; `files`: answers by their row."""
    (folder / "gates" / "answers").mkdir(parents=True)
    document = {"name": "gate", "evaluation": {"judge": {"name": "openai", "model": "m"}}, "systems": systems}
    (folder / "gates" / "gate.yaml").write_text(yaml.safe_dump(document))
    for name, text in files.items():
        (folder / "gates" / "answers" / f"{name}.json").write_text(text)
    return folder


def rows(made: Pair) -> dict[str, str]:
    """The text of each row's answers."""
    systems = yaml.safe_load(made.recipe.read_text())["systems"]
    return {s["id"]: (made.recipe.parent / s["answers"]["alpaca_eval"]).read_text() for s in systems}


def test_both_sides_answers_are_rows_and_all_else_is_the_base_s(tmp_path: Path) -> None:
    base = side(tmp_path / "base", mine="old")
    head = side(tmp_path / "head", [{"id": "other", "answers": {"x": "y"}}], mine="new")
    made = pair(base, head, "gates/gate.yaml")
    assert (made.board, made.row, made.base_row) == ("gate", "mine", "mine.base")
    assert rows(made) == {"mine.base": "old", "mine": "new"}
    (head / "gates" / "answers" / "mine.json").write_text("changed later")
    assert rows(made)["mine"] == "new"


def test_answers_that_are_only_in_the_pull_request_have_no_row_beside_them(tmp_path: Path) -> None:
    made = pair(side(tmp_path / "base"), side(tmp_path / "head", mine="new"), "gates/gate.yaml")
    assert (rows(made), made.base_row) == ({"mine": "new"}, None)


def test_after_a_merge_there_is_one_side(tmp_path: Path) -> None:
    base = side(tmp_path / "base", mine="old")
    made = pair(base, base, "gates/gate.yaml")
    assert (rows(made), made.base_row) == ({"mine": "old"}, None)


def test_of_rivals_those_that_changed_are_judged_twice(tmp_path: Path) -> None:
    files = {"answers/mine.json": "mine", "answers/a.json": "a", "answers/b.json": "b"}
    systems = [{"id": Path(name).stem, "answers": {"alpaca_eval": name}} for name in files]
    base = side(tmp_path / "base", systems, mine="1", a="1", b="1")
    head = side(tmp_path / "head", systems, mine="1", a="1", b="2")
    assert list(rows(pair(base, head, "gates/gate.yaml", "mine"))) == ["mine.base", "mine", "a", "b.base", "b"]


def test_rows_with_recorded_verdicts_stay_the_base_s(tmp_path: Path) -> None:
    recorded = {"id": "rival", "answers": {"alpaca_eval": "answers/rival.json"}, "verdicts": {"alpaca_eval": "v.json"}}
    base = side(tmp_path / "base", [*SYSTEMS, recorded], mine="old", rival="old")
    made = pair(base, side(tmp_path / "head", mine="new", rival="forged"), "gates/gate.yaml")
    assert rows(made) == {"mine.base": "old", "mine": "new", "rival": "old"}


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("link", "it is a link in the pull request"),
        ("folder link", "it is a link in the pull request"),
        ("fifo", "it is a FIFO; expected a regular file"),
        ("missing", "can't be read in the pull request"),
        ("pointer", "it is a pointer of Git LFS"),
    ],
)
def test_answers_are_regular_files_of_the_pull_request(tmp_path: Path, what: str, said: str) -> None:
    base, head = side(tmp_path / "base", mine="old"), side(tmp_path / "head")
    secret = tmp_path / "secret" / "mine.json"
    secret.parent.mkdir()
    secret.write_text("secret")
    file = head / "gates" / "answers" / "mine.json"
    if what == "link":
        file.symlink_to(secret)
    elif what == "folder link":
        file.parent.rmdir()
        file.parent.symlink_to(secret.parent)
    elif what == "fifo":
        os.mkfifo(file)
    elif what == "pointer":
        file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")
    with pytest.raises(HarnessError, match=said):
        pair(base, head, "gates/gate.yaml")
    assert not any("secret" in path.read_text() for path in base.rglob("*.json"))


@pytest.mark.parametrize(
    ("edit", "row", "said"),
    [
        ({"policy": {"model": "x"}}, None, "gate.yaml:.*takes no `policy`"),
        ({"gates": [{"row": "mine"}]}, None, "takes no `gates`; expected the action says"),
        ({"systems": []}, None, "no `systems`"),
        ({"systems": [{"id": "mine"}]}, None, "expected a row with an id and answers"),
        ({"systems": [*SYSTEMS, {**SYSTEMS[0], "id": "b"}]}, None, "name the row to gate, one of mine, b"),
        ({}, "mien", "no row 'mien' that is judged; did you mean 'mine'"),
        ({"evaluation": {"judge": {"name": "replay"}}}, None, "can't judge new answers"),
        ({"systems": [{"id": "mine", "answers": {"x": "/etc/passwd"}}]}, None, "by its relative path"),
        ({"systems": [{"id": "mine", "answers": {"x": "../../x.json"}}]}, None, "below the recipe's folder"),
        ({"systems": [{"id": "mine", "answers": {"x": "${HOME}/x"}}]}, None, "without variables"),
    ],
)
def test_a_recipe_that_is_none_for_pull_requests_is_one_line(
    tmp_path: Path, edit: dict[str, Any], row: str | None, said: str
) -> None:
    base, head = side(tmp_path / "base", mine="old"), side(tmp_path / "head", mine="new")
    path = base / "gates" / "gate.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | edit))
    with pytest.raises(HarnessError, match=said):
        pair(base, head, "gates/gate.yaml", row)


def test_an_event_names_a_pull_request_or_none(tmp_path: Path) -> None:
    assert read_event(write_event(tmp_path / "e", 7, BASE, HEAD)) == Event(7, BASE, HEAD)
    assert read_event(write_event(tmp_path / "e")) is None
    with pytest.raises(HarnessError, match="expected a pull request's number and two commits"):
        read_event(write_event(tmp_path / "e", 7, "--upload-pack=x", HEAD))
