"""How processes that run the same pass over the same rows share its batches.

    with sharing():
        for batch, counts in own(batches):
            ...
        results = gathered(results)

Batches are formed before they are shared, so a row's result doesn't depend on the number of processes. Outside of
`sharing`, and in a process by itself, all batches are this process's own.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _Share:
    """The place of this process among all of them. `even`: each must run as many batches as the others, because it
    holds a part of the model that they need."""

    index: int
    count: int
    even: bool


_shares: list[_Share] = []
"""At most one: of the pass that runs."""


@contextmanager
def sharing(index: int, count: int, *, even: bool = False) -> Iterator[None]:
    """While open, this process (`index` of `count`, which all run the same code) shares its batches with the others."""
    _shares.append(_Share(index, count, even))
    try:
        yield
    finally:
        _shares.pop()


def own(batches: Iterable[T]) -> Iterator[tuple[T, bool]]:
    """The batches of this process: every `count`-th, so that all get long ones and short ones. With False: one that
    another process has too, and that is run only to keep step."""
    if not _shares:
        yield from ((batch, True) for batch in batches)
        return
    share, every = _shares[-1], list(batches)
    yield from ((batch, True) for batch in every[share.index :: share.count])
    if share.even and -len(every) % share.count >= share.count - share.index:
        yield every[-1], False


def first_loads() -> bool:
    """Whether only the first process reads the weights of models, and hands out the parts later (FSDP). In the others
    the weights have no values until then."""
    from transformers.integrations import is_fsdp_enabled

    return bool(is_fsdp_enabled())


def leaves_weights_to_first() -> bool:
    """Whether this process is one of those others."""
    return first_loads() and os.environ.get("RANK", "0") != "0"


def of_first(trial: Callable[[], T]) -> T:
    """The result of trying out a model that has just been loaded. Where only the first process has the weights' values,
    it tries for all, and all must call this."""
    if not first_loads():
        return trial()
    from accelerate.utils import broadcast_object_list

    results: list[Any] = [None if leaves_weights_to_first() else trial()]
    broadcast_object_list(results)
    result: T = results[0]
    return result


def gathered(results: Sequence[T]) -> list[T]:
    """The results of all processes; every process gets them."""
    if not _shares or _shares[-1].count == 1:
        return list(results)
    from accelerate.utils import gather_object

    together: list[T] = gather_object(list(results))
    return together
