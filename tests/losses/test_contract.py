"""What every shipped loss promises: ties, padding, infinities, dtypes, permutations, gradients. The losses are those
that the folder holds."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.losses._tensors import strict_pairs
from harness.protocols import Loss
from tests.losses.batches import NAMES, a_loss, batch_of, each, gradient, random_batch, takes

NOT_ON_DIFFERENCES = {"nca", "rrhf"}
"""Losses that look at a response's likelihood by itself: adding a number to all rewards changes them."""
EVERY_OPTION = {
    "length_norm": True,
    "label_smoothing": 0.1,
    "nll_alpha": 0.5,
    "tie_margin": 0.1,
    "weights": "score",
    "top_k": 2,
    "temperature": 3.0,
    "eta": 0.3,
    "alpha": 0.3,
    "gamma": 0.2,
    "length_penalty": 0.5,
}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def loss(name: str) -> Loss:
    return a_loss(name, beta=0.3)


@pytest.fixture(params=["plain", "every option"])
def any_loss(request: pytest.FixtureRequest, name: str) -> Loss:
    return a_loss(name, beta=0.3, **(EVERY_OPTION if request.param == "every option" else {}))


def test_gradcheck(any_loss: Loss) -> None:
    batch = batch_of(
        [[-5.0, -7.5, -3.0, -9.0], [-1.0, -2.0, -4.5]],
        [[0.1, 0.9, 0.9, -2.0], [3.0, 2.0, 1.0]],
        [[-6.0, -6.0, -4.5, -8.0], [-1.5, -2.75, -3.0]],
    )
    # No two rewards are the same: there, the ranks that lipo_lambda weighs pairs by change all at once.
    assert torch.autograd.gradcheck(lambda logps: any_loss(batch._replace(logps=logps))[0], (batch.logps,))


def test_all_tied_is_zero_not_valid_and_leaves_the_others_alone(any_loss: Loss) -> None:
    batch = batch_of([[-5.0, -7.0, -9.0], [-1.0, -2.0, -4.0]], [[1.0, 1.0, 1.0], [3.0, 2.0, 1.0]])
    losses, valid = any_loss(batch)
    assert valid.tolist() == [False, True]
    assert losses[0] == 0
    grad = gradient(any_loss, batch)
    assert (grad[0] == 0).all()
    alone = batch_of([[-1.0, -2.0, -4.0]], [[3.0, 2.0, 1.0]])
    torch.testing.assert_close(losses[1:], any_loss(alone)[0])
    torch.testing.assert_close(grad[1:], gradient(any_loss, alone))


def test_a_single_response_is_not_valid(any_loss: Loss) -> None:
    batch = batch_of([[-5.0], [-1.0, -2.0]], [[1.0], [3.0, 2.0]])
    losses, valid = any_loss(batch)
    assert valid.tolist() == [False, True]
    assert losses[0] == 0
    assert (gradient(any_loss, batch)[0] == 0).all()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([-1.5, 0.0, 0.5, 0.75]), min_size=1, max_size=5), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.3, 2.0]),
)
def test_what_is_valid_is_the_scores_and_the_masks_affair(scores: list[list[float]], margin: float) -> None:
    batch = batch_of([[-3.0] * len(row) for row in scores], scores)
    noisy = each(lambda t: t, random_batch(len(scores), batch.mask.shape[1]))
    for name in NAMES:
        loss = a_loss(name, tie_margin=margin)
        pairs = strict_pairs(batch.scores, batch.mask, margin if takes(name, "tie_margin") else 0.0)
        wanted = pairs.flatten(1).any(1)
        assert torch.equal(loss(batch)[1], wanted), name
        assert torch.equal(loss(noisy._replace(scores=batch.scores, mask=batch.mask))[1], wanted), name
        assert (loss(batch)[0][~wanted] == 0).all(), name


@pytest.mark.parametrize("junk", [0.0, 1e30, float("nan"), float("inf"), float("-inf")])
def test_padding_never_matters(any_loss: Loss, junk: float) -> None:
    short = batch_of([[-5.0, -7.0, -6.0], [-1.0, -3.0, -2.0]], [[3.0, 2.0, 1.0], [1.0, 2.0, 2.0]])
    short = short._replace(draws=torch.tensor([[0.1, 0.9, 0.4], [0.7, 0.0, 0.2]]))

    def widen(values: torch.Tensor) -> torch.Tensor:
        fill = junk if values.is_floating_point() else 0
        return torch.cat([values.detach(), torch.full((2, 2), fill, dtype=values.dtype)], dim=1)

    padded = each(widen, short)
    padded = padded._replace(logps=padded.logps.requires_grad_())
    for expected, found in zip(any_loss(short), any_loss(padded), strict=True):
        torch.testing.assert_close(found, expected)
    grad = gradient(any_loss, padded)
    torch.testing.assert_close(grad[:, :3], gradient(any_loss, short))
    assert (grad[:, 3:] == 0).all()


def test_order_comes_from_scores_not_position(any_loss: Loss) -> None:
    batch = random_batch(responses=5)
    batch = batch._replace(lengths=torch.arange(1, 26).reshape(5, 5))
    order = torch.tensor([3, 0, 4, 1, 2])
    moved = each(lambda t: t[:, order], batch)
    torch.testing.assert_close(any_loss(moved)[0], any_loss(batch)[0])
    leaf = moved._replace(logps=moved.logps.detach().requires_grad_())
    torch.testing.assert_close(gradient(any_loss, leaf), gradient(any_loss, batch)[:, order])


def test_order_comes_from_scores_where_policy_is_reference(any_loss: Loss) -> None:
    """At initialisation all rewards are the same: no sorting of them may let the position decide."""
    scores, order = [2.0, 0.5, 2.0, -1.0], [1, 3, 2, 0]
    one = gradient(any_loss, batch_of([[-4.0] * 4], [scores], [[-4.0] * 4]))
    two = gradient(any_loss, batch_of([[-4.0] * 4], [[scores[k] for k in order]], [[-4.0] * 4]))
    torch.testing.assert_close(two, one[:, order])
    assert one[0, 0] < 0 <= one[0, 3]
    torch.testing.assert_close(one[0, 0], one[0, 2])


def test_tied_responses_can_be_swapped(any_loss: Loss) -> None:
    scores = [[2.0, 2.0, 1.0, 1.0]]
    one = any_loss(batch_of([[-1.0, -5.0, -2.0, -7.0]], scores))[0]
    two = any_loss(batch_of([[-5.0, -1.0, -7.0, -2.0]], scores))[0]
    torch.testing.assert_close(one, two)


def test_a_better_response_gains_and_a_worse_one_loses(name: str, loss: Loss) -> None:
    batch = random_batch(spread=0.5)
    grad = gradient(loss, batch)
    best, worst = batch.scores.argmax(1, keepdim=True), batch.scores.argmin(1, keepdim=True)
    assert (grad.gather(1, best) < 0).all()
    assert (grad.gather(1, worst) >= 0).all()
    assert grad.gather(1, worst).sum() > 0
    if name not in NOT_ON_DIFFERENCES:
        torch.testing.assert_close(grad.sum(dim=1), torch.zeros(5, dtype=torch.float64), atol=1e-12, rtol=0)


def test_bfloat16_inputs_are_computed_in_float32(any_loss: Loss) -> None:
    exact = random_batch()
    exact = exact._replace(scores=1.37 * exact.scores)  # differences of these are no bfloat16
    half = each(lambda t: t.detach().bfloat16() if t.is_floating_point() else t, exact)
    half = half._replace(logps=half.logps.requires_grad_())
    losses, _ = any_loss(half)
    assert losses.dtype == torch.float32
    rounded = each(lambda t: t.detach().double() if t.is_floating_point() else t, half)
    torch.testing.assert_close(losses.double(), any_loss(rounded)[0], rtol=1e-5, atol=1e-6)
    grad = gradient(any_loss, half)
    assert grad.dtype == torch.bfloat16
    assert grad.isfinite().all()


def test_float64_inputs_are_computed_in_float64(any_loss: Loss) -> None:
    batch = random_batch()
    assert any_loss(batch)[0].dtype == torch.float64
    mixed = batch._replace(logps=batch.logps.float(), ref_logps=batch.ref_logps.float())
    assert any_loss(mixed)[0].dtype == torch.float32


@pytest.mark.parametrize("value", [float("-inf"), float("inf")])
def test_infinite_log_probabilities_give_no_nan(any_loss: Loss, value: float) -> None:
    """In float32, which has less room."""
    which = [(0,), (1,), (2,), (0, 2), (0, 1, 2)]
    exact = batch_of(
        [[value if k in some else -3.0 for k in range(3)] for some in which], [[3.0, 2.0, 1.0]] * len(which)
    )
    batch = each(lambda t: t.detach().float() if t.is_floating_point() else t, exact)
    batch = batch._replace(logps=batch.logps.requires_grad_())
    for case in (
        batch,
        batch._replace(ref_logps=batch.logps.detach()),
        batch._replace(ref_logps=-batch.logps.detach()),
    ):
        assert any_loss(case)[0].isfinite().all()
        assert gradient(any_loss, case).isfinite().all()


def test_a_nan_log_probability_is_not_hidden(any_loss: Loss) -> None:
    assert any_loss(batch_of([[float("nan"), -3.0]], [[2.0, 1.0]]))[0].isnan().all()


def test_large_scores_do_not_overflow(any_loss: Loss) -> None:
    """Nothing is an exponential of a score as it comes."""
    batch = batch_of([[-3.0, -4.0, -5.0]], [[1e4, -1e4, 3.0]])
    losses, valid = any_loss(batch)
    assert losses.isfinite().all()
    assert gradient(any_loss, batch).isfinite().all()
    assert valid.all()


def test_near_scores_that_are_large_still_differ(any_loss: Loss) -> None:
    """A reward model's scores mean something in differences only: here float32 has no number between the scores."""
    logps = [[-3.0, -4.0, -5.0]] * 3
    small = batch_of(logps, [[8.0, 8.0, 0.0], [8.0, 0.0, 0.0], [16.0, 8.0, 0.0]])
    large = small._replace(scores=(small.scores + 1e8).float())
    torch.testing.assert_close(any_loss(large), any_loss(small), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("beta", [0.0, -0.1, float("inf"), float("nan")])
def test_beta_must_be_positive(beta: float) -> None:
    for name in NAMES:
        if takes(name, "beta"):
            with pytest.raises(ValueError, match="beta"):
                a_loss(name, beta=beta)


def test_importing_a_loss_does_not_import_torch() -> None:
    code = "import sys; " + "".join(f"import harness.losses.{n}; " for n in NAMES) + "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
