"""What changed between two boards, and which rows moved."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from typer.testing import CliRunner

import harness
from harness.boards.board import Board
from harness.boards.entry import Entry
from harness.boards.read import read_board
from harness.boards.versions.history import kept_boards
from harness.cli.app import app
from harness.printable import terminal
from harness.report.changes.fields import changed_fields
from harness.report.changes.found import Changes, changes_between
from harness.report.changes.terminal import DrawnChanges
from harness.report.changes.words import summary
from harness.report.merge import merge_boards
from harness.report.write import write_board
from tests.api.recipes import tiny_recipe
from tests.gate.rows import N, row, without
from tests.sample_boards import LOCAL, markdown_tables, with_provenance


def board_of(*rows: Entry, name: str = "mine", generated: str = "2026-11-25T10:12:00+00:00") -> Board:
    return Board(name=name, generated=generated, entries=rows)


def ours(name: str, shift: float = 0, n: int = N, **provenance: Any) -> Entry:
    keys = {"seeds": "s", f"verdicts/alpaca_eval/{name}": f"v {name} {shift} {n}"}
    return row(name, shift, n, **{"recipe": {"name": "mine"}, "keys": keys, **provenance})


def fields(changes: Changes) -> dict[str, list[tuple[str, str, tuple[str, ...]]]]:
    return {title: [tuple(change) for change in found] for title, found in changes.sections}  # type: ignore[misc]


def drawn(changes: Changes, width: int) -> str:
    console = terminal(width=width, file=io.StringIO(), force_terminal=False)
    console.print(DrawnChanges(changes))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# --- fields


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 2}}, [("a.b", "1", "2")]),
        ({"a": {"b": 1}}, {"a": {"b": 1.0}}, []),
        ({"a": [1, 2]}, {"a": [2, 1]}, [("a", "[1, 2]", "[2, 1]")]),
        ({}, {"primary": None, "gates": []}, []),  # of a version that knows more sections
        ({}, {"a": 0}, [("a", "not set", "0")]),
        ({"a": ""}, {"a": "x"}, [("a", '""', "x")]),
        (
            {"methods": [{"id": "dpo"}, {"id": "b", "loss": {"beta": 0.1}}]},
            {"methods": [{"id": "dpo"}, {"id": "b", "loss": {"beta": 0.5}}]},
            [("methods.1.loss.beta (b)", "0.1", "0.5")],
        ),
        (
            {"methods": [{"id": "a", "x": 1}, {"id": "b", "x": 2}]},
            {"methods": [{"id": "b", "x": 3}]},
            [("methods.0 (a)", '{"id": "a", "x": 1}', "not set"), ("methods.b.x", "2", "3")],
        ),
        (
            {"methods": [{"id": "a"}, {"id": "b"}]},
            {"methods": [{"id": "b"}, {"id": "a"}]},
            [("methods: order", "a, b", "b, a")],
        ),
        ({"a": [{"name": "x"}]}, {"a": [{"name": "x", "limit": 4}]}, [("a.0.limit (x)", "not set", "4")]),
        ({"a": [{"x": 1}]}, {"a": [{"x": 2}]}, [("a", '[{"x": 1}]', '[{"x": 2}]')]),
    ],
)
def test_fields_that_differ(old: Any, new: Any, changed: list[tuple[str, str, str]]) -> None:
    assert [tuple(field) for field in changed_fields(old, new)] == changed
    assert changed_fields(old, old) == changed_fields(new, new) == []


# --- rows


def test_a_row_that_moved_is_told_apart_from_one_that_did_not() -> None:
    old = board_of(ours("base"), ours("dpo"), ours("multi", 2), ours("gone"))
    new = board_of(ours("base"), ours("dpo", 0.2), ours("multi", 7), ours("added"))
    changes = changes_between(old, new)
    assert (changes.unchanged, changes.gone, changes.added) == (["base"], ("gone",), ("added",))
    (win_rate,) = [found for found in changes.moves if found.figure.metric == "alpaca_eval.win_rate"]
    told = {move.row: move for move in win_rate.moves}
    assert list(told) == ["dpo", "multi"]
    assert [told[name].comparison.is_significant for name in told] == [False, True]
    before, now = ([100 * (v or 0) - 100 for v in ours("multi", s).outcomes["alpaca_eval"].values()] for s in (2, 7))
    assert told["multi"].comparison.difference == pytest.approx(sum(now) / N - sum(before) / N)
    assert stats.ttest_rel(now, before).pvalue < 0.001
    # Holm over the rows of a figure: the smallest p counts twice, the largest once.
    p = {name: (move.comparison.p, move.comparison.adjusted_p) for name, move in told.items()}
    assert p["multi"][1] == pytest.approx(2 * p["multi"][0])
    assert p["dpo"][1] == pytest.approx(max(p["dpo"][0], p["multi"][1]))
    first = " ".join(summary(changes))
    assert f"multi: +{told['multi'].comparison.difference:.1f} points of AlpacaEval win rate (95 % CI " in first
    assert "moved significantly" in first
    assert "dpo:" not in first


def test_rows_are_matched_by_substance_where_an_id_is_new() -> None:
    renamed = ours("dpo", 3).model_copy(update={"id": "dpo-old"})
    changes = changes_between(board_of(ours("base"), renamed), board_of(ours("base"), ours("dpo", 3)))
    assert (changes.unchanged, changes.gone, changes.added) == (["base", "dpo-old → dpo"], (), ())
    assert not changes.moves
    assert "Recipe, code, data, judge and benchmarks are the same." in summary(changes)


@pytest.mark.parametrize(
    ("changed", "section", "reason"),
    [
        (
            {"judge": {**LOCAL, "name": "openai"}},
            ("Judge", "name"),
            "different judge: name: local -> openai",
        ),
        (
            {"benchmarks": {"alpaca_eval": {"prompts": "mine"}, "mt_bench": {"questions": "mine"}}},
            ("Benchmarks", "alpaca_eval.prompts"),
            "different alpaca_eval: prompts: builtin -> mine",
        ),
        (
            {"references": {"alpaca_eval": "k", "mt_bench": "k"}},
            ("Reference answers", "alpaca_eval"),
            "alpaca_eval was judged against different answers of row 'None'",
        ),
    ],
)
def test_what_was_measured_otherwise_is_not_compared(
    changed: dict[str, Any], section: tuple[str, str], reason: str
) -> None:
    old, new = board_of(ours("base"), ours("dpo")), board_of(ours("base", **changed), ours("dpo", 5, **changed))
    changes = changes_between(old, new)
    title, field = section
    assert field in [name for name, _, rows in fields(changes)[title] if rows == ()]
    assert all(not found.moves for found in changes.moves)
    (win_rate,) = [found for found in changes.moves if found.figure.metric == "alpaca_eval.win_rate"]
    assert win_rate.apart == ((reason, ("base", "dpo")),)
    assert f"No row can be compared: {reason}" in " ".join(summary(changes))
    for width in (80, 200):
        assert f"base, dpo: not comparable, {reason}." in " ".join(drawn(changes, width).split())


def test_other_prompts_and_missing_figures_are_said() -> None:
    later = board_of(ours("a", 1, N - 20), without(ours("b", 1), 3, none=True))
    changes = changes_between(board_of(ours("a"), ours("b")), later)
    (win_rate,) = [found for found in changes.moves if found.figure.metric == "alpaca_eval.win_rate"]
    assert win_rate.apart == (("different prompts: 20 are missing, and 0 are new", ("a",)),)
    (b,) = win_rate.moves
    assert (b.comparison.prompts, b.comparison.left_out) == (N - 3, 3)
    assert "Up to 3 prompts are not scored on both boards" in " ".join(drawn(changes, 80).split())
    bare = ours("a").model_copy(update={"metrics": {"mt_bench.score": ours("a").metrics["mt_bench.score"]}})
    changes = changes_between(board_of(bare), board_of(ours("a", 1)))
    (found,) = [found for found in changes.moves if found.figure.metric == "alpaca_eval.win_rate"]
    assert found.apart == (("only the later board has AlpacaEval win rate", ("a",)),)


# --- recipe, code and data


def test_code_and_data_are_told_by_row() -> None:
    def about(version: str, sampled: int, key: str) -> dict[str, Any]:
        return {
            "made_by": {"harness": {"version": version}, "packages": {"torch": "2.13.0"}},
            "data": {"seeds": {"train": 36}, "responses": {"sampled": sampled, "nested": {"x": sampled}}},
            "keys": {"seeds": "s", "responses": key, "train/dpo": key, "verdicts/alpaca_eval/dpo": key},
        }

    old = board_of(ours("base"), ours("dpo", **about("0.1.0", 60, "k1")))
    new = board_of(ours("base"), ours("dpo", 1, **about("0.2.0", 92, "k2")))
    assert fields(changes_between(old, new)) == {
        "Code": [("harness.version", "0.1.0 → 0.2.0", ())],
        "Data": [("responses", "computed anew: sampled 60 → 92", ())],
        "Computed anew": [("dpo", "train, verdicts", ())],
    }
    mixed = board_of(with_provenance(ours("base"), made_by={"harness": {"version": "0.1.0"}}), *new.entries[1:])
    older = board_of(mixed.entries[0], old.entries[1])
    assert fields(changes_between(older, mixed))["Code"] == [("harness.version", "0.1.0 → 0.2.0", ("dpo",))]


def test_boards_without_a_common_row_still_have_recipes() -> None:
    changes = changes_between(board_of(ours("a")), board_of(ours("b", 1, recipe={"name": "mine", "seed": 4})))
    assert fields(changes)["Recipe"] == [("seed", "not set → 4", ())]
    assert summary(changes)[1] == "Rows: 1 new (b); 1 gone (a)."


@pytest.mark.parametrize("width", [80, 200])
def test_no_figure_is_broken_in_a_terminal(width: int) -> None:
    recipe = {"name": "mine", "a_very_long_section": {"with_a_very_long_field": "value " * 30}}
    old = board_of(ours("base"), ours("a-very-long-name-of-a-row-that-needs-folding", 2, recipe=recipe))
    new = board_of(ours("base"), ours("a-very-long-name-of-a-row-that-needs-folding", 9))
    text = drawn(changes_between(old, new), width)
    assert max(map(len, text.splitlines())) <= width
    assert re.search(r" \+[67]\.\d \(\d\.\d to \d\.\d\) +\d[\d.e-]* +significant *\n", text)
    assert text.startswith("mine, 2026-11-25 10:12 UTC  →  mine, 2026-11-25 10:12 UTC\nChanged: 1 field of the recipe")


def test_markdown_has_the_same_tables(tmp_path: Path) -> None:
    odd = {"name": "mine", "odd|field": "**x**\n::error::x"}
    for name, rows in (("one", (ours("a|b", 2), ours("base"))), ("two", (ours("a|b", 7, recipe=odd), ours("base")))):
        write_board(tmp_path / name, name, rows)
    out = tmp_path / "out.md"
    arguments = ["diff", str(tmp_path / "one"), str(tmp_path / "two"), "--markdown", str(out)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.exception
    recipe, anew, *figures = markdown_tables(out.read_text())
    assert recipe == [["field", "change"], ["odd|field [a|b]", "not set → **x**\n::error::x"]]
    assert anew == [["row", "change"], ["a|b", "verdicts"]]
    assert figures[0][0] == ["row", "before", "now", "change (95 % CI)", "p", ""]
    line = next(line for line in out.read_text().splitlines() if line.startswith("| **a&#124;b**"))
    assert "**significant**" in line
    assert re.search(r"\*\*\+5\.\d \(\d\.\d to \d\.\d\)\*\*", line)
    assert "# one" in out.read_text()


def test_nothing_of_a_board_reaches_the_terminal_raw() -> None:
    odd = "\x1b[31m\n::error::x"
    old = board_of(ours(odd, 2, recipe={odd: odd}, made_by={odd: odd}, judge={"name": odd}), name=odd, generated=odd)
    new = board_of(ours(odd, 7), name=odd)
    for changes in (changes_between(old, new), changes_between(new, old)):
        text = drawn(changes, 80)
        assert "\x1b" not in text
        assert not [line for line in text.splitlines() if line.lstrip().startswith("::error")]


# --- two real runs that differ in one field

FIELD = "methods.1.training.learning_rate"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, wordy_tiny_model: Path) -> Path:
    """A folder with two boards of a recipe in `boards/tiny`, the first in its history; `more` has the second."""
    folder = tmp_path_factory.mktemp("runs")
    recipe = tiny_recipe(wordy_tiny_model)
    recipe["data"] = {"seeds": [{"name": "builtin", "limit": 48}], "holdout": 0.5}
    recipe["evaluation"]["benchmarks"][0]["limit"] = 8
    for boards, edits in (("boards", []), ("boards", [f"{FIELD}=0.05"]), ("more", [f"{FIELD}=0.05"])):
        run = harness.run(recipe, edits=edits, leaderboards=folder / boards, store=folder / "store", progress=False)
        (folder / "kept.txt").open("a").write(f"{run.completed.kept}\n")
    return folder


@pytest.mark.slow
def test_the_first_board_is_in_the_history(runs: Path) -> None:
    (kept,) = kept_boards(runs / "boards" / "tiny")
    assert (runs / "kept.txt").read_text().splitlines() == ["None", str(kept), "None"]
    assert f"the board that was here is kept in {kept}" in (runs / "boards" / "tiny" / "run.log").read_text()
    first, second = read_board(kept), read_board(runs / "boards" / "tiny")
    assert [e.id for e in first.entries] == [e.id for e in second.entries] == ["base", "dpo", "multi-dpo"]
    assert first.entries[:2] != second.entries[:2]  # their recipes
    assert first.entries[2].metrics != second.entries[2].metrics


@pytest.mark.slow
def test_diff_names_the_field_and_the_rows_that_moved(runs: Path) -> None:
    new = runs / "boards" / "tiny"
    (kept,) = kept_boards(new)
    changes = changes_between(read_board(kept), read_board(new))
    assert [(change.field, change.text) for change in changes.recipe] == [(f"{FIELD} (multi-dpo)", "not set → 0.05")]
    assert [title for title, _ in changes.sections] == ["Recipe", "Computed anew"]
    (anew,) = dict(changes.sections)["Computed anew"]
    assert (anew.field, anew.text) == ("multi-dpo", "train, heldout, answers, verdicts")
    assert changes.unchanged == ["base", "dpo"]
    assert {move.row for found in changes.moves for move in found.moves} == {"multi-dpo"}
    rows = [json.loads((path / "entries" / "multi-dpo.json").read_text()) for path in (kept, new)]
    right = [{pair: m > 0 for pair, m in r["outcomes"]["heldout"].items()} for r in rows]
    (accuracy,) = [found for found in changes.moves if found.figure.metric == "heldout.pair_accuracy"]
    (move,) = accuracy.moves
    pairs = [(right[1][pair], right[0][pair]) for pair in right[0]]
    assert move.comparison.difference == pytest.approx(100 * sum(a - b for a, b in pairs) / len(pairs))
    gained, lost = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    exact = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert move.comparison.is_significant == (exact < 0.05)
    told = CliRunner().invoke(app, ["diff", str(new)])
    assert told.exit_code == 0, told.exception
    assert told.output == CliRunner().invoke(app, ["diff", str(kept), str(new)]).output
    assert f"1 field of the recipe ({FIELD} (multi-dpo) not set → 0.05)." in " ".join(told.output.split())
    assert "2 the same (base, dpo); 1 changed (multi-dpo)" in " ".join(told.output.split())


@pytest.mark.slow
def test_merge_keeps_both(runs: Path, tmp_path: Path) -> None:
    new = runs / "boards" / "tiny"
    (kept,) = kept_boards(new)
    refused = CliRunner().invoke(app, ["merge", str(kept), str(new), "-o", str(tmp_path / "both")])
    assert "row 'multi-dpo' differs between" in str(refused.exception)
    rename = ["--rename", "multi-dpo=multi-dpo-fast"]
    done = CliRunner().invoke(app, ["merge", str(kept), str(new), "-o", str(tmp_path / "both"), *rename])
    assert done.exit_code == 0, done.exception
    both = read_board(tmp_path / "both")
    assert [e.id for e in both.entries] == ["base", "dpo", "multi-dpo", "multi-dpo-fast"]
    assert both.entries[2] == read_board(kept).entries[2]
    assert both.entries[3].outcomes == read_board(new).entries[2].outcomes
    assert ("multi-dpo", "multi-dpo-fast") in {(c.first, c.second) for c in both.comparisons["alpaca_eval.win_rate"]}
    # Answers come along, from the board that has them: what was kept has figures only.
    names = {path.name for path in (tmp_path / "both" / "data" / "alpaca_eval").iterdir()}
    assert names == {"base", "dpo", "multi-dpo-fast"}
    same = merge_boards([new, runs / "more" / "tiny"], tmp_path / "same")
    assert [e.id for e in read_board(same).entries] == ["base", "dpo", "multi-dpo"]
