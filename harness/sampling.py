"""Drawing the next token of every row of a batch: temperature, top-p, and a random stream a sample."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.types import Sampling

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

VERSION = 2
"""Raised when the same seed draws other tokens: part of what a sample is."""
SHORTLIST = 256
"""How many top probabilities are looked at for top-p; a row whose nucleus is larger is sorted whole."""
BLOCK = 256
"""Ids in a block: a token is drawn by a random number a block and one an id inside it, not one an id of the whole
vocabulary."""


def stream(seed: int, prompt: Sequence[int], sample: int) -> "np.random.Generator":
    """The random stream of one sample."""
    import numpy as np

    key = hashlib.sha256(repr((seed, list(prompt), sample)).encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key)))


class Sampler:
    """Draws for the rows of a batch. A row's token depends on its own logits, sampling and stream only: not on the
    other rows."""

    def __init__(self, samplings: Sequence[Sampling], streams: "Sequence[np.random.Generator]") -> None:
        self._samplings = list(samplings)
        self._streams = list(streams)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows, in this order."""
        self._samplings = [self._samplings[i] for i in rows]
        self._streams = [self._streams[i] for i in rows]

    def pick(self, logits_RV: "Tensor") -> "Tensor":
        """The next token id of every row [R]; the most probable where the temperature is 0. Logits in float32."""
        import numpy as np
        import torch

        cold = [s.temperature == 0 for s in self._samplings]
        if all(cold):
            return logits_RV.argmax(-1)
        device = logits_RV.device
        temperature = torch.tensor([s.temperature or 1.0 for s in self._samplings], device=device)
        probs = torch.softmax(logits_RV / temperature[:, None], dim=-1)
        narrow = [i for i, s in enumerate(self._samplings) if s.top_p < 1]
        if narrow:
            top_p = torch.tensor([self._samplings[i].top_p for i in narrow], device=device)
            chosen = torch.tensor(narrow, device=device)
            probs = probs.index_copy(0, chosen, nucleus(probs[chosen], top_p))
        count = -(-logits_RV.shape[-1] // BLOCK) + BLOCK
        times = np.stack([stream.standard_exponential(count, np.float32) for stream in self._streams])
        drawn = draw(probs, torch.as_tensor(times).to(device))
        return torch.where(torch.tensor(cold, device=device), logits_RV.argmax(-1), drawn) if any(cold) else drawn


def nucleus(probs_RV: "Tensor", top_p_R: "Tensor") -> "Tensor":
    """Probabilities outside the nucleus set to 0 (top-p sampling, 1904.09751): it is the smallest set of most probable
    tokens whose mass reaches p. Tokens as probable as its last one belong to it, so that no order among equals matters.
    """
    top = probs_RV.topk(min(SHORTLIST, probs_RV.shape[-1]), dim=-1).values
    cut = _least_in_nucleus(top, top_p_R)
    wide = (top.sum(-1) < top_p_R).nonzero()[:, 0]
    if len(wide):
        whole = probs_RV[wide].sort(dim=-1, descending=True).values
        cut = cut.index_copy(0, wide, _least_in_nucleus(whole, top_p_R[wide]))
    return probs_RV.masked_fill(probs_RV < cut, 0.0)


def _least_in_nucleus(descending_RK: "Tensor", top_p_R: "Tensor") -> "Tensor":
    """The smallest probability that is still in the nucleus [R, 1]."""
    before = descending_RK.cumsum(-1) - descending_RK
    size = (before < top_p_R[:, None]).sum(-1, keepdim=True)
    return descending_RK.gather(-1, size - 1)


def draw(weights_RV: "Tensor", times_RK: "Tensor") -> "Tensor":
    """An id a row, with probability in proportion to its weight; never one of weight 0.

    `times` are exponential numbers, one a block of ids and one a place in a block. A block is drawn, then an id in it:
    that whose time over its weight is the least (the Gumbel-max trick). A little noise in the weights then seldom
    changes the draw, only where two are nearly level; along a running sum it would move every later id.
    """
    import torch

    # In float32 a time of 0 is drawn now and then, and 0 / 0 would be taken for the largest of all.
    times_RK = times_RK.clamp(min=torch.finfo(times_RK.dtype).tiny)
    weights = torch.nn.functional.pad(weights_RV, (0, -weights_RV.shape[-1] % BLOCK))
    blocks = weights.view(len(weights), -1, BLOCK)
    count = blocks.shape[1]
    block = (blocks.sum(-1) / times_RK[:, :count]).argmax(-1)
    inside = blocks[torch.arange(len(blocks), device=blocks.device), block]
    return block * BLOCK + (inside / times_RK[:, count:]).argmax(-1)
