"""TRL's own losses, called as they stand on two responses, against ours: an oracle that we did not write.

DPOTrainer computes its losses inside `_compute_loss`, so that is called with a stand-in for the trainer and for the
model, whose log-probabilities per token are given. CPOTrainer has a function of log-probabilities.
"""

import math
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.protocols import RankedLogps
from tests.losses.batches import a_loss

BETA = 0.3
LENGTHS = (5, 3)


@pytest.fixture(scope="module", params=range(3))
def tokens(request: pytest.FixtureRequest) -> torch.Tensor:
    """Log-probabilities per token of the better and of the worse response, 0 in padding."""
    generator = torch.Generator().manual_seed(request.param)
    values = -4 * torch.rand(2, max(LENGTHS), generator=generator, dtype=torch.float64)
    return values * (torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None])


REFERENCE = torch.tensor([-9.0, -5.5], dtype=torch.float64)


def ours(name: str, tokens: torch.Tensor, **fields: Any) -> float:
    """The same two, the worse first."""
    batch = RankedLogps(
        logps=tokens.sum(dim=1).flip(0)[None],
        ref_logps=REFERENCE.flip(0)[None],
        scores=torch.tensor([[0.0, 1.0]], dtype=torch.float64),
        lengths=torch.tensor([LENGTHS]).flip(1),
        mask=torch.ones(1, 2, dtype=torch.bool),
    )
    return a_loss(name, **fields)(batch)[0].item()


def trl_dpo(tokens: torch.Tensor, weights: dict[str, float], label_smoothing: float = 0.0) -> float:
    """DPOTrainer's weighted sum of losses."""
    from trl import DPOTrainer

    width = tokens.shape[1] + 1
    completion = torch.tensor([[0] + [1] * n + [0] * (width - 1 - n) for n in LENGTHS])
    nothing = torch.zeros_like(tokens)
    outputs = SimpleNamespace(log_probs=tokens, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool())
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=False),
        accelerator=SimpleNamespace(device="cpu", gather=lambda t: t, gather_for_metrics=lambda t: t),
        loss_types=list(weights),
        loss_weights=list(weights.values()),
        beta=BETA,
        label_smoothing=label_smoothing,
        f_divergence_type="reverse_kl",
        precompute_ref_logps=True,
        ld_alpha=None,
        use_weighting=False,
        aux_loss_enabled=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
    )
    inputs = {
        "input_ids": torch.zeros_like(completion),
        "attention_mask": torch.ones_like(completion),
        "completion_mask": completion,
        "ref_chosen_logps": REFERENCE[:1],
        "ref_rejected_logps": REFERENCE[1:],
    }
    return float(DPOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, return_outputs=False))


def trl_cpo(chosen: float, rejected: float, loss_type: str, label_smoothing: float, gamma: float = 0.0) -> float:
    from trl.experimental.cpo import CPOTrainer

    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(device="cpu"),
        loss_type=loss_type,
        beta=BETA,
        label_smoothing=label_smoothing,
        simpo_gamma=gamma,
        alpha=0.0,
    )
    values = (torch.tensor([v], dtype=torch.float64) for v in (chosen, rejected))
    return float(CPOTrainer.cpo_loss(trainer, *values)[0])


@pytest.mark.parametrize(
    ("theirs", "name", "fields"),
    [
        ("sigmoid", "dpo_all_pairs", {}),
        ("sigmoid", "mdpo_linear", {}),
        ("sigmoid", "plackett_luce", {}),
        ("sigmoid", "sdpo", {}),
        ("sigmoid", "infonca", {"temperature": 1e-4}),
        ("sigmoid", "swepo", {}),
        ("sigmoid_norm", "dpo_all_pairs", {"length_norm": True}),
        ("sigmoid_norm", "mdpo_linear", {"length_norm": True}),
        ("ipo", "ipo_pairs", {}),
        ("nca_pair", "nca", {"temperature": 1e-4}),
    ],
)
def test_dpo_trainer(tokens: torch.Tensor, theirs: str, name: str, fields: dict[str, Any]) -> None:
    assert ours(name, tokens, beta=BETA, **fields) == pytest.approx(trl_dpo(tokens, {theirs: 1.0}), rel=1e-9)


def test_the_likelihood_of_the_best_is_trls_sft_term(tokens: torch.Tensor) -> None:
    found = ours("dpo_best_worst", tokens, beta=BETA, nll_alpha=0.7)
    assert found == pytest.approx(trl_dpo(tokens, {"sigmoid": 1.0, "sft": 0.7}), rel=1e-9)


def test_label_smoothing_is_conservative_dpo_s_and_not_robust_dpo_s(tokens: torch.Tensor) -> None:
    """Robust DPO is [(1-e) f(m) - e f(-m)] / (1-2e). CPO's loss on log-ratios is the conservative form."""
    e, (won, lost) = 0.2, (tokens.sum(dim=1) - REFERENCE).tolist()
    found = ours("dpo_all_pairs", tokens, beta=BETA, label_smoothing=e)
    assert found == pytest.approx(trl_cpo(won, lost, "sigmoid", e), rel=1e-9)
    flipped = math.log1p(math.exp(BETA * (won - lost)))
    assert found == pytest.approx((1 - 2 * e) * trl_dpo(tokens, {"robust": 1.0}, e) + 2 * e * flipped, rel=1e-9)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.15])
def test_simpo(tokens: torch.Tensor, label_smoothing: float) -> None:
    won, lost = (tokens.sum(dim=1) / torch.tensor(LENGTHS)).tolist()
    found = ours("simpo_pairs", tokens, beta=BETA, gamma=0.4, label_smoothing=label_smoothing)
    assert found == pytest.approx(trl_cpo(won, lost, "simpo", label_smoothing, 0.4), rel=1e-9)
