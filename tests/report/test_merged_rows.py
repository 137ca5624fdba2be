"""Rows of boards that are joined: those that are the same, and those that get another id."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.boards.entry import Entry
from harness.boards.provenance import SftFacts
from harness.boards.read import read_board
from harness.boards.versions.history import last_kept
from harness.errors import DataError
from harness.report.merge import merge_boards
from harness.report.write import write_board
from tests.gate.rows import row


def board(folder: Path, *rows: Entry) -> Path:
    write_board(folder, folder.name, rows)
    return folder


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
