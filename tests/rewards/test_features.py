"""The reward model that counts: its fit is the minimum that it says it is, and its weights are the file's."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from harness.components import build
from harness.errors import DataError
from harness.protocols import Ready
from harness.rewards.features import FEATURES
from harness.types import Message, PreferencePair

MESSAGES = (Message(role="user", content="Go on."),)


def ready(folder: Path) -> Ready:
    return Ready(folder, lambda _: None, lambda judge: pytest.fail("asks a judge"))


def pairs(count: int) -> list[PreferencePair]:
    rng = random.Random(0)
    words = ["tea,", "river:", "(paper)", "**list**", "green", "of", "and"]

    def text() -> str:
        return " ".join(rng.choice(words) for _ in range(rng.randint(2, 40)))

    made = [(text(), text()) for _ in range(count)]
    # The one with more commas is chosen, mostly.
    ordered = [(a, b) if (a.count(",") >= b.count(",")) != (rng.random() < 0.1) else (b, a) for a, b in made]
    return [
        PreferencePair(id=str(i), messages=MESSAGES, chosen=a, rejected=b, source="t")
        for i, (a, b) in enumerate(ordered)
    ]


def test_the_fit_is_the_penalised_maximum_of_the_likelihood(tmp_path: Path) -> None:
    reward: Any = build("reward", {"name": "features", "penalty": 3})
    given = pairs(80)
    report = reward.fit(given, tmp_path, seed=0, advance=lambda _: None)
    # The differences as the scores have them, feature by feature: a weight of 1 for one of them, 0 for the others.
    columns = []
    for name in FEATURES:
        (tmp_path / "one.json").write_text(json.dumps({other: float(other == name) for other in FEATURES}))
        one: Any = build("reward", {"name": "features", "weights": str(tmp_path / "one.json")})
        scores = one.score([(MESSAGES, t) for p in given for t in (p.chosen, p.rejected)], ready(tmp_path))
        columns.append(np.array(scores[::2]) - np.array(scores[1::2]))
    differences = np.stack(columns, axis=1)
    scaled = differences / np.sqrt((differences**2).mean(axis=0))

    def loss(weights: Any) -> float:
        return float(np.logaddexp(0, -scaled @ weights).sum() + 3 / 2 * weights @ weights)

    best = minimize(loss, np.zeros(len(FEATURES)), method="BFGS", options={"gtol": 1e-8}).x
    found = np.array([report["weights"][name] for name in FEATURES]) * np.sqrt((differences**2).mean(axis=0))
    assert loss(found) == pytest.approx(loss(best), rel=1e-5)
    assert found == pytest.approx(best, abs=0.01)
    assert report["accuracy"] >= 0.75
    assert reward.score([(MESSAGES, "a, b, c")], ready(tmp_path)) != [0.0]


def test_counts_are_what_they_are_called(tmp_path: Path) -> None:
    text = "One, two: three (four) **five**, one two three, one two three."
    expected = {
        "log_characters": np.log1p(len(text)),
        "log_different_words": np.log1p(5),
        "repeated_triples": 1 - 7 / 9,
        "log_commas": np.log1p(3),
        "log_colons": np.log1p(1),
        "log_brackets": np.log1p(1),
        "log_bold": np.log1p(2),
    }
    assert expected.keys() == FEATURES.keys()
    for name, value in expected.items():
        (tmp_path / "w.json").write_text(json.dumps({other: float(other == name) for other in FEATURES}))
        reward: Any = build("reward", {"name": "features", "weights": str(tmp_path / "w.json")})
        assert reward.score([(MESSAGES, text), (MESSAGES, "")], ready(tmp_path)) == [pytest.approx(value), 0.0]


def test_the_shipped_weights_are_those_that_the_recorded_verdicts_give(shared_data: Path, tmp_path: Path) -> None:
    from harness.judging.calibration.sample import read_recorded
    from tests.perf.features_judge import FIRST, fitted, halves, part

    recorded = read_recorded([shared_data / "alpaca_eval" / "recorded"])
    train = part(recorded, set(FIRST), halves(recorded)[0])
    report = fitted([p for pairs in train.systems.values() for p in pairs], tmp_path)
    shipped: Any = build("reward", {"name": "features", "weights": "gpt4_turbo"})
    again: Any = build("reward", {"name": "features", "weights": str(tmp_path / "features.json")})
    rows = [(MESSAGES, p.pair.output) for p in train.systems["alpaca-7b"][:50]]
    assert shipped.score(rows, ready(tmp_path)) == pytest.approx(again.score(rows, ready(tmp_path)), rel=1e-3)
    assert report["pairs"] > 1100


def test_weights_that_are_none_are_told(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    for text in (
        "[]",
        "{}",
        json.dumps(dict.fromkeys(FEATURES, "x")),
        json.dumps(dict.fromkeys(FEATURES, float("nan"))),
    ):
        path.write_text(text)
        reward: Any = build("reward", {"name": "features", "weights": str(path)})
        with pytest.raises(DataError, match="expected a number for each weight"):
            reward.check()


def test_identity_is_the_weights_and_not_their_place(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps(dict.fromkeys(FEATURES, 1.0)))
    one, other = (build("reward", {"name": "features", "weights": str(tmp_path / n)}) for n in ("a.json", "b.json"))
    assert one.identity() == other.identity()
    assert one.identity() != build("reward", {"name": "features", "weights": "gpt4_turbo"}).identity()
    assert (
        build("reward", {"name": "features"}).identity()
        != build("reward", {"name": "features", "penalty": 2}).identity()
    )
