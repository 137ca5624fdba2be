"""A board in the terminal, at any width."""

import io
import re
from pathlib import Path

import pytest

from harness.boards.board import Board
from harness.boards.read import read_board
from harness.printable import terminal
from harness.report.terminal import terminal_answer
from harness.report.write import write_board
from tests.claims.test_answer import board
from tests.sample_boards import drawn, entry, four_rows, metric

FULL = {
    "alpaca_eval.win_rate": metric(53.125, 5.0625),
    "alpaca_eval.lc_win_rate": metric(51.875, 6.5),
    "alpaca_eval.avg_length": metric(1412.0, 123.0),
    "mt_bench.score": metric(5.25, 0.5),
    "mt_bench.turn_1": metric(5.75, 0.625),
    "mt_bench.turn_2": metric(4.75, 0.875),
    "heldout.pair_accuracy": metric(0.5625, 0.125),
    "heldout.kendall_tau": metric(-0.0625, 0.1875),
    "heldout.margin": metric(0.03125, 0.015625),
}
INTERVALS = ("48.1–58.2", "45.4–58.4", "1289–1535", "4.75–5.75", "5.12–6.38", "3.88–5.62", "0.438–0.688",
             "−0.250 – 0.125", "0.0156–0.0469")  # fmt: skip


@pytest.mark.parametrize("width", [40, 80, 100, 200])
def test_terminal_breaks_no_figure(width: int) -> None:
    rows = [e.model_copy(update={"metrics": FULL, "outcomes": {}}) for e in four_rows()]
    shown = drawn(Board(name="quickstart", generated=None, entries=tuple(rows)), width)
    lines = shown.split("\n")
    assert max(map(len, lines)) <= width
    for text in (*INTERVALS, "53.1", "51.9", "1412", "5.25", "5.75", "4.75", "0.562", "−0.062", "0.0312"):
        assert sum(text in line for line in lines) >= len(rows), text
    for row in rows:
        assert any(line.split()[:1] == [row.id] for line in lines)


def test_terminal_takes_the_width_that_is_there() -> None:
    rows = [e.model_copy(update={"metrics": FULL, "outcomes": {}}) for e in four_rows()]
    board = Board(name="quickstart", generated=None, entries=tuple(rows))
    heads = {w: sum(line.startswith("row ") for line in drawn(board, w).split("\n")) for w in (200, 100, 60)}
    assert heads == {200: 1, 100: 2, 60: 3}
    # At 60 there is room for a column of MT-bench beside AlpacaEval's, but a group that fits a table stays whole.
    assert not re.search("AlpacaEval {2,}.*MT-bench", drawn(board, 60))


def test_terminal_folds_a_long_id_and_shows_all_of_it() -> None:
    row = "multi-dpo-" + "0123456789" * 7
    board = Board(name="quickstart", generated=None, entries=(entry(row, "mdpo_linear", FULL),))
    for width in (80, 100):
        shown = drawn(board, width)
        assert max(map(len, shown.split("\n"))) <= width
        assert all(interval in shown for interval in INTERVALS)
        assert row in "".join(line[: width // 2] for line in shown.split("\n")).replace(" ", "")


def test_terminal_sends_no_escape_sequence_of_a_row(tmp_path: Path) -> None:
    write_board(tmp_path, "\x1b]0;title\x07", [entry("\x1b[2Jgone", "sdpo", judge={"name": "\x1b[31m"})])
    shown = drawn(tmp_path, 100)
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "␛[2Jgone" in shown


@pytest.mark.parametrize("width", [60, 100])
def test_the_answer_alone_has_every_comparison_and_the_figure_of_each_method(tmp_path: Path, width: int) -> None:
    methods = {"dpo": 0.0, "multi": 5.0, "third": 1.0, "fourth": 2.0, "fifth": 3.0, "sixth": 4.0}
    rows = [*board(methods, seeds=3, recipe={"methods": [{"id": name} for name in methods]})]
    folder = tmp_path / "several"
    write_board(folder, "several", rows)
    console = terminal(width=width, file=io.StringIO())
    console.print(terminal_answer(read_board(folder)))
    shown = console.file.getvalue()
    assert "1 more comparison" in drawn(folder, width)
    assert "1 more comparison" not in shown
    for name in [*methods][1:]:
        assert sum(line.lstrip().startswith(f"{name} against dpo") for line in shown.split("\n")) == 1
        assert sum(line.lstrip().startswith(f"{name} − dpo ") for line in shown.split("\n")) == 1
    figures = [line for line in shown.split("\n") if line.endswith("3 seeds")]
    assert [line.split()[0] for line in figures] == [*methods]
    assert max(map(len, shown.split("\n"))) <= width
