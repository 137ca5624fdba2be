"""`alpaca_eval`'s parser of replies by regular expressions, with a bound on its time.

An evaluator's expressions are its author's, and the replies a judge's: one of the two is enough for a search that takes
years (`(a+)+$`), and an expression that matches nothing at all never ends the package's loop.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

SECONDS = 1.0
"""The longest time that the expressions may take on one reply."""


@contextlib.contextmanager
def bounded_patterns() -> Iterator[None]:
    """Exchange the package's `regex_parser` for `parse_by_patterns`."""
    from alpaca_eval import completion_parsers

    original = completion_parsers.regex_parser
    completion_parsers.regex_parser = parse_by_patterns
    try:
        yield
    finally:
        completion_parsers.regex_parser = original


def parse_by_patterns(completion: str, outputs_to_match: Mapping[Any, str], *, seconds: float = SECONDS) -> list[Any]:
    """The keys of the expressions that match, in the order of their matches, as the package's `regex_parser`. Raises
    ValueError for an empty reply, an invalid expression, and beyond `seconds`; the package takes each for no
    verdict."""
    import regex

    if not completion:
        raise ValueError("the reply is empty")
    try:
        patterns = {key: regex.compile(pattern) for key, pattern in outputs_to_match.items()}
    except regex.error as error:
        raise ValueError(f"the evaluator's pattern is invalid: {error}") from None
    end = time.monotonic() + seconds
    keys: list[Any] = []
    start = 0
    while True:
        try:
            left = max(1e-3, end - time.monotonic())
            searched = {key: p.search(completion[start:], timeout=left) for key, p in patterns.items()}
        except TimeoutError:
            raise ValueError(f"the evaluator's patterns take more than {seconds:g} s on this reply") from None
        matches = {key: match for key, match in searched.items() if match is not None}
        if not matches:
            return keys
        key = min(matches, key=lambda k: matches[k].start())
        if not matches[key].end():
            raise ValueError("the evaluator's pattern matches an empty text")
        keys.append(key)
        start += matches[key].end()
