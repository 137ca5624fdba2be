"""Recorded verdicts as calibrations read them, and samples of them."""

import json
from pathlib import Path

import pytest

from harness.errors import DataError
from harness.judging.calibration.sample import draw_sample, fitted_hash, read_recorded, unseen
from tests.benchmarks.alpaca_eval.helpers import official_row
from tests.judging.calibration.helpers import recorded_folder, row


def test_the_recorded_verdicts_are_the_published_ones(shared_data: Path) -> None:
    recorded = read_recorded([shared_data / "alpaca_eval" / "recorded"])
    assert recorded.judge == "weighted_alpaca_eval_gpt4_turbo"
    assert len(recorded.systems) == 6
    for system, rate in recorded.win_rates.items():
        assert rate == pytest.approx(float(official_row(system)["win_rate"]), abs=1e-9)
    assert sum(map(len, recorded.systems.values())) + recorded.left_out["same_outputs"] == 6 * 805


def test_what_can_not_be_used_is_counted_or_told(tmp_path: Path) -> None:
    rows = [row(0, "s", 1.2), row(0, "s", 1.9), row(1, "s", None), row(2, "s", 0), row(3, "s", 1.7, output_2="r" * 6)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    recorded = read_recorded([tmp_path / "a.json"])
    assert recorded.left_out == {"repeated": 1, "failed": 1, "same_outputs": 1}
    assert [p.won for p in recorded.systems["s"]] == [pytest.approx(0.2), 0.5]
    with pytest.raises(DataError, match="already read from another file"):
        read_recorded([tmp_path / "a.json", tmp_path / "a.json"])
    (tmp_path / "b.json").write_text(json.dumps([row(0, "t", 1.2, annotator="others")]))
    with pytest.raises(DataError, match="recorded verdicts of one judge, got those of others, them"):
        read_recorded([tmp_path / "a.json", tmp_path / "b.json"])
    (tmp_path / "c.json").write_text(json.dumps([row(0, "s", 1.2), row(1, "t", 1.2)]))
    with pytest.raises(DataError, match="one value under `generator_2`, got s, t"):
        read_recorded([tmp_path / "c.json"])
    with pytest.raises(DataError, match="expected an annotations file, or a folder"):
        read_recorded([tmp_path / "none"])


def test_a_sample_is_even_seeded_and_holds_the_smaller_one(tmp_path: Path) -> None:
    recorded = read_recorded([recorded_folder(tmp_path, dict.fromkeys("abc", lambda i: 1.2))])
    drawn = draw_sample(recorded, 20, 0)
    assert [sum(p.system == s for p in drawn) for s in "abc"] == [7, 7, 6]
    assert len(set(drawn)) == 20
    assert draw_sample(recorded, 20, 0) == drawn
    assert set(drawn) < set(draw_sample(recorded, 50, 0))
    assert set(drawn) != set(draw_sample(recorded, 20, 1))
    assert len(draw_sample(recorded, 1000, 0)) == 90
    ids = {s: {p.pair.question_id for p in drawn if p.system == s} for s in "abc"}
    assert ids["a"] == ids["b"] > ids["c"]  # so that systems can be compared


def test_what_a_judge_was_fitted_on_is_not_in_the_sample(tmp_path: Path) -> None:
    recorded = read_recorded([recorded_folder(tmp_path, dict.fromkeys("ab", lambda i: 1.2))])
    drawn = draw_sample(recorded, 20, 0)
    assert unseen(drawn, frozenset()) == drawn
    assert unseen(drawn, frozenset(map(fitted_hash, drawn[:7]))) == drawn[7:]
    prompt = drawn[0].pair.question_id
    assert unseen(drawn, frozenset({prompt})) == [p for p in drawn if p.pair.question_id != prompt]
