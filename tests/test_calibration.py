"""Calibration: figures against scikit-learn's, intervals by instruction, samples, what is kept, and the command."""

import json
import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import linregress
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, roc_auc_score

from harness.board_rows import Entry, is_calibrated
from harness.calibration import Calibration, calibration_of, keep
from harness.calibration_figures import Judged, figures
from harness.calibration_sample import read_recorded, sample
from harness.cli import app
from harness.components import build
from harness.errors import DataError
from harness.stats import kendall_tau
from tests.benchmarks.test_alpaca_eval import official_row
from tests.fake_server import FakeServer, completion
from tests.test_cli import harness

LONGER = {"name": "reward_model", "reward": {"name": "length"}, "temperature": 100}


def made(count: int, seed: int = 0, systems: int = 3, invalid: float = 0.0, ties: bool = True) -> list[Judged]:
    """Pairs with a judge that is right more often than not, and worse when the order is turned."""
    rng = random.Random(seed)

    def said(won: float) -> float | None:
        if rng.random() < invalid:
            return None
        return 0.5 if ties and rng.random() < 0.05 else min(1.0, max(0.0, won + rng.gauss(0, 0.6)))

    found = []
    for i in range(count):
        won = rng.choice([0.02, 0.3, 0.9, 0.99, 0.5 if ties else 0.1])
        lengths = rng.randint(1, 900), rng.randint(1, 900)
        found.append(Judged(f"s{i % systems}", f"q{i // 2}", won, said(won), said(won), *lengths))
    return found


def rates(pairs: list[Judged]) -> dict[str, float]:
    return {s: 100 * float(np.mean([p.won for p in pairs if p.system == s])) for s in {p.system for p in pairs}}


def single(pairs: list[Judged]) -> tuple[list[bool], list[float]]:
    """Labels and verdicts of both orders, without recorded ties and what was not had."""
    rows = [(p.won, v) for side in ("plain", "switched") for p in pairs if (v := getattr(p, side)) is not None]
    return [won > 0.5 for won, _ in rows if won != 0.5], [v for won, v in rows if won != 0.5]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.2]))
def test_figures_are_scikit_learns(seed: int, invalid: float) -> None:
    pairs = made(60, seed, invalid=invalid, ties=False)
    found = figures(pairs, rates(pairs), resamples=2)
    labels, verdicts = single(pairs)
    claimed = [v > 0.5 for v in verdicts]
    assert found["agreement"].value == pytest.approx(100 * np.mean(np.array(labels) == claimed))
    assert found["balanced_agreement"].value == pytest.approx(100 * balanced_accuracy_score(labels, claimed))
    assert found["cohen_kappa"].value == pytest.approx(cohen_kappa_score(labels, claimed))
    assert found["auc"].value == pytest.approx(roc_auc_score(labels, verdicts))
    assert found["agreement"].n == 120 - sum(p.plain is None for p in pairs) - sum(p.switched is None for p in pairs)
    assert found["agreement"].n + found["agreement"].n_invalid == 120


def test_the_board_is_regressed_on_the_official_one() -> None:
    pairs = made(300, systems=6)
    official = {f"s{i}": 10.0 * i for i in range(6)}
    found = figures(pairs, official, resamples=2)
    own = []
    for system in official:
        said = [v for p in pairs if p.system == system for v in (p.plain, p.switched) if v is not None]
        own.append(100 * float(np.mean(said)))
    expected = linregress(list(official.values()), own)
    assert found["board_slope"].value == pytest.approx(expected.slope)
    assert found["board_offset"].value == pytest.approx(expected.intercept)
    assert found["board_kendall_tau"].value == pytest.approx(kendall_tau(list(official.values()), own))
    same = figures(pairs, {s: 3 * v + 1 for s, v in official.items()}, resamples=2)
    assert same["board_kendall_tau"].value == found["board_kendall_tau"].value


def test_within_systems_only_pairs_of_one_system_are_compared() -> None:
    """A judge that knows nothing but which system is the good one: far above chance over all, and chance within."""
    rng = random.Random(1)
    pairs = []
    for i in range(600):
        good = i % 2
        said = 0.9 if good else 0.1
        won = 0.99 if rng.random() < (0.8 if good else 0.1) else 0.01
        pairs.append(Judged(str(good), str(i), won, said, said, 10, 20))
    found = figures(pairs, rates(pairs))
    assert found["auc_within_systems"].value == 0.5
    assert found["auc"].value is not None
    assert found["auc"].value > 0.8


def test_the_judge_itself_agrees_with_itself() -> None:
    pairs = [p._replace(plain=p.won, switched=p.won) for p in made(200)]
    found = figures(pairs, rates(pairs))
    for name in ("agreement", "balanced_agreement", "consistency"):
        assert found[name].value == 100
    assert found["auc"].value == found["cohen_kappa"].value == found["board_kendall_tau"].value == 1
    assert found["board_slope"].value == pytest.approx(1)
    assert found["board_offset"].value == pytest.approx(0, abs=1e-9)
    assert found["length_bias"].value == 0
    assert found["first_preferred"].value == pytest.approx(50)


def test_a_judge_that_takes_the_first_has_no_consistency_and_knows_nothing() -> None:
    pairs = [p._replace(plain=0.2, switched=0.8) for p in made(200)]
    found = figures(pairs, rates(pairs))
    assert found["first_preferred"].value == 100
    assert found["consistency"].value == 0
    assert found["balanced_agreement"].value == pytest.approx(50)
    assert found["both_orders_balanced_agreement"].value == pytest.approx(50)


def test_a_judge_that_takes_the_longer_gains_nothing_over_that() -> None:
    pairs = []
    for p in made(200):
        verdict = 0.9 if p.length > p.reference_length else 0.1
        pairs.append(p._replace(plain=verdict, switched=verdict))
    found = figures(pairs, rates(pairs))
    assert found["longer_preferred"].value == 100
    assert found["gain_over_longer"].value == 0
    assert found["gain_over_longer"].ci95 == (0, 0)
    assert found["balanced_agreement"] == found["longer_balanced_agreement"]


def test_more_verdicts_on_the_same_instructions_are_no_narrower_interval() -> None:
    pairs = made(120, ties=False)
    few, many = figures(pairs, rates(pairs)), figures(pairs * 4, rates(pairs))
    for name in ("balanced_agreement", "auc", "cohen_kappa"):
        assert many[name].value == pytest.approx(few[name].value)
        assert many[name].ci95 == pytest.approx(few[name].ci95, abs=1e-9)


def test_the_interval_covers_what_it_says() -> None:
    """Over 60 samples from one population, the true balanced agreement lies in most of their intervals."""
    everything = made(4000, seed=9, ties=False)
    labels, verdicts = single(everything)
    truth = 100 * balanced_accuracy_score(labels, [v > 0.5 for v in verdicts])
    inside = 0
    for i in range(40):
        drawn = everything[100 * i : 100 * (i + 1)]
        ci95 = figures(drawn, rates(drawn), resamples=300)["balanced_agreement"].ci95
        assert ci95 is not None
        inside += ci95[0] <= truth <= ci95[1]
    assert inside >= 34


def test_where_nothing_can_be_said_there_is_no_number() -> None:
    one_sided = [Judged("s", f"q{i}", 0.1, 0.2, 0.3, 5, 5) for i in range(10)]
    found = figures(one_sided, {"s": 10.0})
    for name in ("balanced_agreement", "auc", "auc_within_systems", "board_slope", "longer_preferred", "length_bias"):
        assert found[name].value is None, name
    assert found["agreement"].value == 100
    silent = [p._replace(plain=None, switched=None) for p in one_sided]
    found = figures(silent, {"s": 10.0})
    assert all(metric.value is None for metric in found.values())
    assert found["agreement"].n_invalid == 20


# Recorded verdicts.


def row(i: int, system: str, preference: Any, **fields: Any) -> dict[str, Any]:
    texts = {"instruction": f"Do {i}.", "output_1": "r" * (i % 7 + 3), "output_2": f"{system} says {'o' * (i % 11)}"}
    return {**texts, "generator_2": system, "annotator": "them", "preference": preference, **fields}


def recorded_folder(parent: Path, verdicts: Mapping[str, Callable[[int], float]], count: int = 30) -> Path:
    folder = parent / "recorded"
    for system, verdict in verdicts.items():
        (folder / system).mkdir(parents=True)
        rows = [row(i, system, verdict(i)) for i in range(count)]
        (folder / system / "annotations.json").write_text(json.dumps(rows))
    return folder


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
    with pytest.raises(DataError, match="read from another file already"):
        read_recorded([tmp_path / "a.json", tmp_path / "a.json"])
    (tmp_path / "b.json").write_text(json.dumps([row(0, "t", 1.2, annotator="others")]))
    with pytest.raises(DataError, match="of one judge expected, found those of others, them"):
        read_recorded([tmp_path / "a.json", tmp_path / "b.json"])
    (tmp_path / "c.json").write_text(json.dumps([row(0, "s", 1.2), row(1, "t", 1.2)]))
    with pytest.raises(DataError, match="one value under `generator_2`, found s, t"):
        read_recorded([tmp_path / "c.json"])
    with pytest.raises(DataError, match="expected an annotations file, or a folder"):
        read_recorded([tmp_path / "none"])


def test_a_sample_is_even_seeded_and_holds_the_smaller_one(tmp_path: Path) -> None:
    recorded = read_recorded([recorded_folder(tmp_path, dict.fromkeys("abc", lambda i: 1.2))])
    drawn = sample(recorded, 20, 0)
    assert [sum(p.system == s for p in drawn) for s in "abc"] == [7, 7, 6]
    assert len(set(drawn)) == 20
    assert sample(recorded, 20, 0) == drawn
    assert set(drawn) < set(sample(recorded, 50, 0))
    assert set(drawn) != set(sample(recorded, 20, 1))
    assert len(sample(recorded, 1000, 0)) == 90
    ids = {s: {p.pair.question_id for p in drawn if p.system == s} for s in "abc"}
    assert ids["a"] != ids["b"]


# What is kept.


def calibration(**changes: Any) -> Calibration:
    pairs = made(200, ties=False)
    fields = {
        "judge": {"name": "j", "model": "m"},
        "annotator": "weighted_alpaca_eval_gpt4_turbo",
        "template_sha256": "0",
        "official": "weighted_alpaca_eval_gpt4_turbo",
        "pairs": 200,
        "seed": 0,
        "figures": figures(pairs, rates(pairs)),
        "systems": {},
        "left_out": {},
        "recorded_sha256": {},
    }
    return Calibration(**(fields | changes))


def test_a_calibration_is_found_by_the_judge_that_it_is_of() -> None:
    kept = calibration()
    path = keep(kept)
    assert calibration_of({"model": "m", "name": "j"}, kept.annotator) == kept
    assert calibration_of({"name": "j", "model": "n"}, kept.annotator) is None
    assert calibration_of(kept.judge, "alpaca_eval_gpt4") is None
    path.write_text("{}")
    with pytest.raises(DataError, match="not a calibration; delete it"):
        calibration_of(kept.judge, kept.annotator)


def test_its_line_says_what_it_is_worth() -> None:
    kept = calibration()
    metric = kept.figures["balanced_agreement"]
    assert metric.value is not None
    assert metric.ci95 is not None
    half = (metric.ci95[1] - metric.ci95[0]) / 2
    assert kept.text.startswith(f"balanced agreement {metric.value:.0f} ± {half:.0f} % with GPT-4 Turbo on 200 pairs")
    first = [p._replace(plain=0.2, switched=0.8) for p in made(200)]
    assert calibration(figures=figures(first, rates(first), resamples=100)).text.endswith("; no better than chance")
    silent = [p._replace(plain=None) for p in made(40)]
    assert "40 of 80 verdicts missing" in calibration(figures=figures(silent, rates(silent), resamples=100)).text
    longer = [p._replace(plain=float(p.length > p.reference_length)) for p in made(200)]
    longer = [
        p._replace(switched=p.plain, won=0.9 if (p.plain == 1) == (i % 4 > 0) else 0.1) for i, p in enumerate(longer)
    ]
    said = calibration(figures=figures(longer, rates(longer), resamples=100)).text
    assert said.endswith("; within a system not shown to beat 'the longer answer wins'")
    entry = Entry(id="x", method="base", provenance={"judge": kept.judge, "judge_calibration": kept.text})
    assert is_calibrated(entry)


def test_the_shipped_judge_has_its_calibration() -> None:
    judge = build("judge", {"name": "reward_model", "reward": {"name": "features", "weights": "gpt4_turbo"}})
    found = calibration_of(judge.identity(), "weighted_alpaca_eval_gpt4_turbo")
    assert found is not None
    assert found.pairs == 1202
    assert "with GPT-4 Turbo on 1202 pairs" in found.text


# The command.


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
    assert "48 replies, 48 of them new; $0.0000." in said
    found = calibration_of(build("judge", LONGER).identity(), "weighted_alpaca_eval_gpt4_turbo")
    assert found is not None
    assert found.text in said
    assert found.figures["consistency"].value == 100
    assert found.systems["good"].pairs == 12
    # The same from the files themselves: what is longer wins, by so much.
    recorded = read_recorded([folder])
    drawn = sample(recorded, 24, 0)
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
    assert "12 replies, 12 of them new; unknown." in said
    files = list((tmp_path / "harness-home" / "calibrations").glob("*.json"))
    found = Calibration.model_validate_json(files[0].read_text())
    assert found.figures["consistency"].value == 100
    assert found.figures["first_preferred"].value == 50
    assert found.systems["s"].judge == pytest.approx(100 / (1 + math.exp(-2.3)))


def test_a_panel_is_calibrated_with_its_agreement(calibrate: Callable[..., str], tmp_path: Path) -> None:
    folder = recorded_folder(tmp_path, {"s": lambda i: 1.1 + i % 9 / 10}, count=12)
    shorter = {"name": "reward_model", "reward": {"name": "length", "prefer": "shorter"}}
    (tmp_path / "judge.yaml").write_text(json.dumps({"name": "panel", "judges": [LONGER, shorter]}))
    said = calibrate("--judge", str(tmp_path / "judge.yaml"), "--recorded", str(folder), "--out", str(tmp_path / "out"))
    assert not (tmp_path / "harness-home" / "calibrations").exists()
    found = Calibration.model_validate_json(next((tmp_path / "out").glob("*.json")).read_text())
    drawn = sample(read_recorded([folder]), 400, 0)
    even = sum(len(p.pair.reference) == len(p.pair.output) for p in drawn) / len(drawn)
    assert found.panel["pairs"][0]["agreement"]["value"] == pytest.approx(even)
    assert found.panel["pairs"][0]["agreement"]["n"] == 24
    assert str(tmp_path / "out") in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{name: reward_modle}", "did you mean 'reward_model'?"),
        ("{name: reward_model, rewrd: {name: length}}", "did you mean 'reward'?"),
        ("{name: reward_model, reward: {name: features}}", "give checkpoint"),
        ("{name: reward_model, reward: {name: features, weights: no.json}}", "no.json can't be read"),
        ("{name: replay}", "has recorded verdicts only"),
        ("model: x", "a recipe with an evaluation will do, too"),
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
