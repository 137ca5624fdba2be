"""What a board owns in its folder: nothing else is removed or replaced, and nothing is written through a link."""

import json
import os
from pathlib import Path

import pytest

from harness.boards.folder import check_replaceable, foreign_file, owned_files
from harness.boards.read import read_board
from harness.errors import DataError, StoreError
from harness.pipeline.public_data import write_public_data
from harness.report.page import write_page
from harness.report.write import write_board
from tests.sample_boards import contents, entry, four_rows

DATA = {
    f"data/alpaca_eval/{row}/{name}.json": "[]"
    for row in ("base", "dpo", "multi-dpo")
    for name in ("model_outputs", "annotations")
} | {
    "data/mt_bench/question.jsonl": "",
    "data/mt_bench/model_answer/dpo.jsonl": "",
    "data/mt_bench/model_judgment/gpt-4_single.jsonl": "",
}
OTHERS = (
    "notes.txt",
    "README.md",
    "baseline.json",
    "entries/notes.json",
    "entries/old/dpo.json",
    "data/seeds.jsonl",
    "data/mine/dpo.json",
    "data/alpaca_eval/README.md",
    "data/alpaca_eval/gpt-4/model_outputs.json",
    "data/mt_bench/reference_answer/gpt-4.jsonl",
)
"""Files of a user's in and beside a board's folders."""


def add(folder: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"mine: {name}")
    return {name: (folder / name).read_bytes() for name in names}


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "a board of an earlier version"])
def test_only_what_the_old_board_lists_is_removed(tmp_path: Path, listed: bool) -> None:
    write_board(tmp_path, "quickstart", four_rows())
    write_public_data(tmp_path, DATA)
    mine = add(tmp_path, OTHERS)
    if not listed:
        (tmp_path / "board.files.json").unlink()
    write_board(tmp_path, "quickstart", four_rows()[:1])
    write_public_data(tmp_path, {name: text for name, text in DATA.items() if "/base/" in name})
    left = contents(tmp_path)
    assert {name: left.pop(name) for name in mine} == mine
    assert set(left) == {
        *("board.json", "board.md", "board.csv", "comparisons.csv", "board.files.json", "entries/base.json"),
        *(name for name in DATA if "/base/" in name),
    }
    write_public_data(tmp_path, {})
    assert {p.name for p in (tmp_path / "data" / "alpaca_eval").iterdir()} == {"README.md", "gpt-4"}
    assert owned_files(tmp_path) == {*(n for n in left if "/" not in n), "entries/base.json"} - {"board.files.json"}


@pytest.mark.parametrize(
    "text",
    [
        '{"files": ["../outside.txt", "entries/../../outside.txt", "data/x/../../../outside.txt", "%s", "run.log", '
        '"baseline.json", "notes.txt", "entries/old/dpo.json", "data/seeds.jsonl", 3, null, "", "data//mine", "."]}',
        '{"files": "entries/dpo.json"}',
        '{"files": {"../outside.txt": 1}}',
        '["../outside.txt"]',
        "not JSON",
        '{"files": [NaN]}',
        "[" * 5000,
    ],
)
def test_a_list_by_somebody_else_removes_nothing(tmp_path: Path, text: str) -> None:
    folder, outside = tmp_path / "board", tmp_path / "outside.txt"
    write_board(folder, "quickstart", four_rows())
    outside.write_text("mine")
    mine = add(folder, OTHERS)
    (folder / "board.files.json").write_text(text.replace("%s", str(outside)))
    write_board(folder, "quickstart", four_rows()[:2])
    write_public_data(folder, {})
    assert outside.read_text() == "mine"
    assert {name: (folder / name).read_bytes() for name in mine} == mine


def test_a_list_of_names_that_are_links_removes_and_writes_nothing(tmp_path: Path) -> None:
    folder, secret = tmp_path / "board", tmp_path / "secret"
    write_board(folder, "quickstart", four_rows())
    secret.mkdir()
    (secret / "keys.json").write_text("mine")
    (folder / "data").mkdir()
    (folder / "data" / "x").symlink_to(secret)
    (folder / "board.files.json").write_text(json.dumps({"files": ["data/x/keys.json"]}))
    with pytest.raises(StoreError, match="data/x is a symbolic link; expected a folder"):
        write_public_data(folder, {})
    assert (secret / "keys.json").read_text() == "mine"


@pytest.mark.parametrize("kind", ["link to a file", "link to a folder", "link to nowhere", "FIFO", "folder"])
@pytest.mark.parametrize(
    "name",
    [
        *("board.json", "board.md", "board.csv", "comparisons.csv", "board.files.json", ".board.lock"),
        *("entries", "entries/base.json", "data", "data/alpaca_eval", "data/alpaca_eval/base/annotations.json"),
        *("index.html", "."),
    ],
)
def test_nothing_is_written_through_a_link(tmp_path: Path, name: str, kind: str) -> None:
    folder, secret = tmp_path / "boards" / "x", tmp_path / "secret"
    secret.mkdir()
    (secret / "keys").write_text("OPENAI_API_KEY")
    path = folder if name == "." else folder / name
    path.parent.mkdir(parents=True)
    match kind:
        case "FIFO":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case _:
            path.symlink_to(
                secret / {"link to a file": "keys", "link to a folder": ".", "link to nowhere": "new"}[kind]
            )

    def write() -> None:
        write_board(folder, "x", four_rows())
        write_public_data(folder, DATA)
        write_page(folder)

    if kind == "folder" and name in (".", "entries", "data", "data/alpaca_eval"):
        write()
    else:
        with pytest.raises(StoreError, match=r"is a (symbolic link|FIFO|folder); expected a ") as raised:
            write()
        assert str(path) in str(raised.value)
        assert "\n" not in str(raised.value)
    assert contents(secret) == {"keys": b"OPENAI_API_KEY"}


def test_a_hard_link_keeps_its_content_under_its_other_name(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("OPENAI_API_KEY")
    folder = tmp_path / "x"
    write_board(folder, "x", four_rows())
    (folder / "board.md").unlink()
    os.link(keys, folder / "board.md")
    write_board(folder, "x", four_rows())
    assert keys.read_text() == "OPENAI_API_KEY"
    assert (folder / "board.md").read_text().startswith("# Leaderboard")


# --- whether a board may be replaced


def of(recipe: str, *ids: str) -> list:
    return [entry(row, "sdpo", recipe={"name": recipe}) for row in ids]


def test_a_recipe_may_replace_its_own_board_however_it_was_edited(tmp_path: Path) -> None:
    write_board(tmp_path, "mine", of("mine", "base", "dpo"))
    check_replaceable(tmp_path, ["board.json", "entries/other.json"], (), {"mine"})
    write_board(tmp_path, "mine", four_rows())  # of an earlier version, which recorded no recipe
    check_replaceable(tmp_path, ["board.json", "entries/other.json"], (), {"mine"})


@pytest.mark.parametrize(
    ("there", "named"),
    [
        ("board of another recipe", "holds row 'dpo' of recipe 'yours', which would be lost"),
        ("merged board", "holds row 'dpo' of recipe 'yours', which would be lost"),
        ("board of another name", "holds row 'base', which would be lost"),
        ("entries alone", r"has a file entries/base\.json that the harness did not write"),
        ("foreign board.json", r"has a file board\.json that the harness did not write"),
        ("odd board.json", r"has a file board\.json that the harness did not write"),
        ("own page", r"has a file index\.html that the harness did not write"),
        ("own list", r"has a file board\.files\.json that the harness did not write"),
    ],
)
def test_what_is_not_its_own_is_kept(tmp_path: Path, there: str, named: str) -> None:
    folder = tmp_path / "mine"
    match there:
        case "board of another recipe":
            write_board(folder, "mine", of("yours", "dpo"))
        case "merged board":
            write_board(folder, "mine", [*of("mine", "base"), *of("yours", "dpo")])
        case "board of another name":
            write_board(folder, "yours", four_rows())
        case "entries alone":
            write_board(folder, "mine", four_rows())
            (folder / "board.json").unlink()
            (folder / "board.files.json").unlink()
        case "foreign board.json":
            add(folder, ("board.json",))
        case "odd board.json":
            write_board(folder, "mine", four_rows())
            (folder / "board.files.json").unlink()
            (folder / "board.json").write_text('{"board": "mine", "generated": "", "rows": [{"id": "\\ud800"}]}')
        case "own page":
            add(folder, ("index.html",))
        case "own list":
            add(folder, ("board.files.json",))
    with pytest.raises(StoreError, match=named) as raised:
        check_replaceable(folder, ["board.json", "index.html", "entries/a.json"], (), {"mine"})
    assert "--replace" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_files_beside_the_board_are_no_obstacle(tmp_path: Path) -> None:
    add(tmp_path, OTHERS[:3] + OTHERS[5:])
    check_replaceable(tmp_path, ["board.json", "index.html", "entries/a.json"], (), {"mine"})
    assert foreign_file(tmp_path, ["data/alpaca_eval/gpt-4/model_outputs.json"])


@pytest.mark.parametrize("call", range(1, 12))
@pytest.mark.parametrize("ending", [OSError(28, "No space left on device"), SystemExit("killed")])
def test_a_write_that_ends_early_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int, ending: BaseException
) -> None:
    """As by a SIGKILL between two renames, after which nothing is put back."""
    write_board(tmp_path, "mine", of("mine", "base", "dpo", "nca"))
    write_public_data(tmp_path, DATA)
    calls, real = [], os.replace

    def replace(*paths: Path) -> None:
        calls.append(paths)
        if len(calls) == call or (isinstance(ending, SystemExit) and len(calls) > call):
            raise ending
        real(*paths)

    monkeypatch.setattr(os, "replace", replace)
    changed = of("mine", "base", "sdpo")
    try:
        write_board(tmp_path, "mine", changed)
        write_public_data(tmp_path, {"data/alpaca_eval/sdpo/model_outputs.json": "[]"})
    except (StoreError, SystemExit):
        if isinstance(ending, OSError):
            read_board(tmp_path)
    monkeypatch.undo()
    check_replaceable(tmp_path, ["board.json", "entries/sdpo.json"], (), {"mine"})
    write_board(tmp_path, "mine", changed)
    write_public_data(tmp_path, {"data/alpaca_eval/sdpo/model_outputs.json": "[]"})
    assert [e.id for e in read_board(tmp_path).entries] == ["base", "sdpo"]
    assert sorted(n for n in contents(tmp_path) if "/" in n) == [
        "data/alpaca_eval/sdpo/model_outputs.json",
        "entries/base.json",
        "entries/sdpo.json",
    ]


@pytest.mark.parametrize(
    "name", ["data", "data/mt_bench", "data/mt_bench/model_answer", "data/mt_bench/question.jsonl"]
)
def test_the_page_shows_no_file_of_another_folder(tmp_path: Path, name: str) -> None:
    folder, secret = tmp_path / "x", tmp_path / "secret"
    write_board(folder, "x", four_rows())
    write_public_data(folder, DATA)
    (folder / name).rename(secret)
    (folder / name).symlink_to(secret)
    with pytest.raises(DataError, match=r"is a symbolic link; expected a folder|leads out of"):
        write_page(folder)
    assert not (folder / "index.html").exists()
