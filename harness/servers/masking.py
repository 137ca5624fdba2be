"""Masks a key in texts of servers, some of which repeat it: as it is, or encoded."""

import base64
import html
import re
from functools import lru_cache

from harness.printable import SHORTEST_SECRET

MASK = "***"
SPACE = r"\s*"


def without_key(text: str, key: str) -> str:
    """The text with the key masked: plain (in either case, also broken over lines), in JSON, HTML or an address, and in
    base64 or hexadecimal, also together with text around it as in `Basic dXNlcjprZXk=`."""
    return _pattern(key).sub(MASK, text) if len(key) >= SHORTEST_SECRET and text else text


@lru_cache(maxsize=16)
def _pattern(key: str) -> re.Pattern[str]:
    raw = key.encode("utf-8", "surrogateescape")
    # JSON, HTML and addresses may escape any character.
    spellings = (
        rf"(?:\\?{re.escape(c)}|\\u{ord(c):04x}|%{ord(c):02x}|&#0*{ord(c)};|&#x0*{ord(c):x};"
        rf"|{re.escape(html.escape(c))})"
        for c in key
    )
    exact = "|".join(re.escape(form) for form in _in_base64(raw))
    return re.compile(rf"(?i:{SPACE.join(spellings)}|{raw.hex()})|{exact}")


def _in_base64(raw: bytes) -> list[str]:
    """The part of each encoding that depends on nothing but the key, for each place of the key within three bytes."""
    parts = []
    for before in range(3):
        after = -(before + len(raw)) % 3
        coded = base64.b64encode(b"\0" * before + raw + b"\0" * after).decode()
        first, last = (0, 2, 3)[before], len(coded) - (0, 2, 3)[after]
        parts += [coded[first:last], coded[first:last].translate(str.maketrans("+/", "-_"))]
    return [part for part in dict.fromkeys(parts) if len(part) >= SHORTEST_SECRET]
