"""Lists and objects that became text: their JSON, or as Python and numpy print them, as pandas writes them into a CSV
file."""

import ast
import re
from typing import Any

from harness.outside import parse_json

LONGEST = 1_000_000
"""Characters of the longest text that is read as a list or an object."""
_STRINGS = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|\}\s*\{|array\(|,?\s*dtype=object\)""", re.DOTALL)
_MOST_BRACKETS = 10_000
_BLANK = ("", "[]", "{}", "null", "None", "nan")


def value_in(text: str) -> Any:
    """The list or object that a text was written from. Raises ValueError for any other text."""
    if len(text) > LONGEST:
        raise ValueError(f"more than {LONGEST:,} characters")
    try:
        value = parse_json(text)
    except ValueError:
        value = _printed(text)
    if not isinstance(value, list | dict):
        raise ValueError("expected a list or an object")
    return value


def _printed(text: str) -> Any:
    """The value that Python or numpy printed so. Raises ValueError."""

    def mended(match: re.Match[str]) -> str:
        return match[1] or ("}, {" if match[0][0] == "}" else "")

    plain = _STRINGS.sub(mended, text.strip())
    if len(re.findall(r"[\[({]", plain)) > _MOST_BRACKETS:
        raise ValueError("expected only messages in it")
    try:
        return ast.literal_eval(plain)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        raise ValueError("expected JSON, or a list as Python prints it") from None


def is_blank(value: Any) -> bool:
    """Whether a cell holds nothing, also as the text of an empty list."""
    return value is None or value in ([], {}, ()) or (isinstance(value, str) and value.strip() in _BLANK)
