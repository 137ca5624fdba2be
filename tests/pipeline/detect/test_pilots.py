"""What differences vary by, as a pilot board shows it."""

import math
from pathlib import Path

import numpy as np
import pytest

from harness.types import Metric
from tests.perf.claims import entries
from tests.pipeline.detect.planned import found, pilot_board, simulated_pilot
from tests.sample_boards import with_provenance

# What differences vary by.


def test_a_pilot_shows_what_differences_vary_by(recipe: Path, tmp_path: Path) -> None:
    """As an analysis of variance of its two-way table does."""
    pilot, apart = simulated_pilot(tmp_path, 6, 400)
    spread = found(recipe, 25.0, pilot=pilot, assume="").spread
    by_seed, by_prompt = apart.mean(1, keepdims=True), apart.mean(0, keepdims=True)
    seeds, prompts = apart.shape
    rest = ((apart - by_seed - by_prompt + apart.mean()) ** 2).sum() / ((seeds - 1) * (prompts - 1))
    assert spread.training == pytest.approx(math.sqrt(by_seed.var(ddof=1) - rest / prompts))
    assert spread.prompts == pytest.approx(math.sqrt(by_prompt.var(ddof=1) - rest / seeds))
    assert spread.lasting == pytest.approx(math.sqrt(rest))
    assert (spread.sampling, spread.judge) == (0.0, 0.0)  # nothing shows that more answers or verdicts would help
    assert "as the pilot shows, over 6 seeds" in spread.sources["training"]


def test_a_pilot_of_one_seed_leaves_trainings_to_the_prior(recipe: Path, tmp_path: Path) -> None:
    pilot, apart = simulated_pilot(tmp_path, 1, 200)
    spread = found(recipe, 25.0, pilot=pilot, assume="").spread
    assert spread.training == pytest.approx(1.2 * math.sqrt(2))
    assert "one seed: assumed" in spread.sources["training"]
    assert math.hypot(spread.prompts, spread.lasting) == pytest.approx(apart.std(ddof=1))
    given = found(recipe, 25.0, pilot=pilot, assume="training=0.5,prompts=3").spread
    assert (given.training, given.prompts) == pytest.approx((0.5 * math.sqrt(2), 3.0))


def test_rows_of_a_pilot_that_hardly_differ_prove_nothing(recipe: Path, tmp_path: Path) -> None:
    one = np.random.default_rng(0).normal(50, 10, (1, 10))
    pilot = pilot_board(tmp_path / "pilot", entries((one + 0.1 * np.eye(1, 10), one)))
    spread = found(recipe, 25.0, pilot=pilot, assume="").spread
    assert (spread.prompts, spread.sampling) == (12.0, 38.0)
    assert "hardly differ" in spread.sources["prompts"]


def test_trainings_of_a_pilot_that_happen_to_agree_prove_nothing(recipe: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(50, 5, (2, 2, 100))
    for method in (one, other):
        method[1] += method[0].mean() - method[1].mean()
    pilot = pilot_board(tmp_path / "pilot", entries((one, other)))
    spread = found(recipe, 25.0, pilot=pilot, assume="").spread
    assert spread.training == pytest.approx(1.2 * math.sqrt(2))
    assert "happen to agree" in spread.sources["training"]


def test_several_answers_to_a_prompt_tell_what_more_of_them_average_away(recipe: Path, tmp_path: Path) -> None:
    """Two answers to each of 300 questions: 1 rating point of chance, and 0.5 that a training does to a question."""
    rng = np.random.default_rng(0)
    rows = entries((np.zeros((4, 2)), np.zeros((4, 2))))
    for i, row in enumerate(rows):
        ratings = rng.normal(5, 0.5, (300, 1)) + rng.normal(0, 1, (300, 2))
        values = {
            f"{q}{'' if k == 0 else '#2'}": float(x) for q, both in enumerate(ratings) for k, x in enumerate(both)
        }
        score = Metric(value=float(ratings.mean()), n=300)
        rated = row.model_copy(update={"metrics": {"mt_bench.score": score}, "outcomes": {"mt_bench": values}})
        rows[i] = with_provenance(rated, benchmarks={"mt_bench": {}})
    pilot = pilot_board(tmp_path / "pilot", rows)
    spread = found(recipe, 0.5, "primary.metric=mt_bench.score", pilot=pilot, assume="").spread
    assert spread.sampling == pytest.approx(math.sqrt(2), rel=0.1)
    assert spread.lasting == pytest.approx(0.5 * math.sqrt(2), rel=0.3)
    assert spread.parts(answers=1 / 4).rest == pytest.approx(math.sqrt(2 * 0.25 + 2 / 4), rel=0.1)
