"""The order in which a run sees its examples: one permutation per epoch, fixed by the seed and the epoch."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class EpochOrder(Sampler[int]):
    """Positions 0 ... n-1 in a random order that depends only on (seed, epoch), so a run resumed in mid-epoch and a run
    in any number of processes see the same examples in the same order. transformers' Trainer uses the same order for a
    dataset of n rows.

    `multiple`: the epoch's length is padded to a multiple of this with position n, a stand-in that is not counted. All
    processes then have the same number of batches of the same size.
    """

    def __init__(self, size: int, seed: int, multiple: int = 1) -> None:
        self.size = size
        self.seed = seed
        self.padding = -size % multiple
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the next permutation."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size + self.padding

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        yield from torch.randperm(self.size, generator=generator).tolist()
        yield from [self.size] * self.padding
