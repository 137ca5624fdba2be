"""A baseline's history: every promotion with the figure and the interval that it had, and the anchor."""

import io
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.errors import DataError
from harness.gate.baseline import promote
from harness.gate.history import DrawnHistory, drawn, read_history
from harness.printable import terminal
from tests.gate.rows import board, row

WIN_RATE = "alpaca_eval.win_rate"
ROWS = [row(f"r{k}", shift, n=60) for k, shift in enumerate((0, 2, 5, 1, 2))]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five promotions; the fourth is a new anchor, and worse than the third."""
    folder = tmp_path_factory.mktemp("history")
    made = board(folder / "mine", *ROWS)
    for entry in ROWS:
        promote(made, entry.id, folder / "baseline.json", new_anchor=entry.id == "r3", allow_worse=entry.id == "r3")
    return folder / "baseline.json"


def test_each_promotion_has_what_its_row_had(file: Path) -> None:
    history = read_history(file)
    assert [(p.promotion.row, p.value, p.ci95) for p in history.points] == [
        (entry.id, entry.value(WIN_RATE), entry.metrics[WIN_RATE].ci95) for entry in ROWS
    ]
    assert [p.promotion.row for p in history.points if p.promotion.anchor] == ["r0", "r3"]
    scores = read_history(file, "mt_bench.score")
    assert scores.points[2].ci95 == ROWS[2].metrics["mt_bench.score"].ci95


def test_a_file_of_an_earlier_version_has_the_intervals_of_its_two_rows(file: Path, tmp_path: Path) -> None:
    written = json.loads(file.read_text())
    del written["schema_version"]
    for line in written["history"]:
        del line["intervals"]
    (tmp_path / "old.json").write_text(json.dumps(written))
    points, now = read_history(tmp_path / "old.json").points, read_history(file).points
    assert [p.value for p in points] == [p.value for p in now]
    assert [p.ci95 for p in points] == [None, None, None, now[3].ci95, now[4].ci95]
    text = draw(tmp_path / "old.json", 120)
    assert re.search(r"r1 +\S+ +\S+ +[\d.]+ +–  ", text)
    del written["history"], written["anchor"]  # the first version
    written["before"] = {"row": "old", "by": "us", "at": "2026-01-02T00:00:00+00:00", "commit": None}
    (tmp_path / "older.json").write_text(json.dumps(written))
    assert [(p.promotion.row, p.value is None) for p in read_history(tmp_path / "older.json").points] == [
        ("old", True),
        ("r4", False),
    ]
    assert "2026-01-02" in draw(tmp_path / "older.json", 80)


def draw(path: Path, width: int) -> str:
    console = terminal(file=io.StringIO(), width=width)
    console.print(DrawnHistory(read_history(path)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_drawing_is_to_scale(file: Path) -> None:
    history = read_history(file)
    width = 41
    low = min(p.ci95[0] for p in history.points if p.ci95)
    high = max(p.ci95[1] for p in history.points if p.ci95)
    anchor = 0.0
    for line, point in zip(drawn(history.points, width), history.points, strict=True):
        assert point.value is not None
        assert point.ci95 is not None
        anchor = point.value if point.promotion.anchor else anchor
        places = [round((x - low) / (high - low) * (width - 1)) for x in (point.value, *point.ci95, anchor)]
        assert (line.index("●"), len(line)) == (places[0], width)
        marks = [i for i, c in enumerate(line) if c in "─●"]
        assert abs(marks[0] - places[1]) <= 1
        assert abs(marks[-1] - places[2]) <= 1
        assert point.promotion.anchor or places[0] == places[3] or line[places[3]] == "│"


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal(file: Path, width: int) -> None:
    lines = draw(file, width).splitlines()
    assert max(map(len, lines)) <= width
    assert ("●" in "".join(lines)) == (width >= 60)
    assert any("new anchor" in line for line in lines)
    assert any("allowed: " in line for line in lines)


def test_the_command(file: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    svg = tmp_path / "history.svg"
    shown = runner.invoke(app, ["history", str(file), "--svg", str(svg)])
    assert (shown.exit_code, "5 promotions" in shown.output) == (0, True)
    assert "r3" in svg.read_text()
    listed = json.loads(runner.invoke(app, ["history", str(file), "--json"]).output)
    assert listed["promotions"][0]["value"] == ROWS[0].value(WIN_RATE)


def test_what_is_no_baseline_is_one_line(file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a baseline; expected a file that"):
        read_history(file.parent / "mine" / "board.json")
    with pytest.raises(DataError, match="it is a folder"):
        read_history(file.parent / "mine")
    with pytest.raises(DataError, match=r"no promotion has 'mt_bench\.scor'; did you mean 'mt_bench\.score'"):
        read_history(file, "mt_bench.scor")
    newer = json.loads(file.read_text()) | {"schema_version": 9, "news": 1}
    (tmp_path / "newer.json").write_text(json.dumps(newer))
    with pytest.raises(DataError, match="written by a newer harness"):
        read_history(tmp_path / "newer.json")


def test_a_stranger_s_texts_send_no_escape_sequence(file: Path, tmp_path: Path) -> None:
    text = file.read_text().replace('"row": "r1"', '"row": "\\u001b[31mred\\n::error::x"')
    (tmp_path / "hostile.json").write_text(text)
    shown = draw(tmp_path / "hostile.json", 120)
    assert "\x1b" not in shown
    assert not any(line.startswith("::error::") for line in shown.splitlines())
