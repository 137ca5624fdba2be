"""The official win rate, predicted from another judge's, and whether systems left out lie in their intervals."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

import harness
from harness.boards.provenance import JudgeCalibration
from harness.files import asset
from harness.judging.calibration.equivalent import Rates, official_equivalent, predicted
from harness.types import Metric

SIX = [(2.6, 15), (3.4, 21), (4.8, 18), (9.2, 25), (51.3, 58), (70.5, 66)]
SYSTEMS = [Rates(*pair) for pair in SIX]


def test_it_follows_the_recorded_systems() -> None:
    found = official_equivalent(SYSTEMS, Metric(value=58.0, stderr=1.5, n=805))
    assert found is not None
    assert found.ci95[0] < 51.3 < found.ci95[1]
    assert 0 <= found.ci95[0] < found.value < found.ci95[1] <= 100
    assert (found.systems, found.held) == (6, 6)
    unsure = official_equivalent(SYSTEMS, Metric(value=58.0, stderr=8.0, n=20))
    assert unsure is not None
    assert unsure.ci95[0] < found.ci95[0]


def test_nothing_is_predicted_from_too_little() -> None:
    rate = Metric(value=58.0, stderr=1.5, n=805)
    assert official_equivalent(SYSTEMS[:4], rate) is None
    assert official_equivalent(SYSTEMS, Metric(value=None)) is None
    assert official_equivalent(SYSTEMS, Metric(value=58.0)) is None
    assert official_equivalent([s._replace(judge=50.0) for s in SYSTEMS], rate) is None


def test_a_judge_at_chance_predicts_nearly_anything() -> None:
    coin = [s._replace(judge=50 + i % 3) for i, s in enumerate(SYSTEMS)]
    found = official_equivalent(coin, Metric(value=51.0, stderr=1.7, n=805))
    assert found is not None
    assert found.ci95[1] - found.ci95[0] > 80


@pytest.mark.parametrize(("slope", "noise"), [(1.0, 0.1), (0.6, 0.5), (0.2, 1.0)])
def test_an_unseen_system_lies_in_its_interval(slope: float, noise: float) -> None:
    """Systems drawn at random, and judges whose log-odds follow the official ones with a noise of each system's own."""
    rng = np.random.default_rng(5)
    inside = []
    for _ in range(1000):
        official = rng.normal(-1.5, 1.8, 6)
        judge = 0.3 + slope * official + rng.normal(0, noise, 6)
        rates = [Rates(*(100 / (1 + np.exp(-np.array(pair))))) for pair in zip(official, judge, strict=True)]
        found = predicted(rates[:5], rates[5].judge, 0.0)
        assert found is not None
        inside.append(found[1] <= rates[5].official <= found[2])
    assert np.mean(inside) >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("prompts", ["official", "builtin"])
def test_only_rows_on_official_prompts_have_an_equivalent(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompts: str
) -> None:
    """A run with the shipped judge, whose calibration is at hand."""
    monkeypatch.setenv("HARNESS_DATA", str(shared_data))
    monkeypatch.chdir(tmp_path)
    outputs = shared_data / "alpaca_eval" / "recorded" / "gemma-2b-it" / "model_outputs.json.gz"
    rows = json.loads(gzip.decompress(outputs.read_bytes()))
    if prompts == "builtin":
        questions = json.loads(asset("alpaca_eval.json").read_text())
        rows = [{**q, "output": row["output"], "generator": "x"} for q, row in zip(questions, rows, strict=False)]
    (tmp_path / "gemma.json").write_text(json.dumps(rows))
    benchmark = {"name": "alpaca_eval", "prompts": prompts, "reference": "file", "length_control": "minimal"}
    judge = {"name": "reward_model", "reward": {"name": "features", "weights": "gpt4_turbo"}}
    evaluation = {"judge": judge, "benchmarks": [benchmark | ({"limit": 40} if prompts == "official" else {})]}
    system = {"id": "gemma", "answers": {"alpaca_eval": "gemma.json"}}
    board = harness.run({"name": "x", "evaluation": evaluation, "systems": [system]}).board
    found = board.entries[0].provenance.judge_calibration
    assert isinstance(found, JudgeCalibration)
    assert found.verdict == "weak"
    assert (found.systems, found.pairs) == (6, 4812)
    if prompts == "builtin":
        assert found.equivalents == {}
        return
    ends = found.equivalents["alpaca_eval.win_rate"].ci95
    assert ends is not None
    assert ends[0] < 3.4 < ends[1]  # its official win rate
