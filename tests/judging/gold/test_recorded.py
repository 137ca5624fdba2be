"""Intervals from a part of the recorded official verdicts, against the whole of them."""

from pathlib import Path

import pytest

from harness.judging.calibration.sample import read_recorded
from tests.judging.gold.coverage import correlation, judges, measured


@pytest.mark.slow
@pytest.mark.parametrize("population", [True, False])
def test_intervals_cover_the_official_win_rate(shared_data: Path, population: bool) -> None:
    recorded = read_recorded([shared_data / "alpaca_eval" / "recorded"])
    covers = []
    for system, judge, f, gold in judges(recorded):
        found = measured(f, gold, 80, 60, population)
        covers.append(found["covers"])
        assert found["covers"] >= 0.85, (system, judge)  # 60 samples: 3.5 standard errors below 95 %
        if correlation(f, gold) > 0.5:
            assert found["width_to_labels"] < 1, (system, judge)
    assert 0.93 <= sum(covers) / len(covers) <= 0.985
