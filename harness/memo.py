"""A memo for values that are derived repeatedly while a plan is built and can't change meanwhile."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

T = TypeVar("T")
_memos: list[dict[Hashable, object]] = []


@contextmanager
def remembering() -> Iterator[None]:
    """While open, `once` caches its results. Close it before files that identities depend on may change."""
    _memos.append({} if not _memos else _memos[-1])
    try:
        yield
    finally:
        _memos.pop()


def once(key: Hashable, make: Callable[[], T]) -> T:
    """The result of `make()`, cached under `key` inside `remembering`; outside of it, `make` runs on every call."""
    if not _memos:
        return make()
    memo = _memos[-1]
    if key not in memo:
        memo[key] = make()
    return cast(T, memo[key])
