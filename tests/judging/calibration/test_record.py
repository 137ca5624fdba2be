"""What is kept of a calibration, and the line that boards show of it."""

from typing import Any

import pytest

from harness.boards.entry import Entry
from harness.boards.facts import is_calibrated
from harness.components import build
from harness.errors import DataError
from harness.judging.calibration.figures import calibration_figures
from harness.judging.calibration.record import Calibration, calibration_of, save_calibration
from tests.judging.calibration.helpers import random_pairs, rates


def calibration(**changes: Any) -> Calibration:
    pairs = random_pairs(200, ties=False)
    fields = {
        "judge": {"name": "j", "model": "m"},
        "annotator": "weighted_alpaca_eval_gpt4_turbo",
        "template_sha256": "0",
        "official": "weighted_alpaca_eval_gpt4_turbo",
        "pairs": 200,
        "seed": 0,
        "figures": calibration_figures(pairs, rates(pairs)),
        "systems": {},
        "left_out": {},
        "recorded_sha256": {},
    }
    return Calibration(**(fields | changes))


def test_a_calibration_is_found_by_the_judge_that_it_is_of() -> None:
    kept = calibration()
    path = save_calibration(kept)
    assert calibration_of({"model": "m", "name": "j"}, kept.annotator) == kept
    assert calibration_of({"name": "j", "model": "n"}, kept.annotator) is None
    assert calibration_of(kept.judge, "alpaca_eval_gpt4") is None
    path.write_text("{}")
    with pytest.raises(DataError, match="not a calibration; delete it"):
        calibration_of(kept.judge, kept.annotator)


@pytest.mark.slow
def test_its_line_says_what_it_is_worth() -> None:
    kept = calibration()
    metric = kept.figures["balanced_agreement"]
    assert metric.value is not None
    assert metric.ci95 is not None
    half = (metric.ci95[1] - metric.ci95[0]) / 2
    assert kept.text.startswith(f"balanced agreement {metric.value:.0f} ± {half:.0f} % with GPT-4 Turbo on 200 pairs")
    first = [p._replace(plain=0.2, switched=0.8) for p in random_pairs(200)]
    assert calibration(figures=calibration_figures(first, rates(first), resamples=100)).text.endswith(
        "; no better than chance"
    )
    silent = [p._replace(plain=None) for p in random_pairs(40)]
    assert (
        "40 of 80 verdicts missing"
        in calibration(figures=calibration_figures(silent, rates(silent), resamples=100)).text
    )
    longer = [p._replace(plain=float(p.length > p.reference_length)) for p in random_pairs(200)]
    longer = [
        p._replace(switched=p.plain, won=0.9 if (p.plain == 1) == (i % 4 > 0) else 0.1) for i, p in enumerate(longer)
    ]
    said = calibration(figures=calibration_figures(longer, rates(longer), resamples=100)).text
    assert said.endswith("; within a system not shown to beat 'the longer answer wins'")
    entry = Entry(id="x", method="base", provenance={"judge": kept.judge, "judge_calibration": kept.text})
    assert is_calibrated(entry)


def test_the_shipped_judge_has_its_calibration() -> None:
    judge = build("judge", {"name": "reward_model", "reward": {"name": "features", "weights": "gpt4_turbo"}})
    found = calibration_of(judge.identity(), "weighted_alpaca_eval_gpt4_turbo")
    assert found is not None
    assert found.pairs == 1202
    assert "with GPT-4 Turbo on 1202 pairs" in found.text
