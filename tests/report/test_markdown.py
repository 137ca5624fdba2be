"""A board as Markdown and CSV: any text survives, every figure is there, and honest about what it is."""

import csv
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.boards.read import read_board
from harness.report.write import write_board
from harness.types import Metric
from tests.sample_boards import BENCHMARKS, drawn, entry, four_rows, markdown_tables, metric

any_text = st.text(max_size=40) | st.sampled_from(
    ["a|b", "`x`\n| y |", "<script>alert(1)</script>", "=1+1", "-cmd", "@SUM(A1)", "\t=1", "\r\n", "'=2", "''-x", "-5",
     "**b** _i_ [l](javascript:x)", "&lt;", "\\|", "#", " edge ", "\u202eevil", "</textarea>", "a\u2028b", "+1e5"]
)  # fmt: skip
no_controls = any_text.map(lambda s: "".join(c for c in s if c in "\t\r\n" or not (ord(c) < 32 or 127 <= ord(c) < 160)))


@settings(max_examples=150, deadline=None)
@given(ids=st.lists(no_controls.filter(bool), min_size=1, max_size=3, unique=True), method=no_controls, note=any_text)
def test_any_text_survives(ids: list[str], method: str, note: str) -> None:
    rows = [entry(row, method, data={"ranked": {note: 1}}, judge={"name": note}, reconstruction=note) for row in ids]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_board(folder, note, rows)
        board = read_board(folder)
        assert (board.name, list(board.entries)) == (note, rows)
        markdown = (folder / "board.md").read_bytes().decode()
        with (folder / "board.csv").open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file))
    figures, categories = markdown_tables(markdown)
    shown_method = "–" if method == "base" else method
    assert [line[:2] for line in figures[1:]] == [[row, shown_method] for row in ids]
    assert [line[0] for line in categories[1:]] == ids
    assert len({len(line) for line in figures}) == 1
    assert "<" not in markdown.replace("<details>\n<summary>Notes</summary>", "").replace("</details>", "")
    assert len({len(line) for line in lines}) == 1
    assert [[unprotected(cell) for cell in line[:2]] for line in lines[1:]] == [[row, method] for row in ids]
    for cell in (c for line in lines for c in line):
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) or is_number(cell)


def unprotected(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell.lstrip("'")[:1] in set("=+-@\t\r\n") else cell


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


@settings(max_examples=100, deadline=None)
@given(
    value=st.none() | st.floats(-1e6, 1e6),
    half=st.none() | st.floats(0, 1e6),
    n=st.integers(0, 300),
    n_invalid=st.integers(0, 300),
)
def test_csv_holds_every_figure_in_full(value: float | None, half: float | None, n: int, n_invalid: int) -> None:
    interval = None if value is None or half is None else (value - half, value + half)
    given_metric = Metric(value=value, stderr=half, ci95=interval, n=n, n_invalid=n_invalid)
    with tempfile.TemporaryDirectory() as scratch:
        write_board(Path(scratch), "b", [entry("dpo", "sdpo", {"mt_bench.score": given_metric}), entry("x", "nca", {})])
        lines = list(csv.DictReader((Path(scratch) / "board.csv").read_text().splitlines()))
    low, high = interval or (None, None)
    expected = dict(zip(("", ".stderr", ".ci95_low", ".ci95_high"), (value, half, low, high), strict=True))
    for suffix, figure in expected.items():
        cell = lines[0][f"mt_bench.score{suffix}"]
        assert (float(cell) if cell else None) == figure
    assert (int(lines[0]["mt_bench.score.n"]), int(lines[0]["mt_bench.score.n_invalid"])) == (n, n_invalid)
    assert all(cell == "" for name, cell in lines[1].items() if name.startswith("mt_bench"))


def test_figures_intervals_and_shared_counts(tmp_path: Path) -> None:
    write_board(tmp_path, "quickstart", four_rows())
    figures, categories = markdown_tables((tmp_path / "board.md").read_text())
    assert figures[0] == [
        "row",
        "loss",
        "AlpacaEval win rate, % (n=30)",
        "MT-bench score (n=30)",
        "Held-out Kendall tau (n=12)",
    ]
    assert figures[2] == ["dpo", "dpo_best_worst", "53.1 [48.1, 58.2]", "5.25 [4.75, 5.75]", "0.062 [−0.062, 0.188]"]
    assert categories[0] == ["row", "math (n=4)"]
    assert categories[1] == ["base", "4.50"]


def test_what_was_not_scored_is_counted(tmp_path: Path) -> None:
    rows = [
        entry("base", "base", {"alpaca_eval.win_rate": metric(50.0)}),
        entry("dpo", "sdpo", {"alpaca_eval.win_rate": metric(50.0, n=28, n_invalid=2)}),
        entry("lost", "nca", {"alpaca_eval.win_rate": Metric(value=None, n=0, n_invalid=30)}),
        entry("few", "nca", {"alpaca_eval.lc_win_rate": Metric(value=None, n=3)}),
        entry("absent", "nca", {}),
    ]
    write_board(tmp_path, "quickstart", rows)
    (figures,) = markdown_tables((tmp_path / "board.md").read_text())
    assert figures[0][2] == "AlpacaEval win rate, %"
    assert [line[2] for line in figures[1:]] == [
        "50.0 [49.0, 51.0] (n=30)",
        "50.0 [49.0, 51.0] (n=28, 2 invalid)",
        "not scored (n_invalid=30)",
        "–",
        "–",
    ]
    assert figures[4][3] == "not computable (n=3)"
    shown = drawn(tmp_path, 100)
    assert "2 invalid" in shown
    assert "30 invalid" in shown
    assert "not scored" in shown


def test_a_row_without_a_value_leaves_the_shared_count_in_the_head(tmp_path: Path) -> None:
    rows = [
        entry("base", "base", {"heldout.kendall_tau": Metric(value=None, n=0, n_invalid=16)}),
        entry("dpo", "sdpo", {"heldout.kendall_tau": metric(0.25, 0.125, n=16)}),
    ]
    write_board(tmp_path, "quickstart", rows)
    (figures,) = markdown_tables((tmp_path / "board.md").read_text())
    assert [line[2] for line in figures] == [
        "Held-out Kendall tau (n=16)",
        "not scored (n_invalid=16)",
        "0.250 [0.125, 0.375]",
    ]
    assert drawn(tmp_path, 100).count("n=16") == 1


def test_negative_zero_is_zero(tmp_path: Path) -> None:
    write_board(tmp_path, "quickstart", [entry("base", "base", {"heldout.margin": metric(-0.00001, 0.00002)})])
    assert " 0.0000 [0.0000, 0.0000] |" in (tmp_path / "board.md").read_text()


@pytest.mark.parametrize(
    "other",
    [
        {"judge": {"name": "openai", "model": "gpt-4"}},
        {"benchmarks": {**BENCHMARKS, "alpaca_eval": {"sha256": "ef" * 32}}},
    ],
)
def test_rows_of_another_judge_or_prompt_set_stand_apart(tmp_path: Path, other: dict[str, Any]) -> None:
    rows = [entry("base", "base"), entry("guest", "sdpo", **other), entry("dpo", "dpo_adjacent")]
    write_board(tmp_path, "quickstart", rows)
    text = (tmp_path / "board.md").read_text()
    tables = [[line[0] for line in table[1:]] for table in markdown_tables(text)]
    assert tables == [["base", "dpo"], ["base", "dpo"], ["guest"], ["guest"]]
    assert "figures of different tables can't be compared" in text
    assert drawn(tmp_path, 100).count("not comparable with the other tables") == 2


def test_rows_of_other_held_out_pairs_stand_apart(tmp_path: Path) -> None:
    guest = entry("guest", "sdpo").model_copy(update={"outcomes": {"heldout": {"p2": 1.0}}})
    write_board(tmp_path, "quickstart", [entry("base", "base"), guest])
    assert len(markdown_tables((tmp_path / "board.md").read_text())) == 4
