"""Boards made of boards, and a board as alpaca_eval's own leaderboard."""

import csv
import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.benchmarks.alpaca_eval.package import alpaca_eval_contained, package_folder
from harness.boards.entry import Entry
from harness.boards.read import read_board
from harness.cli.app import app
from harness.errors import DataError, StoreError
from harness.report.csv_files import alpaca_eval_csv
from harness.report.merge import merge_boards
from harness.report.page import write_page
from harness.report.write import write_board
from tests.gate.rows import row
from tests.sample_boards import contents, entry


def board(folder: Path, *rows: Entry) -> Path:
    write_board(folder, folder.name, rows)
    return folder


def test_all_rows_are_there_once_and_compared_anew(tmp_path: Path) -> None:
    one = board(tmp_path / "one", row("base", 0), row("dpo", 3))
    two = board(tmp_path / "two", row("base", 0), row("multi", 5))
    made = read_board(merge_boards([one, two], tmp_path / "both"))
    assert [e.id for e in made.entries] == ["base", "dpo", "multi"]
    assert {(c.first, c.second) for c in made.comparisons["alpaca_eval.win_rate"]} == {
        ("base", "dpo"),
        ("base", "multi"),
        ("dpo", "multi"),
    }
    assert made.entries[1] == read_board(one).entries[1]
    done = CliRunner().invoke(app, ["merge", str(one), str(two), "-o", str(tmp_path / "again")])
    assert done.exit_code == 0, done.output
    assert "multi" in done.output


def test_one_name_for_two_rows_is_refused(tmp_path: Path) -> None:
    one, two = board(tmp_path / "one", row("dpo", 0)), board(tmp_path / "two", row("dpo", 1))
    named = r"row 'dpo' differs between .*one and .*two in outcomes, figures; keep both with --rename, such as --rename"
    with pytest.raises(DataError, match=named):
        merge_boards([one, two], tmp_path / "both")


def test_answers_and_verdicts_come_along(tmp_path: Path) -> None:
    one, two = board(tmp_path / "one", row("a", 0)), board(tmp_path / "two", row("b", 1))
    for folder, name in ((one, "a"), (two, "b")):
        data = folder / "data" / "mt_bench"
        (data / "model_answer").mkdir(parents=True)
        (data / "model_answer" / f"{name}.jsonl").write_text(f'{{"model_id": "{name}"}}\n')
        (data / "question.jsonl").write_text('{"question_id": 81}\n')
        (data / "j_single.jsonl").write_text(f'{{"model": "{name}"}}\n')
    merge_boards([one, two], tmp_path / "both")
    data = tmp_path / "both" / "data" / "mt_bench"
    assert sorted(p.name for p in (data / "model_answer").iterdir()) == ["a.jsonl", "b.jsonl"]
    assert (data / "question.jsonl").read_text() == '{"question_id": 81}\n'
    models = [json.loads(line)["model"] for line in (data / "j_single.jsonl").read_text().splitlines()]
    assert models == ["a", "b"]


def test_the_package_reads_a_board_as_its_own_leaderboard(tmp_path: Path) -> None:
    path = tmp_path / "leaderboard.csv"
    folder = board(tmp_path / "x", row('=odd, "name"', 3), entry("no-verdicts", "sdpo", {}))
    done = CliRunner().invoke(app, ["show", str(folder), "--alpaca-eval", str(path)])
    assert done.exit_code == 0, done.output
    assert path.read_text() == alpaca_eval_csv(read_board(folder))
    with alpaca_eval_contained():
        from alpaca_eval.utils import get_precomputed_leaderboard

        (read, _) = get_precomputed_leaderboard(path, "x", "y")
    (found,) = read.items()
    figures = read_board(folder).entries[0].metrics["alpaca_eval.win_rate"]
    assert found[0] == '=odd, "name"'
    assert found[1]["win_rate"] == pytest.approx(figures.value)
    assert found[1]["standard_error"] == pytest.approx(figures.stderr)
    theirs = package_folder() / "leaderboards/data_AlpacaEval_2/weighted_alpaca_eval_gpt4_turbo_leaderboard.csv"
    with theirs.open() as file:
        assert next(csv.reader(file)) == ["", *found[1]]


def with_data(folder: Path, *rows: Entry, **files: str) -> Path:
    board(folder, *rows)
    (folder / "data" / "mt_bench").mkdir(parents=True)
    for name, text in files.items():
        (folder / "data" / "mt_bench" / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("link to a file", r"keys\.jsonl can't be copied: it leads out of"),
        ("link to nowhere", r"keys\.jsonl can't be copied"),
        ("link to a device", r"keys\.jsonl can't be copied"),
        ("FIFO", r"keys\.jsonl can't be copied: it is a FIFO; expected a regular file"),
        ("link to a folder", r"more is a symbolic link; expected a folder"),
        ("data is a link", "data is a symbolic link; expected a folder"),
        ("benchmark is a link", "mt_bench is a symbolic link; expected a folder"),
        ("sparse file", "has more than 536,870,912 bytes"),
    ],
)
def test_no_link_of_a_board_is_followed(tmp_path: Path, kind: str, named: str) -> None:
    one, secret = with_data(tmp_path / "one", row("a", 0)), tmp_path / "secret"
    secret.mkdir()
    (secret / "keys.jsonl").write_text("OPENAI_API_KEY")
    (secret / "mt_bench").mkdir()
    data = one / "data" / "mt_bench"
    match kind:
        case "link to a file":
            (data / "keys.jsonl").symlink_to(secret / "keys.jsonl")
        case "link to nowhere":
            (data / "keys.jsonl").symlink_to(secret / "none")
        case "link to a device":
            (data / "keys.jsonl").symlink_to("/dev/zero")
        case "FIFO":
            os.mkfifo(data / "keys.jsonl")
        case "link to a folder":
            (data / "more").symlink_to(secret)
        case "data is a link":
            data.rmdir()
            data.parent.rmdir()
            data.parent.symlink_to(secret)
        case "benchmark is a link":
            data.rmdir()
            data.symlink_to(secret)
        case "sparse file":
            with (data / "keys.jsonl").open("wb") as file:
                file.truncate(1 << 40)
    with pytest.raises(DataError, match=named) as raised:
        merge_boards([one, board(tmp_path / "two", row("b", 1))], tmp_path / "both")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "both").exists()


def test_a_link_within_the_board_is_copied_as_a_file(tmp_path: Path) -> None:
    one = with_data(tmp_path / "one", row("a", 0), **{"question.jsonl": '{"question_id": 81}\n'})
    (one / "data" / "mt_bench" / "same.jsonl").symlink_to("question.jsonl")
    named = tmp_path / "latest"
    named.symlink_to(one)  # the user may name a link
    merge_boards([named], tmp_path / "both")
    path = tmp_path / "both" / "data" / "mt_bench" / "same.jsonl"
    assert not path.is_symlink()
    assert path.read_text() == '{"question_id": 81}\n'


def test_files_of_one_name_are_joined_or_refused(tmp_path: Path) -> None:
    boards = [
        with_data(tmp_path / name, row(name, i), **{"j.jsonl": f'"same"\n"{name}"', "q.json": "[]"})
        for i, name in enumerate("abc")
    ]
    merge_boards(boards, tmp_path / "all")
    data = tmp_path / "all" / "data" / "mt_bench"
    assert (data / "j.jsonl").read_text() == '"same"\n"a"\n"b"\n"c"\n'
    (boards[2] / "data" / "mt_bench" / "q.json").write_text("[1]")
    with pytest.raises(DataError, match=r"data/mt_bench/q\.json differs between .*a and .*c; remove it from one"):
        merge_boards(boards, tmp_path / "all")


def test_rows_that_would_be_lost_are_kept(tmp_path: Path) -> None:
    one, two, three = (board(tmp_path / name, row(name, i)) for i, name in enumerate(("one", "two", "three")))
    both = merge_boards([one, two], tmp_path / "both").parent
    (both / "notes.txt").write_text("mine")
    (both / "entries" / "notes.json").write_text("mine")
    merge_boards([one, two, three], both)  # with more rows
    before = contents(both)
    with pytest.raises(StoreError, match=r"both holds row 'three', which would be lost.*--replace"):
        merge_boards([one, two], both)
    assert contents(both) == before
    merge_boards([one, two], both, replace=True)
    assert [e.id for e in read_board(both).entries] == ["one", "two"]
    assert (both / "notes.txt").read_text() == (both / "entries" / "notes.json").read_text() == "mine"
    merge_boards([two, both], both)  # into one of them
    assert [e.id for e in read_board(both).entries] == ["two", "one"]
    (tmp_path / "link").symlink_to(both)
    with pytest.raises(StoreError, match="link is a symbolic link"):
        merge_boards([one, two], tmp_path / "link", replace=True)


def test_a_page_of_the_old_rows_is_gone_and_one_of_the_user_stays(tmp_path: Path) -> None:
    one, two = board(tmp_path / "one", row("one", 0)), board(tmp_path / "two", row("two", 1))
    both = merge_boards([one], tmp_path / "both").parent
    write_page(both)
    merge_boards([one, two], both)
    assert not (both / "index.html").exists()
    (both / "index.html").write_text("mine")
    merge_boards([one, two], both)
    done = CliRunner().invoke(app, ["report", str(both)])
    assert isinstance(done.exception, StoreError)
    assert (both / "index.html").read_text() == "mine"
