"""Sampling the next token of every row of a batch: temperature, top-p, and one random stream per sample."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.types import Sampling

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

VERSION = 2
"""Incremented when the same seed draws different tokens: part of a sample's key."""
SHORTLIST = 256
"""How many of the largest probabilities are sorted for top-p; a row with a larger nucleus is sorted completely."""
BLOCK = 256
"""Token ids per block. Drawing a token takes one random number per block and one per id inside the drawn block, instead
of one per id of the vocabulary."""


def stream(seed: int, prompt: Sequence[int], sample: int) -> "np.random.Generator":
    """The random stream of one sample."""
    import numpy as np

    key = hashlib.sha256(repr((seed, list(prompt), sample)).encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key)))


class Sampler:
    """Samples tokens for the rows of a batch. A row's token depends only on its own logits, sampling parameters and
    stream, not on the other rows."""

    def __init__(self, samplings: Sequence[Sampling], streams: "Sequence[np.random.Generator]") -> None:
        self._samplings = list(samplings)
        self._streams = list(streams)

    def keep(self, rows: Sequence[int]) -> None:
        """Continue with these rows only, in this order."""
        self._samplings = [self._samplings[i] for i in rows]
        self._streams = [self._streams[i] for i in rows]

    def pick(self, logits_RV: "Tensor") -> "Tensor":
        """The next token id of every row [R]: the most probable one at temperature 0. Logits are float32 [R, V]."""
        import numpy as np
        import torch

        greedy = [s.temperature == 0 for s in self._samplings]
        if all(greedy):
            return logits_RV.argmax(-1)
        device = logits_RV.device
        temperature = torch.tensor([s.temperature or 1.0 for s in self._samplings], device=device)
        probs = torch.softmax(logits_RV / temperature[:, None], dim=-1)
        filtered = [i for i, s in enumerate(self._samplings) if s.top_p < 1]
        if filtered:
            top_p = torch.tensor([self._samplings[i].top_p for i in filtered], device=device)
            chosen = torch.tensor(filtered, device=device)
            probs = probs.index_copy(0, chosen, nucleus(probs[chosen], top_p))
        count = -(-logits_RV.shape[-1] // BLOCK) + BLOCK
        times = np.stack([stream.standard_exponential(count, np.float32) for stream in self._streams])
        drawn = draw(probs, torch.as_tensor(times).to(device))
        return torch.where(torch.tensor(greedy, device=device), logits_RV.argmax(-1), drawn) if any(greedy) else drawn


def nucleus(probs_RV: "Tensor", top_p_R: "Tensor") -> "Tensor":
    """Set probabilities outside the nucleus to 0 (top-p sampling, arXiv:1904.09751). The nucleus is the smallest set of
    the most probable tokens whose mass reaches p. Tokens as probable as its last one are included, so the order of ties
    doesn't matter."""
    top = probs_RV.topk(min(SHORTLIST, probs_RV.shape[-1]), dim=-1).values
    cut = _least_in_nucleus(top, top_p_R)
    too_short = (top.sum(-1) < top_p_R).nonzero()[:, 0]
    if len(too_short):
        whole = probs_RV[too_short].sort(dim=-1, descending=True).values
        cut = cut.index_copy(0, too_short, _least_in_nucleus(whole, top_p_R[too_short]))
    return probs_RV.masked_fill(probs_RV < cut, 0.0)


def _least_in_nucleus(descending_RK: "Tensor", top_p_R: "Tensor") -> "Tensor":
    """The smallest probability that is still in the nucleus [R, 1]."""
    before = descending_RK.cumsum(-1) - descending_RK
    size = (before < top_p_R[:, None]).sum(-1, keepdim=True)
    return descending_RK.gather(-1, size - 1)


def draw(weights_RV: "Tensor", times_RK: "Tensor") -> "Tensor":
    """One id per row, with probability proportional to its weight; never one of weight 0.

    `times` are exponential variates: one per block of ids, then one per position in a block. First a block is drawn,
    then an id inside it: the one with the smallest ratio of time to weight (the Gumbel-max trick). Small noise in the
    weights then rarely changes the draw, only between near-ties; inverting a cumulative sum, it would shift every later
    id.
    """
    import torch

    # In float32 a time of exactly 0 occurs now and then, and argmax would take 0 / 0 (NaN) for the largest.
    times_RK = times_RK.clamp(min=torch.finfo(times_RK.dtype).tiny)
    weights = torch.nn.functional.pad(weights_RV, (0, -weights_RV.shape[-1] % BLOCK))
    blocks = weights.view(len(weights), -1, BLOCK)
    count = blocks.shape[1]
    block = (blocks.sum(-1) / times_RK[:, :count]).argmax(-1)
    inside = blocks[torch.arange(len(blocks), device=blocks.device), block]
    return block * BLOCK + (inside / times_RK[:, count:]).argmax(-1)
