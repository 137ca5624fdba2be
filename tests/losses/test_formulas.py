"""Every loss, with every option it takes, against its formula in Python floats (`formulas`): prompts of several sizes
with and without ties, padded into one batch."""

import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.protocols import RankedLogps
from tests.losses.batches import NAMES, a_loss, takes
from tests.losses.formulas import Prompt, expected

COMMON = [
    {},
    {"beta": 0.7},
    {"length_norm": True},
    {"label_smoothing": 0.2},
    {"nll_alpha": 0.3},
    {"tie_margin": 0.9},
    {"beta": 0.4, "length_norm": True, "label_smoothing": 0.1, "nll_alpha": 2.0, "tie_margin": 1.1},
]
OWN: list[tuple[str, dict[str, Any]]] = [
    *[
        ("dpo_all_pairs", {"weights": weights, "tie_margin": margin})
        for weights in ("rank", "score")
        for margin in (0, 1)
    ],
    *[
        ("mdpo_linear", {"normalise": normalise, "weights": weights, "tie_margin": margin})
        for normalise in ("pairs", "l1", "max", "none")
        for weights in ("rank", "score", (5.0, 1.5, 0.5, -1.0, -2.0, -4.0))
        for margin in (0.0, 1.0)
    ],
    ("mdpo_linear", {"weights": (5.0, 1.5, 0.5, -1.0, -2.0, -4.0)}),
    *[("plackett_luce", {"top_k": k}) for k in (1, 2, 3)],
    *[(name, {"temperature": t}) for name in ("infonca", "nca") for t in (0.3, 4.0)],
    *[("swepo", {"alpha": alpha}) for alpha in (0.0, 0.3)],
    *[(name, {"eta": eta}) for name in ("rpo_bwd", "rpo_sq") for eta in (0.2, 3.0)],
    ("ipo_pairs", {"length_norm": False}),
    ("simpo_pairs", {"gamma": 0.0}),
    ("simpo_pairs", {"gamma": 1.3}),
    *[("rrhf", {"length_penalty": penalty}) for penalty in (0.0, 0.5, 2.0)],
]
CASES = [(name, fields) for name in NAMES for fields in COMMON if all(takes(name, f) for f in fields)] + OWN


def some_prompts(sizes: list[int]) -> list[Prompt]:
    """For each size: scores without ties, with some, and all tied."""
    rng = random.Random(5)
    prompts = []
    for n in sizes:
        distinct = [0.7 * k - 1.0 for k in rng.sample(range(9), n)]
        tied = [rng.choice([-1.0, 0.25, 1.0]) for _ in range(n)]
        for scores in (distinct, tied, [0.5] * n):
            refs = [rng.uniform(-60, -20) for _ in range(n)]
            logps = [ref + rng.gauss(0, 6) for ref in refs]
            prompts.append(
                Prompt(logps, refs, scores, [rng.randint(1, 12) for _ in range(n)], [rng.random() for _ in refs])
            )
    return prompts


def padded(prompts: list[Prompt]) -> RankedLogps:
    width = max(len(p.scores) for p in prompts)

    def tensor(rows: list[Any], dtype: torch.dtype = torch.float64) -> torch.Tensor:
        return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], dtype=dtype)

    return RankedLogps(
        logps=tensor([p.logps for p in prompts]),
        ref_logps=tensor([p.refs for p in prompts]),
        scores=tensor([p.scores for p in prompts]),
        lengths=tensor([p.lengths for p in prompts], torch.int64),
        mask=tensor([[True] * len(p.scores) for p in prompts], torch.bool),
        draws=tensor([p.draws for p in prompts]),
    )


@pytest.mark.parametrize(("name", "fields"), CASES, ids=lambda v: v if isinstance(v, str) else "-".join(map(str, v)))
def test_equals_the_formula(name: str, fields: dict[str, Any]) -> None:
    loss = a_loss(name, **fields)
    defaults = {"length_norm": False, "label_smoothing": 0.0, "tie_margin": 0.0}
    options = SimpleNamespace(**defaults | loss.model_dump())  # type: ignore[attr-defined]
    listed = isinstance(fields.get("weights"), tuple)
    prompts = some_prompts([6] * 4 if listed else [1, 2, 2, 3, 4, 4, 5, 6])
    losses, valid = loss(padded(prompts))
    wanted = [expected(name, prompt, options) for prompt in prompts]
    assert valid.tolist() == [yes for _, yes in wanted]
    assert losses.tolist() == pytest.approx([value for value, _ in wanted], rel=1e-8, abs=1e-12)
    assert 0 < sum(valid.tolist()) < len(prompts)


def test_every_loss_has_a_formula() -> None:
    from tests.losses import formulas

    assert [name for name in NAMES if not callable(getattr(formulas, name, None))] == []
