import math

import pytest
import torch

from tests.losses.batches import a_loss, batch_of, dpo_term, each, gradient, random_batch

R = [1.0, -5.0, -2.0, 0.5]
DRAWS = 20_000


def many(scores: list[float], margin: float = 0.0) -> tuple[torch.Tensor, float]:
    """Losses of one prompt under many draws, and `dpo_best_rest`'s."""
    one = batch_of([R], [scores])
    fields = {"beta": 1.0, "tie_margin": margin}
    batch = each(lambda t: t.detach().expand(DRAWS, len(R)), one)
    draws = torch.rand(DRAWS, len(R), generator=torch.Generator().manual_seed(1))
    losses, valid = a_loss("dpo_best_random", **fields)(batch._replace(draws=draws))
    assert valid.all()
    return losses, a_loss("dpo_best_rest", **fields)(one)[0].item()


@pytest.mark.parametrize(
    ("scores", "margin"),
    [
        ([4.0, 3.0, 2.0, 1.0], 0.0),
        ([1.0, 2.0, 4.0, 4.0], 0.0),  # two tied best
        ([4.0, 2.0, 2.0, 1.0], 0.0),
        ([1.8, 1.2, 0.6, 0.0], 1.0),  # 1.8 beats two, 1.2 one of them: the lowest must be drawn twice as often
    ],
)
def test_unbiased_for_best_rest(scores: list[float], margin: float) -> None:
    losses, expected = many(scores, margin)
    error = losses.std().item() / math.sqrt(DRAWS)
    assert error > 0
    assert losses.mean().item() == pytest.approx(expected, abs=4 * error)


def test_every_other_response_is_drawn_as_often() -> None:
    losses, _ = many([4.0, 3.0, 2.0, 1.0])
    for j in (1, 2, 3):
        share = torch.isclose(losses, torch.tensor(dpo_term(R[0] - R[j]), dtype=losses.dtype)).double().mean()
        assert share.item() == pytest.approx(1 / 3, abs=0.02)


@pytest.mark.parametrize(
    ("draws", "drawn"), [([0.99, 0.1, 0.7, 0.2], 2), ([0.0, 0.3, 0.1, 0.2], 1), ([0.5, 0, 0, 1e-9], 3)]
)
def test_the_largest_draw_below_the_best_decides(draws: list[float], drawn: int) -> None:
    batch = batch_of([R], [[4.0, 3.0, 2.0, 1.0]])._replace(draws=torch.tensor([draws]))
    loss = a_loss("dpo_best_random", beta=1.0)
    assert loss(batch)[0].item() == pytest.approx(dpo_term(R[0] - R[drawn]))
    assert [k for k, g in enumerate(gradient(loss, batch)[0].tolist()) if g] == [0, drawn]


def test_a_pure_function_of_its_batch() -> None:
    batch, loss = random_batch(), a_loss("dpo_best_random")
    before = torch.get_rng_state()
    first, again = loss(batch)[0], loss(batch)[0]
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(7)
    assert torch.equal(loss(batch)[0], first)
    assert not torch.equal(loss(batch._replace(draws=1 - batch.draws))[0], first)


def test_without_draws_it_is_its_expectation() -> None:
    batch = random_batch()._replace(draws=None)
    torch.testing.assert_close(a_loss("dpo_best_random")(batch), a_loss("dpo_best_rest")(batch))


def test_draws_that_are_all_zero_still_choose() -> None:
    batch = batch_of([R], [[4.0, 3.0, 2.0, 1.0]])._replace(draws=torch.zeros(1, 4))
    losses, valid = a_loss("dpo_best_random", beta=1.0)(batch)
    assert valid.all()
    assert losses.item() == pytest.approx(sum(dpo_term(R[0] - R[j]) for j in (1, 2, 3)) / 3)
