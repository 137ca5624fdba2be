"""What a sweep's axes changed, against differences worked out by hand and scipy's paired test."""

import io
import random
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console, Group
from scipy import stats

from harness.boards.catalog import Figures
from harness.boards.entry import Entry
from harness.boards.provenance import Provenance
from harness.boards.read import read_board
from harness.claims.cells import METHOD, axes_of, by_method, levels
from harness.claims.effects import edges, effects
from harness.report.page.dots import Dots
from harness.report.page.looks import Looks
from harness.report.page.sweep_charts import sweep_charts
from harness.report.sweep import (
    SweepSection,
    SweepTable,
    sweep_markdown,
    sweep_of_figure,
    sweep_sections,
    sweep_terminal,
)
from harness.types import Metric
from tests.sample_boards import with_provenance

ROOT = Path(__file__).parents[2]
PROMPTS = [f"q{i}" for i in range(60)]
AXES = [
    {"name": "n", "fields": ["data.responses.n"], "values": ["2", "4"]},
    {"name": "reward", "fields": ["data.reward"], "values": ["good", "bad"]},
]
WIN = "alpaca_eval.win_rate"
LOSSES = {"pairs": "dpo_adjacent", "multi": "mdpo_linear"}


def row(method: str, settings: dict[str, str], verdicts: dict[str, float | None], **more: Any) -> Entry:
    known = [v for v in verdicts.values() if v is not None]
    training = {"steps": 10, "forward_tokens": 1000 if method == "pairs" else 700, **more.pop("training", {})}
    return Entry(
        id=".".join([method, *(f"{a}-{v}" for a, v in settings.items())]),
        method=LOSSES[method],
        metrics={"alpaca_eval.win_rate": Metric(value=100 * (float(np.mean(known)) - 1), n=len(known))},
        provenance={
            "judge": {"name": "j"},
            "benchmarks": {"alpaca_eval": {}},
            "sweep": {"row": method, "cells": [settings], "axes": more.pop("axes", AXES)},
            "training": training,
            "data": more.pop("data", {"responses": {"tokens": 100 * int(settings.get("n", 1))}}),
            **more,
        },
        outcomes={"alpaca_eval": verdicts},
    )


@pytest.fixture(scope="module")
def board() -> list[Entry]:
    """Prompts differ much; n=4 adds 0.1, the good reward nothing, the method nothing."""
    rng = random.Random(0)
    hard = {prompt: rng.random() for prompt in PROMPTS}
    rows = []
    for method, n, reward in product(LOSSES, ("2", "4"), ("good", "bad")):
        verdicts: dict[str, float | None] = {
            prompt: 1 + 0.7 * hard[prompt] + 0.1 * (n == "4") + rng.gauss(0, 0.1) for prompt in PROMPTS
        }
        rows.append(row(method, {"n": n, "reward": reward}, verdicts))
    return rows


def test_an_effect_is_the_mean_over_pairs_that_differ_in_nothing_else(board: list[Entry]) -> None:
    axis = axes_of(board)[0]
    (effect,) = effects(board, axis)
    assert (effect.value, effect.against, effect.pairs) == ("4", "2", 4)
    by_n = {n: [e for e in board if e.provenance.sweep.cells[0]["n"] == n] for n in ("2", "4")}
    means = {
        n: np.array([[e.outcomes["alpaca_eval"][p] for p in PROMPTS] for e in rows]).mean(0) for n, rows in by_n.items()
    }
    apart = 100 * (means["4"] - means["2"])
    assert effect.difference == pytest.approx(apart.mean())
    assert effect.estimate.stderr == pytest.approx(stats.sem(apart))
    low, high = stats.t.interval(0.95, len(apart) - 1, apart.mean(), stats.sem(apart))
    assert effect.ci95 is not None
    assert effect.ci95[0] < low < high < effect.ci95[1]  # two prompts that nobody has seen take part
    assert effect.is_significant
    assert stats.ttest_rel(means["4"], means["2"]).pvalue < 0.001


def test_what_changed_nothing_is_not_significant(board: list[Entry]) -> None:
    _, reward, method = axes_of(board)
    assert method.name == METHOD
    for axis in (reward, method):
        (effect,) = effects(board, axis)
        assert not effect.is_significant


def test_pooling_sees_what_one_pair_would_not(board: list[Entry]) -> None:
    """Four pairs have about half the error of one."""
    axis = axes_of(board)[0]
    one = [e for e in board if e.id.startswith("multi") and e.id.endswith("good")]
    (pooled,), (single,) = effects(board, axis), effects(one, axis)
    assert single.pairs == 1
    assert pooled.estimate.stderr == pytest.approx(single.estimate.stderr / 2, rel=0.35)


def test_a_row_in_several_cells_is_compared_with_none_of_itself(board: list[Entry]) -> None:
    shared = row("pairs", {"n": "2", "reward": "good"}, dict.fromkeys(PROMPTS, 1.5))
    sweep = shared.provenance.plain()["sweep"]
    shared = with_provenance(shared, sweep={**sweep, "cells": [*sweep["cells"], {"n": "4", "reward": "good"}]})
    assert effects([shared, *[e for e in board if e.id.startswith("multi")]], axes_of(board)[0])[0].pairs == 2


def test_rows_of_other_judges_or_references_are_not_compared(board: list[Entry]) -> None:
    elsewhere = {"alpaca_eval": "another base's answers"}
    other = [with_provenance(e, references=elsewhere) if "n-4" in e.id else e for e in board]
    assert effects(other, axes_of(other)[0]) == []
    assert len(effects(other, axes_of(other)[1])) == 1


def test_what_is_not_scored_is_left_out(board: list[Entry]) -> None:
    worse = [e.model_copy(deep=True) for e in board]
    worse[0].outcomes["alpaca_eval"]["q0"] = None
    (effect,) = effects(worse, axes_of(worse)[0])
    assert effect.prompts == len(PROMPTS)  # of the other pairs it is there
    only = [e for e in worse if e.id in ("pairs.n-2.reward-good", "pairs.n-4.reward-good")]
    assert effects(only, axes_of(worse)[0])[0].prompts == len(PROMPTS) - 1


def test_levels_have_means_and_costs(board: list[Entry]) -> None:
    found = {level.value: level for level in levels(board, axes_of(board)[0])}
    assert {value: level.rows for value, level in found.items()} == {"2": 4, "4": 4}
    assert {v: lv.costs["generated tokens"] for v, lv in found.items()} == {"2": 200, "4": 400}
    mean = np.mean([e.metrics["alpaca_eval.win_rate"].value for e in board if ".n-4" in e.id])
    assert found["4"].figures["alpaca_eval.win_rate"] == pytest.approx(mean)
    cells = by_method(board, axes_of(board)[0], "alpaca_eval.win_rate")
    assert set(cells) == {"pairs", "multi"}
    assert np.mean([cells[m]["4"] for m in cells]) == pytest.approx(mean)


@pytest.mark.parametrize(
    ("training", "matched"),
    [({}, "steps"), ({"forward_tokens": 1010}, "steps and tokens"), ({"steps": 14, "forward_tokens": 1000}, "tokens")],
)
def test_what_multi_dpo_and_pairs_had_in_common(training: dict[str, int], matched: str, board: list[Entry]) -> None:
    rows = [
        with_provenance(e, training={**e.provenance.plain()["training"], **training})
        if e.method == "mdpo_linear"
        else e
        for e in board
    ]
    (edge,) = edges(rows)
    assert (edge.method, edge.against, edge.matched) == ("multi", "pairs", matched)
    assert edge.effects[0].pairs == 4


def test_without_a_sweep_matched_methods_are_compared_over_training_seeds(board: list[Entry]) -> None:
    rows = []
    for seed, shift in enumerate((0.0, 0.1, 0.2)):
        for method in LOSSES:
            verdicts: dict[str, float | None] = dict.fromkeys(PROMPTS, 1.4 + shift * (method == "multi"))
            made = row(method, {}, verdicts, method_id=method, training_seed=seed, match_to="multi")
            rows.append(with_provenance(made, "sweep").model_copy(update={"id": f"{method}.seed-{seed}"}))
    (section,) = sweep_sections(rows)
    assert section.title == "Multi-DPO against training on pairs"
    (edge,) = edges(rows)
    assert edge.effects[0].pairs == 3
    assert edge.effects[0].difference == pytest.approx(10)
    assert edge.effects[0].by_seed == pytest.approx((0, 10, 20))
    assert sweep_sections([with_provenance(made, "match_to") for made in rows]) == []


def test_seeds_show_what_another_training_gives() -> None:
    axes = [AXES[0], {"name": "seed", "fields": ["seed"], "values": ["0", "1", "2"]}]
    rng = random.Random(1)
    rows = []
    for n, (seed, shift) in product(("2", "4"), zip("012", (0.0, 0.1, 0.2), strict=True)):
        verdicts: dict[str, float | None] = {p: 1.4 + (shift if n == "4" else 0) + rng.gauss(0, 0.01) for p in PROMPTS}
        rows.append(row("multi", {"n": n, "seed": seed}, verdicts, axes=axes))
    (effect,) = effects(rows, axes_of(rows)[0])
    assert effect.seeds == 3
    assert effect.difference == pytest.approx(10, abs=0.5)
    assert np.std(effect.by_seed, ddof=1) == pytest.approx(10, abs=0.5)
    assert effect.estimate.from_trainings == pytest.approx(10 / 3**0.5, abs=0.5)  # type: ignore[union-attr]
    assert not effect.is_significant  # a test over prompts alone would be sure
    assert "SE from trainings" in "\n".join(sweep_markdown(rows))


def test_the_board_says_it_in_words(board: list[Entry]) -> None:
    text = "\n".join(sweep_markdown(board))
    assert "### n (data.responses.n)" in text
    assert "4 against 2: AlpacaEval win rate" in text
    assert "multi minus pairs, at matched steps: no significant difference" in text
    assert [section.title for section in sweep_sections(board)][-1] == "Multi-DPO against training on pairs"
    assert sweep_sections([e.model_copy(update={"provenance": Provenance()}) for e in board]) == []


def test_one_figure_alone_has_each_difference_in_a_line_and_its_means_by_method(board: list[Entry]) -> None:
    sections = {section.title: section for section in sweep_of_figure(board, Figures(board)[WIN], "n")}
    assert list(sections)[:2] == ["By n", "By reward"]
    assert sections["By n"].notes == []  # they are told elsewhere
    assert sections["By reward"].notes[0].startswith("bad against good: AlpacaEval win rate, percentage points ")
    by_method, costs = sections["By n"].tables
    assert costs.heads == ["n", "generated tokens", "training tokens"]
    assert costs.rows == [["2", "200", "850"], ["4", "400", "850"]]
    assert by_method.heads == ["method", "2", "4"]  # as many values as methods
    for method, *shown in by_method.rows:
        for n, value in zip("24", shown, strict=True):
            of_cell = [e.value(WIN) for e in board if e.id.startswith(f"{method}.n-{n}.")]
            assert float(value) == pytest.approx(np.mean([v for v in of_cell if v is not None]), abs=0.051)


def test_a_terminal_shows_names_as_they_are() -> None:
    """Brackets are no markup, control characters are seen, and wide characters count as two."""
    name = "[bold]模型\x1b[31m"
    narrow = SweepTable("Figures", ["method", "2"], [[name, "1.0"]], 1)
    section = SweepSection("By n", [], [narrow])
    for width, shown in ((40, True), (16, False)):
        console = Console(width=width, file=io.StringIO())
        console.print(Group(*sweep_terminal([section], width)))
        text = console.file.getvalue()
        assert ("[bold]模型␛[31m" in text) == shown
        assert ("By n" in text) == shown  # no title without anything below it
        assert "\x1b" not in text


def test_what_no_run_could_show_is_said_in_words() -> None:
    entries = read_board(ROOT / "leaderboards" / "question-2-n-by-task").entries
    notes = "\n".join(note for section in sweep_sections(entries) for note in section.notes)
    assert "Held-out pair accuracy, percentage points none of any size." in notes


def test_more_values_than_methods_stand_below_each_other(board: list[Entry]) -> None:
    axes = [{**AXES[0], "values": ["2", "4", "8"]}]
    rows = [row(m, {"n": n}, dict.fromkeys(PROMPTS, 1.4), axes=axes) for m, n in product(LOSSES, ("2", "4", "8"))]
    section = sweep_of_figure(rows, Figures(rows)[WIN], "n")[0]
    assert section.tables[0].heads == ["n", "pairs", "multi"]
    assert section.tables[0].rows == [[n, "40.0", "40.0"] for n in ("2", "4", "8")]


def test_how_varied_the_data_is_stands_beside_its_costs() -> None:
    """Where it differs between the values; a cost of nothing at all is not shown."""
    rows = []
    for n, bleu in (("2", 10.0), ("4", 32.5)):
        report = {"prompt_self_bleu": bleu, "response_self_bleu": 20.0}
        data = {"ranked": {"train_prompts": 4, "generated_prompts": 4 * (n == "4")}, "report": report}
        rows.append(row("pairs", {"n": n}, dict.fromkeys(PROMPTS, 1.4), axes=AXES[:1], data=data))
    of = {table.title.partition(",")[0]: table for table in sweep_sections(rows)[0].tables}
    assert of["Data"].heads == ["n", "generated share", "prompts' self-BLEU"]
    assert of["Data"].rows == [["2", "0.00", "10.0"], ["4", "1.00", "32.5"]]
    assert of["Costs"].heads == ["n", "training tokens"]


def test_the_boards_of_sweeps_say_how_varied_their_data_are() -> None:
    entries = read_board(ROOT / "leaderboards" / "experiment-2-size").entries
    found = {lv.value: lv.costs["prompts' self-BLEU"] for lv in levels(entries, axes_of(entries)[0])}
    assert set(found) == {"seed-only", "one", "two", "four", "three-epochs"}
    assert found["seed-only"] == found["three-epochs"]
    assert all(0 < value < 100 for value in found.values())


def test_turns_after_the_second_are_figures_with_names() -> None:
    figures = Figures(read_board(ROOT / "leaderboards" / "check-2-conversations").entries)
    assert [figures[f"mt_bench.turn_{k}"].head for k in (1, 4)] == ["MT-bench turn 1, %", "MT-bench turn 4, %"]


@pytest.mark.parametrize("width", [30, 60, 200])
def test_a_terminal_gets_the_tables_that_fit(board: list[Entry], width: int) -> None:
    console = Console(width=width, file=io.StringIO())
    console.print(Group(*sweep_terminal(sweep_sections(board), width)))
    lines = console.file.getvalue().split("\n")
    assert max(map(len, lines)) <= width
    assert any("after Holm" in line for line in lines) == (width == 200)
    assert any(line.startswith("pairs ") for line in lines)  # the narrow table by method
    assert any(line.startswith("AlpacaEval win rate, %, method") for line in lines)


def test_charts_show_each_axis(board: list[Entry]) -> None:
    made = sweep_charts(board, Looks(board))
    assert [chart.title for chart in made] == [
        "n: difference against 2",
        "reward: difference against good",
        "method: difference against pairs",
    ]
    for chart in made:
        assert isinstance(chart, Dots)
        first, second = chart.lines
        assert first.points[0].at == chart.panels[0].reference  # the value that the others are compared with
        assert second.points[0].low
