"""The order in which a run sees its examples: a permutation an epoch, by the seed and the epoch alone."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class EpochOrder(Sampler[int]):
    """Positions 0 ... n-1 in a random order that depends on (seed, epoch) only, so that a run that goes on in mid-epoch
    and a run of any number of processes see the same examples in the same order. It is the order that transformers'
    Trainer gives a dataset of n rows.

    `multiple`: the epoch's length is rounded up to a multiple of this with position n, a stand-in that counts for
    nothing: all processes then have the same number of equally large batches.
    """

    def __init__(self, size: int, seed: int, multiple: int = 1) -> None:
        self.size = size
        self.seed = seed
        self.padding = -size % multiple
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Which permutation comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size + self.padding

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        yield from torch.randperm(self.size, generator=generator).tolist()
        yield from [self.size] * self.padding
