"""Boards made of boards, and a board as alpaca_eval's own leaderboard."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.benchmarks.alpaca_eval.package import alpaca_eval_contained, package_folder
from harness.boards.entry import Entry
from harness.boards.provenance import SftFacts
from harness.boards.read import read_board
from harness.boards.versions.history import last_kept
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


# --- rows that are the same, and rows under other ids


def trained(name: str, shift: float, **provenance: Any) -> Entry:
    """A row as a run records it: its recipe, its stages, its training."""
    about = {
        "recipe": {"name": name, "methods": [{"id": name}]},
        "keys": {"seeds": f"seeds of {name}", f"train/{name}": f"{name}{shift}", f"verdicts/mt_bench/{name}": "v"},
        "training": {"steps": 3},
        "judging": {"mt_bench": {"dollars": shift}},
        **provenance,
    }
    return row(name, shift, **about)


def untrained(recipe: str, **provenance: Any) -> Entry:
    about = {
        "recipe": {"name": recipe, "methods": [{"id": recipe}]},
        "keys": {"seeds": f"seeds of {recipe}", "answers/mt_bench/base": "k", "verdicts/mt_bench/base": "l"},
        "made_by": {"harness": {"version": recipe}},
        **provenance,
    }
    return row("base", 0, **about).model_copy(update={"method": "base"})


def test_an_untrained_row_is_the_same_whatever_was_trained(tmp_path: Path) -> None:
    one = board(tmp_path / "one", untrained("one"), trained("dpo", 3))
    two = board(tmp_path / "two", untrained("two"), trained("multi", 5))
    made = read_board(merge_boards([one, two], tmp_path / "both"))
    assert [e.id for e in made.entries] == ["base", "dpo", "multi"]
    assert made.entries[0] == read_board(one).entries[0]


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"policy": {"model": "other"}}, "policy"),
        ({"judge": {"name": "openai", "model": "m"}}, "judge"),
        ({"benchmarks": {"mt_bench": {"questions": "mine"}}}, "benchmarks"),
        ({"references": {"alpaca_eval": "k2"}}, "reference answers"),
        ({"keys": {"answers/mt_bench/base": "k2", "verdicts/mt_bench/base": "l"}}, "stages"),
    ],
)
def test_what_decides_a_row_makes_it_another(tmp_path: Path, changed: dict[str, Any], part: str) -> None:
    one, two = board(tmp_path / "one", untrained("one")), board(tmp_path / "two", untrained("two", **changed))
    with pytest.raises(DataError, match=rf"row 'base' differs between .* in {part}; keep both with --rename"):
        merge_boards([one, two], tmp_path / "both")
    both = merge_boards([one, two], tmp_path / "both", rename=["base=before"])
    assert [e.id for e in read_board(both).entries] == ["base", "before"]


def test_rename_takes_the_last_board_or_the_one_that_is_named(tmp_path: Path) -> None:
    boards = [board(tmp_path / name, row("n=4", i), row(f"own:{i}", i)) for i, name in enumerate("abc")]
    names = ["n=4=n=8", f"{boards[1]}:n=4=middle", "1:own:0=first"]
    made = read_board(merge_boards(boards, tmp_path / "all", rename=names))
    assert [e.id for e in made.entries] == ["n=4", "first", "middle", "own:1", "n=8", "own:2"]
    for found, i in zip(made.entries, (0, 0, 1, 1, 2, 2), strict=True):
        place = 0 if found.id in ("n=4", "middle", "n=8") else 1
        assert found.outcomes == read_board(boards[i]).entries[place].outcomes
    for wrong, named in (
        ("n=4", r"--rename 'n=4': expected OLD=NEW or BOARD:OLD=NEW with the id of a row; .*rows: n=4, own:0"),
        ("n=5=x", r"did you mean 'n=4'\?|rows: n=4"),
        ("n=4= ", "expected OLD=NEW"),
        ("9:own:2=x", "expected OLD=NEW"),
        ("own:2=n=4", "c would have two rows 'n=4'; choose another id"),
    ):
        with pytest.raises(DataError, match=named) as raised:
            merge_boards(boards, tmp_path / "none", rename=[wrong])
        assert "\n" not in str(raised.value)
    with pytest.raises(DataError, match="is renamed twice"):
        merge_boards(boards, tmp_path / "none", rename=["own:2=x", "own:2=y"])
    assert not (tmp_path / "none").exists()


def test_what_names_a_renamed_row_follows_it(tmp_path: Path) -> None:
    judged = {"alpaca_eval": {"reference": "base"}}
    two = board(
        tmp_path / "two",
        untrained("two", benchmarks=judged, references={"alpaca_eval": "k2"}, keys={"answers/alpaca_eval/base": "k2"}),
        trained("dpo", 1, benchmarks=judged, references={"alpaca_eval": "k2"}),
        trained("fair", 2, benchmarks=judged, references={"alpaca_eval": "k2"}, match_to="dpo", sft={"row": "dpo"}),
    )
    one = board(tmp_path / "one", untrained("one", keys={"answers/alpaca_eval/base": "k1"}), trained("dpo", 3))
    made = read_board(merge_boards([one, two], tmp_path / "both", rename=["base=base-2", "dpo=dpo-2"]))
    rows = {e.id: e.provenance for e in made.entries}
    assert list(rows) == ["base", "dpo", "base-2", "dpo-2", "fair"]
    assert (rows["fair"].match_to, rows["fair"].sft) == ("dpo-2", SftFacts(row="dpo-2"))
    assert {rows[name].benchmark("alpaca_eval")["reference"] for name in ("base-2", "dpo-2", "fair")} == {"base-2"}
    assert rows["dpo"] == read_board(one).entries[1].provenance
    # Where the other board's base gave the same answers, the reference is that row.
    one = board(tmp_path / "same", untrained("one", keys={"answers/alpaca_eval/base": "k2"}))
    made = read_board(merge_boards([one, two], tmp_path / "again", rename=["2:base=base-2"]))
    assert made.entries[2].provenance.benchmark("alpaca_eval")["reference"] == "base"


def test_answers_and_verdicts_follow_a_renamed_row(tmp_path: Path) -> None:
    boards = [board(tmp_path / name, row("a/b", i), row("base", i)) for i, name in enumerate(("one", "two"))]
    for i, folder in enumerate(boards):
        outputs, data = folder / "data" / "alpaca_eval" / "a%2Fb", folder / "data" / "mt_bench"
        outputs.mkdir(parents=True)
        text = json.dumps([{"generator_1": "base", "generator_2": "a/b", "output_2": "a/b é", "preference": i}])
        (outputs / "annotations.json").write_text(text)
        (data / "model_answer").mkdir(parents=True)
        line = {"question_id": 81, "answer_id": "a/b-81", "model_id": "a/b", "choices": [f"{i}"]}
        (data / "model_answer" / "a%2Fb.jsonl").write_text(json.dumps(line) + "\n")
        (data / "question.jsonl").write_text('{"question_id": 81}\n')
        judged = [{"model": name, "score": i, "judge": ["base", "x"]} for name in ("a/b", "base")]
        (data / "j_single.jsonl").write_text("".join(json.dumps(line) + "\n" for line in judged))
    merge_boards(boards, tmp_path / "both", rename=["a/b=new", "base=base-2"])
    data = tmp_path / "both" / "data"
    assert [
        json.loads((data / "alpaca_eval" / name / "annotations.json").read_text()) for name in ("a%2Fb", "new")
    ] == [
        [{"generator_1": "base", "generator_2": "a/b", "output_2": "a/b é", "preference": 0}],
        [{"generator_1": "base-2", "generator_2": "new", "output_2": "a/b é", "preference": 1}],
    ]
    assert json.loads((data / "mt_bench" / "model_answer" / "new.jsonl").read_text()) == {
        "question_id": 81,
        "answer_id": "new-81",
        "model_id": "new",
        "choices": ["1"],
    }
    lines = [json.loads(line) for line in (data / "mt_bench" / "j_single.jsonl").read_text().splitlines()]
    assert [(line["model"], line["score"]) for line in lines] == [("a/b", 0), ("base", 0), ("new", 1), ("base-2", 1)]
    assert {line["judge"][0] for line in lines} == {"base"}
    assert (data / "mt_bench" / "question.jsonl").read_text() == '{"question_id": 81}\n'
    (boards[1] / "data" / "mt_bench" / "j_single.jsonl").write_text("not JSON")
    with pytest.raises(DataError, match=r"j_single\.jsonl is not JSON .*, so rows can't be renamed in it; remove it"):
        merge_boards(boards, tmp_path / "none", rename=["a/b=new", "base=base-2"])


def test_what_a_merge_replaces_is_kept(tmp_path: Path) -> None:
    one, two = board(tmp_path / "one", row("one", 0)), board(tmp_path / "two", row("two", 1))
    both = merge_boards([one, two], tmp_path / "both").parent
    merge_boards([one], both, replace=True)
    assert [e.id for e in read_board(both).entries] == ["one"]
    assert [e.id for e in read_board(last_kept(both)).entries] == ["one", "two"]
    # Without --replace too: the row has the old one's name, and other figures.
    merge_boards([board(tmp_path / "later", row("one", 5))], both)
    kept = read_board(last_kept(both)).entries
    assert [e.value("alpaca_eval.win_rate") for e in kept] == [row("one", 0).value("alpaca_eval.win_rate")]


# --- folders of strangers


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
