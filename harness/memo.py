"""What is derived many times while a plan is made, and can't change meanwhile: once is enough."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

T = TypeVar("T")
_known: list[dict[Hashable, object]] = []


@contextmanager
def remembering() -> Iterator[None]:
    """While open, `once` remembers. Not to be left open while files that identities are made from may change."""
    _known.append({} if not _known else _known[-1])
    try:
        yield
    finally:
        _known.pop()


def once(key: Hashable, make: Callable[[], T]) -> T:
    """What `make` returns, made at the first call with this key; anew each time where nothing is remembered."""
    if not _known:
        return make()
    memory = _known[-1]
    if key not in memory:
        memory[key] = make()
    return cast(T, memory[key])
