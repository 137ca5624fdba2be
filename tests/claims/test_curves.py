"""Learning curves of hand-made rows: one point a checkpoint, the divergence among them, and what charts make of it."""

from typing import Any

import pytest

from harness.boards.entry import Entry
from harness.claims.curves import learning_curves
from harness.claims.divergence import ALONG, ESTIMATE, divergence_notes
from harness.figures import GOLD_REWARD, KL, KL_PER_TOKEN, PROXY_REWARD
from harness.report.curves import curve_table
from harness.report.page.best_of import best_of_charts
from harness.report.page.curve_charts import curve_charts
from harness.report.page.looks import Looks
from harness.stats.intervals import mean_metric

PROMPTS = 50


def entry(row: str, method: str, shift: float, kl: float | None, **about: Any) -> Entry:
    """A row of a training on 8 steps. Gold rises and falls, the proxy rises."""
    values = {
        GOLD_REWARD: [shift * (2 - shift) + i / PROMPTS for i in range(PROMPTS)],
        PROXY_REWARD: [shift + i / PROMPTS for i in range(PROMPTS)],
        **({KL: [kl + i / PROMPTS - 0.49 for i in range(PROMPTS)]} if kl is not None else {}),
    }
    metrics = {figure.metric: mean_metric(of) for figure, of in values.items()}
    measured = {} if kl is None else {"kl": {"is_estimate": False, "answers": PROMPTS, "retokenised": 2}}
    return Entry(id=row, method=method, metrics=metrics, figures=tuple(values), provenance={**measured, **about})


def training(tokens: int, name: str, point: int | None = None) -> dict[str, Any]:
    at = {"checkpoint": {"row": name, "point": str(point), "steps": point, "tokens": point * tokens}} if point else {}
    keys = {f"train/{name}": f"key of {name}"}
    return {"training": {"steps": 8, "forward_tokens": 8 * tokens}, "keys": keys, **at}


def board(kl: bool = True, tokens: tuple[int, int] = (100, 100)) -> list[Entry]:
    rows = [entry("base", "base", 0.0, None)]
    for name, of in zip(("dpo", "multi"), tokens, strict=True):
        stops = [(8, None), (2, 2), (4, 4)]
        rows += [
            entry(
                name if at is None else f"{name}.at-{at}", "m", step / 4, step if kl else None, **training(of, name, at)
            )
            for step, at in stops
        ]
    return rows


def test_a_curve_has_one_divergence_a_checkpoint_and_begins_with_none() -> None:
    curves = learning_curves(board())
    assert [curve.last.id for curve in curves] == ["dpo", "multi"]
    for curve in curves:
        found = [(stop.steps, metric.value) for stop in curve.stops if (metric := stop.metric(KL.metric))]
        assert found == [(0, 0.0), *((steps, pytest.approx(steps)) for steps in (2, 4, 8))]
        assert curve.stops[0].metric(KL_PER_TOKEN.metric)
        assert curve.stops[0].entry.metrics.get(KL.metric) is None


def test_the_table_has_it_with_its_interval_and_only_where_it_was_measured() -> None:
    found = curve_table(board())
    assert found is not None
    column = found.heads.index("KL per answer, nats")
    cells = [row[column] for row in found.rows[:4]]
    assert cells[0] == "0.000"
    assert [cell.split(" [")[0] for cell in cells[1:]] == ["2.000", "4.000", "8.000"]
    assert all(cell.endswith("]") for cell in cells[1:])
    without = curve_table(board(kl=False))
    assert without is not None
    assert not any("KL" in head for head in without.heads)


def titles(rows: list[Entry]) -> list[str]:
    return [chart.title for chart in curve_charts(rows, Looks(rows))]


def test_both_scores_are_drawn_against_the_divergence() -> None:
    rows = board()
    charts = {chart.title: chart for chart in curve_charts(rows, Looks(rows))}
    gold = charts["Reward gold against divergence"]
    assert gold.across == "KL per answer, nats"
    assert [len(series.marks) for series in gold.series] == [4, 4]
    assert "before training at 0.000 0.490" in gold.series[0].title
    assert "after 2 steps at 2.000" in gold.series[0].title
    lefts = [float(left) for left, _ in charts["Reward proxy against divergence"].series[0].marks]
    assert lefts == sorted(lefts)
    assert not any("divergence" in title for title in titles(board(kl=False)))


def test_curves_against_tokens_stand_where_they_differ_from_those_against_steps() -> None:
    assert not any("by tokens" in title for title in titles(board()))
    assert "KL per answer by tokens" in titles(board(tokens=(100, 250)))


def test_what_is_an_estimate_is_said_of_whom() -> None:
    rows = board()
    again = "KL: 12 of 300 answers are, tokenised again, other tokens than were sampled"
    notes = divergence_notes(rows)
    assert notes[0] == ALONG
    assert notes[1].startswith(again)
    estimate = rows[1].model_copy(update={"provenance": rows[1].provenance.model_copy(update={"kl": None})})
    about = {"kl": {"is_estimate": True, "answers": 3, "retokenised": 0}}
    other = Entry(id="x", method="m", provenance=about)  # type: ignore[arg-type]
    assert divergence_notes([estimate, other]) == [ESTIMATE]
    assert divergence_notes([rows[2], other])[:2] == [f"dpo.at-2: {ALONG}", f"x: {ESTIMATE}"]
    assert divergence_notes(board(kl=False)) == []


def test_the_best_of_n_is_drawn_against_its_divergence_with_n() -> None:
    rows = [
        {"n": n, "kl": kl, "gold": {"value": gold, "ci95": [gold - 0.1, gold + 0.1], "n": 9}, "ceiling": n / 4}
        for n, kl, gold in ((1, 0.0, 0.25), (2, 0.19, 0.4), (4, 0.64, 0.3))
    ]
    entries = [Entry(id=name, method="m", provenance={"data": {"best_of_n": {"best_of_n": rows}}}) for name in "ab"]  # type: ignore[arg-type]
    (chart,) = best_of_charts(entries)
    assert chart.note == "From left to right the best of 1, 2, 4 responses, with 95 % CI."
    ceiling, chosen = chart.series
    assert (
        chosen.title
        == "best by the ranking: n 1 0.250 [0.150, 0.350]; n 2 0.400 [0.300, 0.500]; n 4 0.300 [0.200, 0.400]"
    )
    lefts, tops = zip(*[(float(left), float(top)) for left, top in chosen.marks], strict=True)
    assert lefts == tuple(sorted(lefts))
    assert tops[1] < tops[2] < tops[0]  # from the top: 0.4 above 0.3 above 0.25
    assert "n 4 1.000" in ceiling.title
    assert best_of_charts(entries[:0]) == []
