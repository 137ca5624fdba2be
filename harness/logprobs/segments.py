"""What the tokens of a row attend to: a prompt's tokens to themselves, a branch's to its prompt and to themselves."""

from typing import NamedTuple

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from harness.logprobs.rows import BRANCHES

QUERIES = 128
"""Queries per block. Scores of one block are held in memory, [heads, QUERIES, keys]."""


class Segment(NamedTuple):
    """Tokens [start, stop) of a row attend to tokens [prompt, prompt + shared) and, causally, to themselves."""

    prompt: int
    shared: int
    start: int
    stop: int


class Block(NamedTuple):
    """Queries [start, stop) of a segment with their keys: the last `shared` tokens before `shared_stop`, and those from
    `own` on. `first`: how many keys lie before the first query."""

    shared_start: int
    shared_stop: int
    own: int
    start: int
    stop: int

    @property
    def first(self) -> int:
        return self.shared_stop - self.shared_start + self.start - self.own


def segments_of(row: list[int]) -> list[Segment]:
    """The segments of a row from its tokens' segment numbers (see `rows`). Padding is in none."""
    segments: list[Segment] = []
    prompt = shared = start = 0
    for stop in range(1, len(row) + 1):
        if stop < len(row) and row[stop] == row[start]:
            continue
        number = row[start]
        if number >= 0:
            if not segments or number // BRANCHES != row[prompt] // BRANCHES:
                prompt, shared = start, 0 if number % BRANCHES else stop - start
            own = start == prompt and not number % BRANCHES
            segments.append(Segment(prompt, 0 if own else shared, start, stop))
        start = stop
    return segments


def blocks_of(segment: Segment, window: int | None) -> list[Block]:
    """A segment's queries, `QUERIES` at a time. `window`: a query sees the last `window` tokens, itself included."""
    prompt, shared, start, stop = segment
    blocks = []
    for first in range(start, stop, QUERIES):
        reach = first + 1 - window if window else start - shared  # the first key, counted as if the prompt lay before
        hidden = min(max(0, reach - (start - shared)), shared)
        blocks.append(Block(prompt + hidden, prompt + shared, max(start, reach), first, min(first + QUERIES, stop)))
    return blocks


_segments: "WeakTensorKeyDictionary" = WeakTensorKeyDictionary()


def segments_of_mask(mask: Tensor) -> list[list[Segment]]:
    """Each row's segments from the segment numbers [R, 1, 1, T] that stand in for a mask."""
    if mask not in _segments:
        _segments[mask] = [segments_of(row) for row in mask[:, 0, 0].tolist()]
    segments: list[list[Segment]] = _segments[mask]
    return segments


class Options(NamedTuple):
    """scaling: of the scores, before softcap * tanh(score / softcap); window: see `blocks_of`."""

    scaling: float
    softcap: float | None
    window: int | None
