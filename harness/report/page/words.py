"""Numbers as the page writes them: with a minus sign rather than a hyphen."""

import re

from harness.boards.format import bounds, number, signed

_HYPHEN = re.compile(r"(?<![\w.)])-(?=\d)")


def minus(text: str) -> str:
    """The text with minus signs (U+2212) instead of hyphens before numbers. Hyphens inside words and dates stay."""
    return _HYPHEN.sub("\N{MINUS SIGN}", text)


def figure_text(value: float, decimals: int) -> str:
    """`−1.2`."""
    return number(value, decimals)


def difference_text(value: float, decimals: int) -> str:
    """`+1.2`, `−1.2`, `0.0`."""
    return signed(value, decimals)


def interval_text(interval: tuple[float, float], decimals: int) -> str:
    """`4.1 to 8.1`."""
    return " to ".join(bounds(interval, decimals))
