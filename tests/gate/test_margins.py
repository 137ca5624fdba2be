"""Margins of the gate: in each figure's own unit, as a share of the baseline, and what is none."""

import math

import numpy as np
import pytest

from harness.boards.entry import Entry
from harness.errors import HarnessError
from harness.figures import Figure, Pairing
from harness.gate.ask import gate as ask_for
from harness.gate.check import PASS, REFUSED, WORSE, run_gate
from harness.gate.margins import Check
from harness.types import Metric


def test_a_figure_that_is_not_in_percent_needs_a_margin() -> None:
    seconds = Figure(metric="speed.seconds", group="Speed", title="seconds", unit="s", pairing=Pairing())
    assert (seconds.default_margin, seconds.model_copy(update={"margin": 0.5}).default_margin) == (None, 0.5)
    times = {f"q{i}": 2 + 0.01 * (i % 7) for i in range(120)}
    entry = Entry(
        id="new",
        method="system",
        metrics={"speed.seconds": Metric(value=float(np.mean(list(times.values()))), n=120)},
        outcomes={"speed": times},
        figures=(seconds,),
    )
    refused = run_gate(entry, entry.model_copy(update={"id": "old"}), Check(metric="speed.seconds"))
    assert (refused.code, "a margin in s is required" in refused.reason) == (REFUSED, True)
    assert run_gate(entry, entry, Check(metric="speed.seconds", margin=0.5)).code == PASS
    relative = run_gate(entry, entry, Check(metric="speed.seconds", margin="10%"))
    assert (relative.code, "needs a rate in percent" in relative.reason) == (REFUSED, True)


def test_every_figure_that_ships_has_a_margin_in_its_own_unit() -> None:
    from harness.benchmarks.alpaca_eval.figures import FIGURES
    from harness.benchmarks.mt_bench.figures import PAIR_FIGURES, RATING_FIGURES
    from harness.figures import HELDOUT_FIGURES

    shipped = (*FIGURES, *RATING_FIGURES, *PAIR_FIGURES, *HELDOUT_FIGURES)
    gated = [f for f in shipped if f.pairing is not None and f.higher_is_better is not None]
    for figure in gated:
        assert figure.default_margin is not None
        span = figure.reach or 10.0
        assert figure.default_margin <= 0.02 * span, figure.metric


def test_a_share_of_a_low_rate_is_a_margin() -> None:
    """3 % of 4,000 prompts: a margin of 2 points would let a row lose two thirds of its wins."""
    n = 4000
    won = {f"q{i}": 2.0 if i < 120 else 1.0 for i in range(n)}

    def rate(name: str, lost: int) -> Entry:
        outcomes = {k: 1.0 if i < lost else v for i, (k, v) in enumerate(won.items())}
        metric = Metric(value=100 * (120 - lost) / n, n=n)
        return Entry(
            id=name, method="system", metrics={"alpaca_eval.win_rate": metric}, outcomes={"alpaca_eval": outcomes}
        )

    old = rate("old", 0)
    assert run_gate(rate("new", 60), old, Check()).code == PASS
    halved = run_gate(rate("new", 60), old, Check(margin="20%"))
    assert halved.code == WORSE
    assert "(margin 0.6;" in halved.reason
    assert run_gate(rate("new", 2), old, Check(margin="20%")).code == PASS
    nothing = run_gate(rate("new", 120), rate("old", 120), Check(margin="20%"))
    assert (nothing.code, "needs a baseline above 0" in nothing.reason) == (REFUSED, True)


def test_a_share_of_the_baseline_is_wrong_no_more_often_than_the_level() -> None:
    """The truth is at the margin: of wins of 20 %, a fifth is lost."""
    rng = np.random.default_rng(5)
    passed, tries, n = 0, 1500, 150
    for _ in range(tries):
        theirs = rng.random(n) < 0.2
        mine = np.where(rng.random(n) < 0.5, theirs & (rng.random(n) < 0.8), rng.random(n) < 0.16)
        rows = []
        for name, won in (("new", mine), ("old", theirs)):
            outcomes = {f"q{i}": 1.0 + float(w) for i, w in enumerate(won)}
            metrics = {"alpaca_eval.win_rate": Metric(value=100 * float(won.mean()), n=n)}
            rows.append(Entry(id=name, method="x", metrics=metrics, outcomes={"alpaca_eval": outcomes}))
        passed += run_gate(rows[0], rows[1], Check(margin="20%")).code == PASS
    assert passed / tries <= 0.065


@pytest.mark.parametrize("margin", [math.nan, math.inf, -1.0, "nan", "ten", "-5%", "0%", "100%", True])
def test_what_is_no_margin_is_one_line(margin: object) -> None:
    with pytest.raises(HarnessError, match="gate: margin: expected a number of at least 0, got "):
        ask_for("nowhere", margin=margin)  # type: ignore[arg-type]


def test_other_numbers_have_to_be_numbers() -> None:
    with pytest.raises(HarnessError, match=r"gate: alpha: expected a number above 0 and below 0\.5, got nan"):
        ask_for("nowhere", alpha=math.nan)
    with pytest.raises(HarnessError, match="gate: min: expected a number, got nan"):
        ask_for("nowhere", minimum=math.nan)
