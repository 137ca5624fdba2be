"""Drawing the next token of every row of a batch: temperature, top-p, and a random stream a sample."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.types import Sampling

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

SHORTLIST = 256
"""How many top probabilities are looked at for top-p; a row whose nucleus is larger is sorted whole."""
BLOCK = 256
"""Tokens that are summed together before probabilities are cumulated: a running sum over the whole vocabulary would
take longer than the rest of sampling."""


def stream(seed: int, prompt: Sequence[int], sample: int, count: int) -> "np.ndarray":
    """The random stream of one sample: `count` uniform numbers in [0, 1), one a token. A longer one begins alike."""
    import numpy as np

    key = hashlib.sha256(repr((seed, list(prompt), sample)).encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key))).random(count)


class Sampler:
    """Draws for the rows of a batch. A row's token depends on its own logits, sampling and stream only: not on the
    other rows."""

    def __init__(self, samplings: Sequence[Sampling], streams: "np.ndarray", device: "torch.device") -> None:
        """`streams`: [R, steps], a row each for `samplings`."""
        import torch

        self._samplings = list(samplings)
        self._uniforms = torch.as_tensor(streams, dtype=torch.float64).to(device)
        self._tabulate()

    def _tabulate(self) -> None:
        import torch

        temperature = [s.temperature for s in self._samplings]
        top_p = [s.top_p for s in self._samplings]
        cold = [t == 0 for t in temperature]
        self._all_cold, self._any_cold = all(cold), any(cold)
        self._nuclear = [i for i, p in enumerate(top_p) if p < 1 and not cold[i]]
        device = self._uniforms.device
        self._temperature = torch.tensor([t or 1.0 for t in temperature], device=device)[:, None]
        self._top_p = torch.tensor(top_p, device=device)
        self._cold = torch.tensor(cold, device=device)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows, in this order."""
        self._samplings = [self._samplings[i] for i in rows]
        self._uniforms = self._uniforms[list(rows)]
        self._tabulate()

    def pick(self, logits_RV: "Tensor", step: int) -> "Tensor":
        """A token id a row [R], by inverse CDF (in the order of ids) at the row's uniform number of this step; the most
        probable where the temperature is 0. Logits in float32."""
        import torch

        if self._all_cold:
            return logits_RV.argmax(-1)
        probs = torch.softmax(logits_RV / self._temperature, dim=-1)
        if len(self._nuclear) == len(self._samplings):
            probs = nucleus(probs, self._top_p)
        elif self._nuclear:
            probs[self._nuclear] = nucleus(probs[self._nuclear], self._top_p[self._nuclear])
        drawn = inverse_cdf(probs, self._uniforms[:, step])
        return torch.where(self._cold, logits_RV.argmax(-1), drawn) if self._any_cold else drawn


def nucleus(probs_RV: "Tensor", top_p_R: "Tensor") -> "Tensor":
    """Probabilities outside the nucleus set to 0 (top-p sampling, 1904.09751): it is the smallest set of most probable
    tokens whose mass reaches p. Tokens as probable as its last one belong to it, so that no order among equals matters.
    """
    import torch

    top = probs_RV.topk(min(SHORTLIST, probs_RV.shape[-1]), dim=-1).values
    cut = _least_in_nucleus(top, top_p_R)
    wide = (top.sum(-1, dtype=torch.float64) < top_p_R).nonzero()[:, 0]
    if len(wide):
        whole = probs_RV[wide].sort(dim=-1, descending=True).values
        cut = cut.index_copy(0, wide, _least_in_nucleus(whole, top_p_R[wide]))
    return probs_RV.masked_fill(probs_RV < cut, 0.0)


def _least_in_nucleus(descending_RK: "Tensor", top_p_R: "Tensor") -> "Tensor":
    """The smallest probability that is still in the nucleus [R, 1]."""
    import torch

    before = descending_RK.cumsum(-1, dtype=torch.float64) - descending_RK
    size = (before < top_p_R[:, None]).sum(-1, keepdim=True)
    return descending_RK.gather(-1, size - 1)


def inverse_cdf(weights_RV: "Tensor", u_R: "Tensor") -> "Tensor":
    """The first id at which the running sum of a row's weights passes u (in [0, 1)) times their total; never one of
    weight 0. Sums in float64: first of blocks of ids, then inside one."""
    import torch

    weights = torch.nn.functional.pad(weights_RV, (0, -weights_RV.shape[-1] % BLOCK))
    blocks = weights.view(len(weights), -1, BLOCK)
    ends = blocks.sum(-1, dtype=torch.float64).cumsum(-1)
    target = _below(u_R[:, None] * ends[:, -1:], ends[:, -1:])
    block = torch.searchsorted(ends, target, right=True)
    inside = blocks.gather(1, block[:, :, None].expand(-1, -1, BLOCK))[:, 0].cumsum(-1, dtype=torch.float64)
    start = torch.where(block > 0, ends.gather(1, (block - 1).clamp(min=0)), 0.0)
    place = torch.searchsorted(inside, _below(target - start, inside[:, -1:]), right=True)
    return (block * BLOCK + place)[:, 0]


def _below(value: "Tensor", bound: "Tensor") -> "Tensor":
    """The value, or the largest number below the bound: rounding must not lead past the last token that counts."""
    import torch

    return torch.minimum(value, torch.nextafter(bound, torch.zeros_like(bound)))
