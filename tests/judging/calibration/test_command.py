"""`harness calibrate`: what it prints and keeps, what it asks for, and what it says of mistakes."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cli.app import app
from harness.components import build
from harness.errors import DataError
from harness.files import cache_root
from harness.judging.calibration.record import Calibration, calibration_of
from harness.judging.calibration.sample import draw_sample, fitted_hash, read_recorded
from harness.rewards.features import FEATURES
from tests.cli.test_app import harness
from tests.fake_server import FakeServer, completion
from tests.judging.calibration.helpers import recorded_folder

LONGER = {"name": "reward_model", "reward": {"name": "length"}, "temperature": 100}


@pytest.fixture
def calibrate(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command in this process, and returns what it prints."""

    def run(*arguments: str) -> str:
        app(["calibrate", *arguments], standalone_mode=False)
        return capsys.readouterr().out

    return run


def test_the_command_measures_keeps_and_asks_only_once(calibrate: Callable[..., str], tmp_path: Path) -> None:
    folder = recorded_folder(tmp_path, {"good": lambda i: 1.9 - i % 3 * 0.4, "poor": lambda i: 1.05 + i % 5 * 0.15})
    judge = tmp_path / "judge.yaml"
    judge.write_text(json.dumps(LONGER))
    arguments = ["--judge", str(judge), "--recorded", str(folder), "--pairs", "24", "--store", str(tmp_path / "store")]
    said = calibrate(*arguments)
    assert "48 replies, 48 of them new; cost: $0.0000." in said
    found = calibration_of(build("judge", LONGER).identity(), "weighted_alpaca_eval_gpt4_turbo")
    assert found is not None
    assert found.text in said
    assert found.figures["consistency"].value == 100
    assert found.systems["good"].pairs == 12
    # The same from the files themselves: what is longer wins, by so much.
    recorded = read_recorded([folder])
    drawn = draw_sample(recorded, 24, 0)
    expected = [
        1 / (1 + math.exp((len(p.pair.reference) - len(p.pair.output)) / 100)) for p in drawn if p.system == "good"
    ]
    assert found.systems["good"].judge == pytest.approx(100 * float(np.mean(expected)))
    assert "48 replies, 0 of them new" in calibrate(*arguments)
    more = calibrate(*arguments, "--pairs", "40")
    assert "80 replies, 32 of them new" in more


def test_a_served_judge_is_asked_in_both_orders(calibrate: Callable[..., str], tmp_path: Path) -> None:
    folder = recorded_folder(tmp_path, {"s": lambda i: 1.1 + i % 9 / 10}, count=6)

    def answer(body: dict[str, Any]) -> Any:  # the system's text wins, in either place
        text = body["messages"][-1]["content"]
        first = text.index("s says") < text.index('"model_identifier": "M"')
        return completion("m", {"m": -0.1, "M": -2.4}) if first else completion("M", {"M": -0.1, "m": -2.4})

    with FakeServer(answer).running() as server:
        recipe = {"name": "openai", "model": "m", "base_url": server.url}
        (tmp_path / "judge.yaml").write_text(json.dumps(recipe))
        said = calibrate("--judge", str(tmp_path / "judge.yaml"), "--recorded", str(folder))
        assert len(server.requests) == 12
    assert "12 replies, 12 of them new; cost: unknown." in said
    files = list((cache_root() / "calibrations").glob("*.json"))
    found = Calibration.model_validate_json(files[0].read_text())
    assert found.figures["consistency"].value == 100
    assert found.figures["first_preferred"].value == 50
    assert found.systems["s"].judge == pytest.approx(100 / (1 + math.exp(-2.3)))


def test_a_panel_is_calibrated_with_its_agreement(calibrate: Callable[..., str], tmp_path: Path) -> None:
    folder = recorded_folder(tmp_path, {"s": lambda i: 1.1 + i % 9 / 10}, count=12)
    shorter = {"name": "reward_model", "reward": {"name": "length", "prefer": "shorter"}}
    (tmp_path / "judge.yaml").write_text(json.dumps({"name": "panel", "judges": [LONGER, shorter]}))
    said = calibrate("--judge", str(tmp_path / "judge.yaml"), "--recorded", str(folder), "--out", str(tmp_path / "out"))
    assert not (cache_root() / "calibrations").exists()
    found = Calibration.model_validate_json(next((tmp_path / "out").glob("*.json")).read_text())
    drawn = draw_sample(read_recorded([folder]), 400, 0)
    even = sum(len(p.pair.reference) == len(p.pair.output) for p in drawn) / len(drawn)
    assert found.panel["pairs"][0]["agreement"]["value"] == pytest.approx(even)
    assert found.panel["pairs"][0]["agreement"]["n"] == 12
    assert str(tmp_path / "out") in said


def test_a_judge_is_not_measured_on_what_it_was_fitted_to(
    calibrate: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reward model that was trained on some of the recorded pairs, and says so in its folder."""
    folder = recorded_folder(tmp_path, dict.fromkeys("ab", lambda i: 1.1 + i % 9 / 10))
    drawn = draw_sample(read_recorded([folder]), 20, 0)
    weights = tmp_path / "fit" / "features.json"
    weights.parent.mkdir()
    weights.write_text(json.dumps(dict.fromkeys(FEATURES, 0.1)))
    judge = {"name": "reward_model", "reward": {"name": "features", "weights": str(weights)}}
    (tmp_path / "judge.yaml").write_text(json.dumps(judge))
    arguments = ["--judge", str(tmp_path / "judge.yaml"), "--recorded", str(folder), "--pairs", "20"]
    identity = build("judge", judge).identity()
    (weights.parent / "fitted_on.json").write_text(json.dumps([fitted_hash(p) for p in drawn[:6]]))
    assert build("judge", judge).identity() == identity
    said = calibrate(*arguments)
    assert "28 replies" in said
    assert "fitted on 6 of these 20 pairs, which are left out" in " ".join(said.split())
    (weights.parent / "fitted_on.json").write_text(json.dumps([fitted_hash(p) for p in drawn]))
    with pytest.raises(DataError, match="fitted on 20 of these 20 pairs"):
        calibrate(*arguments)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{name: reward_modle}", "did you mean 'reward_model'?"),
        ("{name: reward_model, rewrd: {name: length}}", "did you mean 'reward'?"),
        ("{name: reward_model, reward: {name: features}}", "set checkpoint"),
        ("{name: reward_model, reward: {name: features, weights: no.json}}", "no.json can't be read"),
        ("{name: replay}", "has recorded verdicts only"),
        ("model: x", "a recipe with an evaluation also works"),
        ("name: x\nevaluation: {}", "policy"),
    ],
)
def test_a_mistake_in_the_judge_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    folder = recorded_folder(tmp_path, {"s": lambda i: 1.2}, count=3)
    (tmp_path / "judge.yaml").write_text(text)
    done = harness("calibrate", "--judge", str(tmp_path / "judge.yaml"), "--recorded", str(folder))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_without_recorded_verdicts_it_says_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    (tmp_path / "judge.yaml").write_text(json.dumps(LONGER))
    done = harness("calibrate", "--judge", str(tmp_path / "judge.yaml"))
    assert done.returncode == 2
    assert "give --recorded FOLDER" in done.stderr


def test_a_recipe_has_a_judge_too(calibrate: Callable[..., str], tmp_path: Path) -> None:
    folder = recorded_folder(tmp_path, {"s": lambda i: 1.1 + i % 9 / 10}, count=8)
    (folder / "s" / "outputs.json").write_text("[]")
    recipe = {
        "name": "x",
        "evaluation": {
            "judge": LONGER,
            "benchmarks": [{"name": "alpaca_eval", "prompts": "builtin", "reference": "file"}],
        },
        "systems": [{"id": "s", "answers": {"alpaca_eval": "recorded/s/outputs.json"}}],
    }
    (tmp_path / "x.yaml").write_text(json.dumps(recipe))
    assert "16 replies" in calibrate("--judge", str(tmp_path / "x.yaml"), "--recorded", str(folder))
