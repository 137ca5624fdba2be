"""The page's first screen and its charts: they show the answer's and the rows' figures, in one order and one colour."""

import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.boards.entry import Entry
from harness.claims.answer import answer
from harness.report.page import page
from harness.report.page.dots import Line, Panel, Point, dots
from harness.report.page.looks import PLAIN
from harness.report.page.scale import scale_of
from harness.report.write import write_board
from harness.types import Metric
from tests.report.boards import trained_rows
from tests.report.html import Element, charts, read
from tests.sample_boards import LOCAL, four_rows, with_provenance


def drawn(folder: Path, rows: list[Entry]) -> Element:
    write_board(folder, "x", rows)
    return read(page(folder))


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_answer_stands_first_with_its_differences(seeds: int, tmp_path: Path) -> None:
    rows = trained_rows(["dpo", "ipo", "multi-dpo"], seeds)
    found = answer(rows)
    assert found is not None
    shown = drawn(tmp_path, rows)
    assert [section.attributes["id"] for section in shown.all("section")][:2] == ["answer", "rows"]
    (first,) = shown.all("section", id="answer")
    for line in [*found.lines, *(s.parts for s in found.statements if s.parts)]:
        assert line in first.text
    assert all(bool(statement.parts) == (seeds > 1) for statement in found.statements)
    differences, levels = charts(first)
    assert list(differences.rows) == ["ipo", "multi-dpo"]
    for effect in found.primary.effects:
        (point,) = differences.rows[effect.value]
        assert point is not None
        assert effect.ci95 is not None
        expected = (effect.difference, *effect.ci95, 0.0)
        assert point[:4] == pytest.approx(expected, abs=0.02)
        assert f"{abs(effect.difference):.1f}" in point.title
    for entry in rows:
        (point,) = levels.rows[entry.id]
        metric = entry.metrics["alpaca_eval.win_rate"]
        assert point is not None
        assert metric.ci95 is not None
        assert point[:4] == pytest.approx((metric.value, *metric.ci95, 50.0), abs=0.1)


def test_differences_of_single_seeds_are_shown(tmp_path: Path) -> None:
    rows = trained_rows(["dpo", "multi-dpo"], 3)
    found = answer(rows)
    assert found is not None
    (chart, *_) = [f for f in drawn(tmp_path, rows).all("figure") if f.all("table", "dots")]
    titles = [part.all("title")[0].text for part in chart.all("circle", "part")]
    seeds = found.statements[0].effect.by_seed
    texts = [f"{x:+.1f}".replace("+0.0", "0.0").replace("-0.0", "0.0").replace("-", "−") for x in seeds]
    assert titles == [f"seed {i}: {text}" for i, text in enumerate(texts, 1)]


def test_rows_have_one_order_and_one_colour(tmp_path: Path) -> None:
    names = [f"row-{i}" for i in range(14)]
    shown = charts(drawn(tmp_path, trained_rows(names)))
    assert len(shown) > 2
    looks: dict[str, str] = {}
    for chart in shown:
        assert list(chart.rows) == [name for name in names if name in chart.rows]
        for name, colour in chart.colours.items():
            assert looks.setdefault(name, colour) == colour
    assert len(set(looks.values())) == 10


def test_colours_that_repeat_have_other_marks(tmp_path: Path) -> None:
    shown = drawn(tmp_path, trained_rows([f"row-{i}" for i in range(14)]))
    lines = shown.all("figure")[1].all("tbody")[0].all("tr")
    marks = [(line.all("svg")[0].classes[0], line.all("svg", "mark")[0].classes[1]) for line in lines]
    assert len(set(marks)) == 14


def test_the_rows_of_a_method_share_a_colour(tmp_path: Path) -> None:
    shown = charts(drawn(tmp_path, trained_rows(["dpo", "multi-dpo"], 3)))[1]
    by_method = {
        name: {c for row, c in shown.colours.items() if row.startswith(f"{name}.")} for name in ("dpo", "multi-dpo")
    }
    assert all(len(colours) == 1 for colours in by_method.values())
    assert by_method["dpo"] != by_method["multi-dpo"]


def test_categories_are_dots_on_one_axis(tmp_path: Path) -> None:
    values = {"writing": 4.25, "math": 5.25, "coding": 6.25}  # the mean of the sample rows
    parts = {f"mt_bench.{kind}": Metric(value=x, ci95=(x - 0.5, x + 1), n=10) for kind, x in values.items()}
    rows = [row.model_copy(update={"metrics": row.metrics | parts}) for row in four_rows()]
    shown = drawn(tmp_path, rows)
    (figure,) = [f for f in shown.all("figure") if "MT-bench by category" in f.text]
    axes = figure.all("td", "axis")
    assert len(axes) == 3
    assert len({tuple((t.attributes["x"], t.text) for t in axis.all("text")) for axis in axes}) == 1
    (chart,) = [c for c in charts(shown) if c.title == "MT-bench by category"]
    assert list(chart.rows) == [row.id for row in rows]
    for points in chart.rows.values():
        assert len(points) == 3
        for point, (kind, x) in zip(points, values.items(), strict=True):
            assert point is not None
            assert point[:3] == pytest.approx((x, x - 0.5, x + 1), abs=0.05), kind


def test_every_chart_says_what_it_shows(tmp_path: Path) -> None:
    """Also one of a single figure, whose panel has no heading."""
    (chart,) = charts(drawn(tmp_path, trained_rows(["a", "b"])))[2:]
    assert chart.title == "AlpacaEval win rate, %"


def test_boards_without_a_comparison_say_so(tmp_path: Path) -> None:
    shown = drawn(tmp_path, trained_rows(["only"]))
    (first,) = shown.all("section", id="answer")
    assert "none are compared" in first.text
    (chart,) = charts(first)
    assert list(chart.rows) == ["only"]


def test_a_doubt_of_several_rows_is_told_once(tmp_path: Path) -> None:
    flag = {"name": "short", "text": "answers are short", "evidence": ()}
    rows = [with_provenance(row, guards={"row": [flag]}) for row in trained_rows(["a", "b", "c"])]
    (doubts,) = drawn(tmp_path, rows).all("ul", "doubts")
    assert [item.text for item in doubts.all("li")] == ["a, b, c: answers are short"]


def test_numbers_have_minus_signs(tmp_path: Path) -> None:
    shown = drawn(tmp_path, trained_rows(["b", "a"])[::-1])
    text = " ".join(part.text for part in shown.all("section") if part.attributes["id"] in ("answer", "compared"))
    assert re.findall(r"−\d", text)
    assert re.findall(r"(?<![\w.])-\d", text) == []


def test_the_primary_figure_has_the_first_column(tmp_path: Path) -> None:
    shown = drawn(tmp_path, [with_provenance(row, judge=LOCAL) for row in four_rows()])
    heads = shown.all("table", "sortable")[0].all("th")
    assert "primary" in heads[2].text


def test_notes_are_folded(tmp_path: Path) -> None:
    shown = drawn(tmp_path, trained_rows(["a", "b"]))
    folded = [d for d in shown.all("details") if d.all("ul", "notes")]
    assert folded
    assert all("open" not in details.attributes for details in folded)


@pytest.mark.slow
def test_two_hundred_rows_are_drawn_at_once(tmp_path: Path) -> None:
    import time

    rows = trained_rows([f"row-{i:03}" for i in range(200)], prompts=8)
    write_board(tmp_path, "x", rows)
    started = time.process_time()
    text = page(tmp_path)
    assert time.process_time() - started < 20  # about two on a machine that does nothing else
    shown = read(text)
    assert len(shown.all("table", "sortable")[0].all("tbody")[0].all("tr")) == 200
    assert all(len(chart.rows) <= 40 for chart in charts(shown))
    assert len(text) < 4e6


@given(
    st.lists(st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-6), min_size=1, max_size=6), st.integers(3, 6)
)
def test_axes_hold_their_values_and_have_round_numbers(values: list[float], most: int) -> None:
    scale = scale_of(values)
    assert all(0 <= float(scale.at(value)) <= 100 for value in values)
    ticks = scale.ticks(most)
    assert 2 <= len(ticks) <= most
    numbers = [float(tick.text.replace("−", "-")) for tick in ticks]
    for tick, number in zip(ticks, numbers, strict=True):
        assert float(tick.at) == pytest.approx(float(scale.at(number)), abs=0.5)
        assert tick.anchor == ("start" if float(tick.at) < 8 else "end" if float(tick.at) > 92 else "middle")
    gaps = [b - a for a, b in itertools.pairwise(numbers)]
    assert max(gaps) == pytest.approx(min(gaps), rel=1e-6)


@given(st.floats(0, 100), st.floats(0, 100))
def test_axes_stay_within_what_is_possible(one: float, other: float) -> None:
    scale = scale_of([one, other], (0.0, 100.0))
    assert scale.low >= 0
    assert scale.high <= 100


@pytest.mark.parametrize(
    ("ends", "signs", "most"), [((-0.18, 0.05), True, 3), ((0.36, 0.62), False, 5), ((-30, 20), True, 5)]
)
def test_numbers_below_a_panel_have_room(ends: tuple[float, float], signs: bool, most: int) -> None:
    """Beside its figures a panel is narrow: five long numbers would run into each other."""
    lines = [Line(f"row {end}", PLAIN, (Point(end, None, ""),)) for end in ends]
    (panel,) = dots("Difference", [Panel("", signs=signs)], lines).panels
    assert 2 <= len(panel.ticks) <= most
    assert sum(len(tick.text) + 1 for tick in panel.ticks) <= 20
