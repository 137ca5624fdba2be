"""The options that losses share: which loss takes which, what they refuse, what ties within a margin are."""

import pytest
import torch
from pydantic import ValidationError

from harness.components import build
from tests.losses.batches import NAMES, a_loss, batch_of, dpo_term, gradient, random_batch, takes

# An option, and the losses that it means nothing for: the scores say how much better a response is (infonca, nca, rpo,
# swepo), there is no chance to be wrong about (ipo, rrhf), or length and reference are settled by definition (simpo,
# rrhf).
REFUSED = {
    "beta": {"rrhf"},
    "length_norm": {"simpo_pairs", "rrhf"},
    "label_smoothing": {"infonca", "nca", "rpo_bwd", "rpo_sq", "ipo_pairs", "rrhf"},
    "tie_margin": {"infonca", "nca", "swepo"},
    "nll_alpha": set(),
}
VALUES = {"beta": 0.2, "length_norm": True, "label_smoothing": 0.1, "tie_margin": 0.5, "nll_alpha": 1.0}


@pytest.mark.parametrize("option", REFUSED)
def test_an_option_without_meaning_is_an_unknown_field(option: str) -> None:
    for name in NAMES:
        if name in REFUSED[option]:
            with pytest.raises(ValidationError, match=rf"{option}\n  Extra inputs are not permitted"):
                build("loss", {"name": name, option: VALUES[option]})
        else:
            build("loss", {"name": name, option: VALUES[option]})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("option", REFUSED)
def test_an_option_that_is_taken_changes_the_loss(name: str, option: str) -> None:
    if not takes(name, option):
        return
    batch = batch_of([[-1.0, -5.0, -2.5, -3.0]], [[2.0, 1.7, 0.0, -1.0]], [[-2.0, -3.0, -2.0, -4.5]])
    batch = batch._replace(lengths=torch.tensor([[3, 4, 5, 6]]))
    plain = a_loss(name)
    values = VALUES | {"nll_alpha": 0.7, "length_norm": name != "ipo_pairs"}  # other than the defaults
    changed = a_loss(name, **{option: values[option]})(batch)[0]
    assert changed.item() != pytest.approx(plain(batch)[0].item(), rel=1e-6)


@pytest.mark.parametrize(
    ("option", "value"),
    [("label_smoothing", 0.5), ("label_smoothing", -0.1), ("nll_alpha", -1), ("tie_margin", -0.1)]
    + [(option, float("nan")) for option in ("label_smoothing", "nll_alpha", "tie_margin")],
)
def test_options_out_of_range_are_refused(option: str, value: float) -> None:
    for name in NAMES:
        if takes(name, option):
            with pytest.raises(ValidationError, match=option):
                a_loss(name, **{option: value})


@pytest.mark.parametrize("name", NAMES)
def test_nll_alpha_adds_the_bests_likelihood_per_token(name: str) -> None:
    batch = batch_of([[-4.0, -9.0, -6.0]], [[1.0, 2.0, 2.0]])._replace(lengths=torch.tensor([[4, 3, 12]]))
    with_it, without = a_loss(name, nll_alpha=0.5), a_loss(name, nll_alpha=0.0)
    added = with_it(batch)[0] - without(batch)[0]
    assert added.item() == pytest.approx(0.5 * (9 / 3 + 6 / 12) / 2)  # the two tied best
    slope = gradient(with_it, batch) - gradient(without, batch)
    assert slope[0].tolist() == pytest.approx([0.0, -0.5 / 3 / 2, -0.5 / 12 / 2])


@pytest.mark.parametrize("name", [n for n in NAMES if takes(n, "length_norm")])
def test_length_norm_divides_the_log_ratio_by_the_response_s_own_length(name: str) -> None:
    batch = random_batch()
    lengths = torch.arange(1, 21).reshape(5, 4)
    per_token = a_loss(name, length_norm=True)(batch._replace(lengths=lengths))[0]
    divided = batch._replace(logps=batch.logps / lengths, ref_logps=batch.ref_logps / lengths)
    torch.testing.assert_close(per_token, a_loss(name, length_norm=False)(divided)[0])


@pytest.mark.parametrize("name", [n for n in NAMES if takes(n, "tie_margin")])
def test_differences_within_the_margin_are_ties(name: str) -> None:
    """Where the near ones make up levels that are far from each other, it is as if each level had one score."""
    logps = [[-1.0, -5.0, -2.0, -7.0, -3.0]]
    near = batch_of(logps, [[2.1, 2.0, 1.0, 0.9, 1.05]])
    level = batch_of(logps, [[2.0, 2.0, 1.0, 1.0, 1.0]])
    if name not in {"lipo_lambda", "rpo_bwd", "rpo_sq"}:  # these look at the scores themselves, too
        torch.testing.assert_close(a_loss(name, tie_margin=0.2)(near)[0], a_loss(name)(level)[0])
    exact = batch_of([[-1.0, -5.0]], [[1.0, 0.75]])
    assert not a_loss(name, tie_margin=0.25)(exact)[1].item()
    assert a_loss(name, tie_margin=0.24)(exact)[1].item()


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("dpo_") or n in {"mdpo_linear", "sdpo"}])
def test_a_response_tied_with_all_others_is_left_out(name: str) -> None:
    """Of 1.2, 0.6 and 0 with a margin of 1 only the ends are a pair: ties are not chained into one level."""
    loss = a_loss(name, beta=1.0, tie_margin=1.0)
    batch = batch_of([[-2.0, -9.0, -3.0]], [[1.2, 0.6, 0.0]])
    assert loss(batch)[0].item() == pytest.approx(dpo_term(1.0))
    assert gradient(loss, batch)[0, 1] == 0


def test_neighbours_within_a_margin() -> None:
    """Of 1.8, 1.2, 0.6, 0 with a margin of 1, the pairs are 1.8 > 0.6, 1.8 > 0 and 1.2 > 0, and nothing is between any
    two of them: all three are neighbours, though 1.8 and 1.2 (and 0.6 and 0) are tied."""
    r = [1.0, 5.0, -2.0, 0.5]
    losses, _ = a_loss("dpo_adjacent", beta=1.0, tie_margin=1.0)(batch_of([r], [[1.8, 1.2, 0.6, 0.0]]))
    assert losses.item() == pytest.approx((dpo_term(3.0) + dpo_term(0.5) + dpo_term(4.5)) / 3)


def test_neighbours_skip_no_one_that_is_clearly_between() -> None:
    """Of 2, 1.95, 1.88 and 0 with a margin of 0.1: 2 > 1.88 > 0 and 1.95 > 0, so 2 and 0 are no neighbours."""
    r = [1.0, 5.0, -2.0, 0.5]
    losses, _ = a_loss("dpo_adjacent", beta=1.0, tie_margin=0.1)(batch_of([r], [[2.0, 1.95, 1.88, 0.0]]))
    assert losses.item() == pytest.approx((dpo_term(3.0) + dpo_term(4.5) + dpo_term(-2.5)) / 3)


def test_best_and_worst_that_are_tied_are_no_pair() -> None:
    """Of 1.8, 1.2, 0.6, 0 with a margin of 1, the first two are unbeaten and the last two beat nothing, but 1.2 and 0.6
    are tied."""
    r = [1.0, 5.0, -2.0, 0.5]
    losses, _ = a_loss("dpo_best_worst", beta=1.0, tie_margin=1.0)(batch_of([r], [[1.8, 1.2, 0.6, 0.0]]))
    assert losses.item() == pytest.approx((dpo_term(3.0) + dpo_term(0.5) + dpo_term(4.5)) / 3)
