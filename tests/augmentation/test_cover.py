"""New prompts among the seed's topics: known answers in the plane, and the expectation by simulation."""

import numpy as np
import pytest

from harness.augmentation.diversity import NEIGHBOURS, cover


def circle(angles: list[float]) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


LEFT, RIGHT = [3.0 + 0.01 * i for i in range(8)], [0.01 * i for i in range(8)]


def test_new_prompts_on_half_of_the_topics() -> None:
    found = cover(circle(LEFT + RIGHT), circle([0.005 + 0.01 * i for i in range(16)][:16]))
    assert found is not None
    assert found["covered"]["value"] == pytest.approx(0.5)
    assert (found["covered"]["n"], found["within"]["n"]) == (16, 16)
    assert 0.5 < found["within"]["value"] < 1  # the last ones are beyond the last topic


def test_copies_cover_everything_and_strangers_nothing() -> None:
    seeds = circle(LEFT + RIGHT)
    same, far = cover(seeds, seeds), cover(seeds, circle([1.5] * 16))
    assert same is not None
    assert far is not None
    assert (same["covered"]["value"], same["within"]["value"]) == (1.0, 1.0)
    assert (far["covered"]["value"], far["within"]["value"]) == (0.0, 0.0)
    assert cover(seeds[:NEIGHBOURS], seeds) is None
    assert cover(seeds, seeds[:0]) is None


def test_the_expectation_is_that_of_further_draws() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        draws = rng.normal(size=(48, 4))
        one = cover(draws[:24], draws[24:])
        assert one is not None
        found.append(one["covered"]["value"])
    assert np.mean(found) == pytest.approx(one["expected"], abs=0.01)
