"""Boards made of boards, and a board as alpaca_eval's own leaderboard."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.benchmarks.alpaca_eval.package import alpaca_eval_contained, package_folder
from harness.boards.read import read_board
from harness.cli.app import app
from harness.errors import DataError
from harness.report.csv_files import alpaca_eval_csv
from harness.report.merge import merge_boards
from harness.report.write import write_board
from tests.gate.rows import row
from tests.sample_boards import entry


def board(folder: Path, *rows) -> Path:
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
    with pytest.raises(DataError, match=r"row 'dpo' differs between .*one and .*two; rename one"):
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
