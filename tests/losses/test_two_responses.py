"""With two responses every loss is one that is known by name: DPO, unless it stands in KNOWN."""

import math
from collections.abc import Callable

import pytest
import torch

from tests.losses.batches import NAMES, a_loss, batch_of, dpo_term, random_batch, takes

BETA = 0.3
HARD = 1e-4
"""A temperature at which a softmax of scores is one at the best."""


def soft_dpo(margin: float, chance: float) -> float:
    return chance * dpo_term(margin) + (1 - chance) * dpo_term(-margin)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# From the log-ratios (mean log-probabilities for simpo_pairs and rrhf) of the better and of the worse response, and
# their gap in score. Each response has 9 tokens.
KNOWN: dict[str, Callable[[float, float, float], float]] = {
    "lipo_lambda": lambda won, lost, gap: (1 - 1 / math.log2(3)) * dpo_term(BETA * (won - lost)),
    "nca": lambda won, lost, gap: dpo_term(BETA * won) + 0.5 * dpo_term(-BETA * won) + 0.5 * dpo_term(-BETA * lost),
    "rpo_bwd": lambda won, lost, gap: soft_dpo(BETA * (won - lost), sigmoid(gap)) - soft_dpo(gap, sigmoid(gap)),
    "rpo_sq": lambda won, lost, gap: (BETA * (won - lost) - gap) ** 2,
    "ipo_pairs": lambda won, lost, gap: (won / 9 - lost / 9 - 1 / (2 * BETA)) ** 2,
    "simpo_pairs": lambda won, lost, gap: dpo_term(BETA * (won - lost) - 0.5),
    "rrhf": lambda won, lost, gap: max(0.0, lost - won) - won,
}


@pytest.mark.parametrize("name", NAMES)
def test_two_responses(name: str) -> None:
    batch = random_batch(prompts=8, responses=2)
    losses, valid = a_loss(name, beta=BETA, temperature=HARD)(batch)
    values = batch.logps / batch.lengths if name in {"simpo_pairs", "rrhf"} else batch.logps - batch.ref_logps
    best = batch.scores.argmax(dim=1, keepdim=True)
    winners, losers = values.gather(1, best).squeeze(1).tolist(), values.gather(1, 1 - best).squeeze(1).tolist()
    known = KNOWN.get(name, lambda won, lost, gap: dpo_term(BETA * (won - lost)))
    expected = [known(won, lost, 1.5) for won, lost in zip(winners, losers, strict=True)]
    assert losses.tolist() == pytest.approx(expected, rel=1e-9)
    assert valid.all()


@pytest.mark.parametrize("name", [n for n in NAMES if takes(n, "label_smoothing") and n not in KNOWN])
def test_two_responses_smoothed_is_conservative_dpo(name: str) -> None:
    batch = batch_of([[-3.0, -7.0], [-9.0, -1.0]], [[1.0, 0.5], [0.0, -1.0]])
    losses, _ = a_loss(name, beta=BETA, label_smoothing=0.15)(batch)
    expected = [0.85 * dpo_term(BETA * d) + 0.15 * dpo_term(-BETA * d) for d in (4.0, -8.0)]
    assert losses.tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", [n for n in NAMES if takes(n, "length_norm") and n not in KNOWN])
def test_two_responses_per_token_is_length_normalised_dpo(name: str) -> None:
    batch = batch_of([[-3.0, -7.0]], [[1.0, 0.5]])._replace(lengths=torch.tensor([[2, 5]]))
    losses, _ = a_loss(name, beta=BETA, temperature=HARD, length_norm=True)(batch)
    assert losses.item() == pytest.approx(dpo_term(BETA * (-3 / 2 + 7 / 5)), rel=1e-9)


@pytest.mark.parametrize(("name", "temperature"), [("infonca", 0.5), ("infonca", 2.0)])
def test_infonca_with_two_responses_is_dpo_with_soft_labels(name: str, temperature: float) -> None:
    batch = batch_of([[-3.0, -7.0]], [[1.0, 0.5]])
    losses, _ = a_loss(name, beta=BETA, temperature=temperature)(batch)
    assert losses.item() == pytest.approx(soft_dpo(BETA * 4.0, sigmoid(0.5 / temperature)), rel=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 30.0])
def test_swepo_with_two_responses_is_dpo_whatever_alpha(alpha: float) -> None:
    batch = batch_of([[-3.0, -7.0], [-9.0, -1.0]], [[1.0, 0.5], [40.0, -1.0]])
    losses, _ = a_loss("swepo", beta=BETA, alpha=alpha)(batch)
    assert losses.tolist() == pytest.approx([dpo_term(BETA * 4.0), dpo_term(BETA * -8.0)], rel=1e-6)


def test_large_rewards_do_not_overflow() -> None:
    batch = batch_of([[-1e5, 0.0], [0.0, -1e5]], [[2.0, 1.0], [2.0, 1.0]])
    for name in NAMES:
        loss = a_loss(name, beta=BETA, temperature=HARD)
        leaf = batch._replace(logps=batch.logps.detach().requires_grad_())
        losses, _ = loss(leaf)
        losses.sum().backward()
        assert leaf.logps.grad is not None
        assert leaf.logps.grad.isfinite().all(), name
        if name in KNOWN:
            assert losses.isfinite().all(), name
        else:
            assert losses.tolist() == pytest.approx([BETA * 1e5, 0.0]), name
