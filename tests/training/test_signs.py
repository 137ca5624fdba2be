"""Failure signatures, on runs that have them and runs that don't."""

import random
from typing import Any

import pytest

from harness.training.signs import failure_signs


def steps(losses: list[float], best_log_ratio: float = 1.0, tokens: float = 20.0) -> list[dict[str, Any]]:
    return [
        {"loss": loss, "log_ratio_by_rank": [best_log_ratio * k / len(losses), None], "length_by_rank": [tokens, None]}
        for k, loss in enumerate(losses, 1)
    ]


def falling(count: int) -> list[float]:
    noise = random.Random(0)
    return [0.69 - 0.4 * k / count + 0.05 * noise.random() for k in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 6, 40])
def test_a_sound_run_has_none(count: int) -> None:
    assert failure_signs(steps(falling(count))) == []


def test_no_steps_no_signs() -> None:
    assert failure_signs([]) == []


def test_collapsing_likelihood_is_by_the_token() -> None:
    (sign,) = failure_signs(steps(falling(40), best_log_ratio=-20.0))
    assert sign.startswith("chosen likelihood is collapsing: the best responses ended 0.89 nats per token")
    assert failure_signs(steps(falling(40), best_log_ratio=-20.0, tokens=200.0)) == []


def test_spikes_are_counted_and_placed() -> None:
    losses = falling(40)
    losses[12] = losses[25] = 5.0
    (sign,) = failure_signs(steps(losses))
    assert sign.startswith("loss spikes: 1 of 40 steps (number 13)")
    losses[25] = 50.0
    (sign,) = failure_signs(steps(losses))
    assert sign.startswith("loss spikes: 2 of 40 steps (numbers 13, 26)")


def test_small_losses_do_not_spike_by_ratio_alone() -> None:
    assert failure_signs(steps([0.69, 0.3, 0.02, 0.02, 0.01, 0.08, 0.01, 0.01])) == []


def test_a_loss_that_rises() -> None:
    (sign,) = failure_signs(steps([0.69, 0.70, 0.72, 0.75, 0.8, 0.81, 0.83, 0.9]))
    assert sign.startswith("the loss rose: 0.6950 in the first quarter of the steps, 0.8650 in the last")
