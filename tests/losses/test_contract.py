"""What every shipped loss promises: N=2 is DPO, ties, padding, infinities, dtypes, permutations, gradients."""

import subprocess
import sys

import pytest
import torch

from harness.components import build
from harness.protocols import Loss, RankedLogps
from tests.losses.batches import batch_of, dpo_term, random_batch

NAMES = ["dpo_best_worst", "dpo_best_rest", "dpo_adjacent", "dpo_all_pairs", "mdpo_linear", "plackett_luce"]


@pytest.fixture(params=NAMES)
def loss(request: pytest.FixtureRequest) -> Loss:
    component = build("loss", {"name": request.param, "beta": 0.3})
    assert callable(component)
    return component


def gradient(loss: Loss, batch: RankedLogps) -> torch.Tensor:
    (grad,) = torch.autograd.grad(loss(batch)[0].sum(), batch.logps)
    return grad


def test_two_responses_is_dpo(loss: Loss) -> None:
    batch = random_batch(prompts=6, responses=2)
    losses, valid = loss(batch)
    ratio = 0.3 * (batch.logps - batch.ref_logps)
    best = batch.scores.argmax(dim=1, keepdim=True)
    margin = (ratio.gather(1, best) - ratio.gather(1, 1 - best)).squeeze(1)
    torch.testing.assert_close(losses, -torch.nn.functional.logsigmoid(margin))
    assert valid.all()


def test_gradcheck(loss: Loss) -> None:
    batch = batch_of(
        [[-5.0, -7.5, -3.0, -9.0], [-1.0, -2.0, -4.5]],
        [[0.1, 0.9, 0.9, -2.0], [3.0, 2.0, 1.0]],
        [[-6.0, -6.0, -4.0, -8.0], [-1.5, -2.5, -3.0]],
    )
    assert torch.autograd.gradcheck(lambda logps: loss(batch._replace(logps=logps))[0], (batch.logps,))


def test_all_tied_is_zero_not_valid_and_leaves_the_others_alone(loss: Loss) -> None:
    batch = batch_of([[-5.0, -7.0, -9.0], [-1.0, -2.0, -4.0]], [[1.0, 1.0, 1.0], [3.0, 2.0, 1.0]])
    losses, valid = loss(batch)
    assert valid.tolist() == [False, True]
    assert losses[0] == 0
    grad = gradient(loss, batch)
    assert (grad[0] == 0).all()
    alone = batch_of([[-1.0, -2.0, -4.0]], [[3.0, 2.0, 1.0]])
    torch.testing.assert_close(losses[1:], loss(alone)[0])
    torch.testing.assert_close(grad[1:], gradient(loss, alone))


def test_a_single_response_is_not_valid(loss: Loss) -> None:
    batch = batch_of([[-5.0], [-1.0, -2.0]], [[1.0], [3.0, 2.0]])
    losses, valid = loss(batch)
    assert valid.tolist() == [False, True]
    assert losses[0] == 0
    assert (gradient(loss, batch)[0] == 0).all()


@pytest.mark.parametrize("junk", [0.0, 1e30, float("nan"), float("inf"), float("-inf")])
def test_padding_never_matters(loss: Loss, junk: float) -> None:
    short = batch_of([[-5.0, -7.0, -6.0], [-1.0, -3.0, -2.0]], [[3.0, 2.0, 1.0], [1.0, 2.0, 2.0]])

    def widen(values: torch.Tensor, fill: float) -> torch.Tensor:
        return torch.cat([values.detach(), torch.full((2, 2), fill, dtype=values.dtype)], dim=1)

    padded = RankedLogps(
        widen(short.logps, junk).requires_grad_(),
        widen(short.ref_logps, junk),
        widen(short.scores, junk),
        widen(short.lengths, 0),
        widen(short.mask, 0),
    )
    for expected, found in zip(loss(short), loss(padded), strict=True):
        torch.testing.assert_close(found, expected)
    grad = gradient(loss, padded)
    torch.testing.assert_close(grad[:, :3], gradient(loss, short))
    assert (grad[:, 3:] == 0).all()


def test_order_comes_from_scores_not_position(loss: Loss) -> None:
    batch = random_batch(responses=5)
    order = torch.tensor([3, 0, 4, 1, 2])
    moved = RankedLogps(*(t[:, order] for t in batch))
    torch.testing.assert_close(loss(moved)[0], loss(batch)[0])
    leaf = moved._replace(logps=moved.logps.detach().requires_grad_())
    torch.testing.assert_close(gradient(loss, leaf), gradient(loss, batch)[:, order])


def test_tied_responses_can_be_swapped(loss: Loss) -> None:
    scores = [[2.0, 2.0, 1.0, 1.0]]
    one = loss(batch_of([[-1.0, -5.0, -2.0, -7.0]], scores))[0]
    two = loss(batch_of([[-5.0, -1.0, -7.0, -2.0]], scores))[0]
    torch.testing.assert_close(one, two)


def test_a_better_response_gains_and_a_worse_one_loses(loss: Loss) -> None:
    grad = gradient(loss, random_batch(spread=0.5))
    batch = random_batch(spread=0.5)
    best, worst = batch.scores.argmax(1, keepdim=True), batch.scores.argmin(1, keepdim=True)
    assert (grad.gather(1, best) < 0).all()
    assert (grad.gather(1, worst) > 0).all()
    torch.testing.assert_close(grad.sum(dim=1), torch.zeros(5, dtype=torch.float64), atol=1e-12, rtol=0)


def test_bfloat16_inputs_are_computed_in_float32(loss: Loss) -> None:
    exact = random_batch()
    half = RankedLogps(*(t.detach().bfloat16() if t.is_floating_point() else t for t in exact))
    half = half._replace(logps=half.logps.requires_grad_())
    losses, _ = loss(half)
    assert losses.dtype == torch.float32
    rounded = RankedLogps(*(t.detach().double() if t.is_floating_point() else t for t in half))
    torch.testing.assert_close(losses.double(), loss(rounded)[0], rtol=1e-5, atol=1e-6)
    grad = gradient(loss, half)
    assert grad.dtype == torch.bfloat16
    assert grad.isfinite().all()


@pytest.mark.parametrize("infinite", [(0,), (2,), (1,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("value", [float("-inf"), float("inf")])
def test_infinite_log_probabilities_give_no_nan(loss: Loss, infinite: tuple[int, ...], value: float) -> None:
    logps = [[value if i in infinite else -3.0 for i in range(3)]]
    batch = batch_of(logps, [[3.0, 2.0, 1.0]])
    losses, _ = loss(batch)
    assert losses.isfinite().all()
    assert gradient(loss, batch).isfinite().all()


def test_a_nan_log_probability_is_not_hidden(loss: Loss) -> None:
    assert loss(batch_of([[float("nan"), -3.0]], [[2.0, 1.0]]))[0].isnan().all()


def test_large_rewards_do_not_overflow(loss: Loss) -> None:
    batch = batch_of([[-1e5, 0.0], [0.0, -1e5]], [[2.0, 1.0], [2.0, 1.0]])
    losses, _ = loss(batch)
    torch.testing.assert_close(losses, torch.tensor([dpo_term(-0.3e5), 0.0], dtype=torch.float64))
    assert gradient(loss, batch).isfinite().all()


@pytest.mark.parametrize("beta", [0.0, -0.1, float("inf"), float("nan")])
def test_beta_must_be_positive(beta: float) -> None:
    for name in NAMES:
        with pytest.raises(ValueError, match="beta"):
            build("loss", {"name": name, "beta": beta})


def test_importing_a_loss_does_not_import_torch() -> None:
    code = "import sys; " + "".join(f"import harness.losses.{n}; " for n in NAMES) + "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
