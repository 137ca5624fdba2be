"""How long a server asks to wait: in headers for that, in an error's body, or by when a limit is renewed."""

import math
import re
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

LONGEST_PAUSE = 86_400.0
"""Seconds; a server that asks for a longer pause is taken to ask for this one."""
RENEWALS = {
    f"{prefix}-reset{kind}": f"{prefix}-remaining{kind}"
    for prefix in ("x-ratelimit", "ratelimit")
    for kind in ("-requests", "-tokens", "")
} | {
    f"anthropic-ratelimit-{kind}-reset": f"anthropic-ratelimit-{kind}-remaining"
    for kind in ("requests", "tokens", "input-tokens", "output-tokens")
}
"""Headers that say when a limit is renewed, with those that say how much of it is left."""
HEADERS = ("retry-after", "retry-after-ms", *RENEWALS, *RENEWALS.values())
"""All headers that are read here."""
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_NUMBER = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_UNIT = r"ms|milliseconds?|s|sec(?:ond)?s?|m|min(?:ute)?s?|h|hours?|d|days?"
_PART = rf"{_NUMBER}\s*(?:(?:{_UNIT})(?![a-z]))"
_DURATION = re.compile(rf"(?:{_PART}\s*)+", re.IGNORECASE)
_AGAIN = re.compile(
    rf"\b(?:again|retry|wait)\b[a-z_\s]{{0,24}}?[\s:]((?:{_PART}\s*)+|{_NUMBER}(?![0-9.]*\s*[a-z%]))", re.IGNORECASE
)
"""`Please try again in 1m2.5s`, `retry after 20 seconds`, `wait 3`."""


def pause(headers: Mapping[str, str], body: Any, *, limited: bool = True) -> float:
    """Seconds to wait before the next call; 0 if the server says nothing. `headers`: in any case. `body`: an error's,
    as JSON. `limited`: it is a limit of calls or tokens that was reached, and headers say when it is renewed."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        if (text := (headers.get(name) or "").strip()) and (seconds := _seconds(text, unit)) is not None:
            return seconds
    for text in _texts(body):
        if match := _AGAIN.search(text):
            return min(LONGEST_PAUSE, _duration(match[1]))
    return _renewal(headers) if limited else 0.0


def _seconds(text: str, unit: int = 1) -> float | None:
    """A number, a duration or a date as seconds from now; None for anything else."""
    if re.fullmatch(r"[0-9]+(\.[0-9]*)?", text):
        return min(LONGEST_PAUSE, float(text) / unit)
    if _DURATION.fullmatch(text):
        return min(LONGEST_PAUSE, _duration(text))
    try:
        date = datetime.fromisoformat(text) if re.match(r"\d{4}-", text) else parsedate_to_datetime(text)
        seconds = date.timestamp() - time.time()
    except (ValueError, TypeError, OverflowError, OSError):  # no date, or one beyond what the system can count
        return None
    return min(LONGEST_PAUSE, max(0.0, seconds)) if math.isfinite(seconds) else 0.0


def _duration(text: str) -> float:
    """Seconds of `6m0s`, `20ms` or `1.5 seconds`; a number alone is in seconds."""
    parts = re.findall(rf"({_NUMBER})\s*((?:{_UNIT})(?![a-z]))?", text.lower())
    return sum(
        float(number) * _UNITS["ms" if unit[:4] in ("ms", "mill") else unit[:1] or "s"] for number, unit in parts
    )


def _renewal(headers: Mapping[str, str]) -> float:
    """Seconds until the limit that is used up is renewed, by the headers of OpenAI, Anthropic and gateways; the next
    one, if they don't say which is used up. A number may be in seconds, or a moment since 1970."""
    found: list[float] = []
    for name, left in RENEWALS.items():
        text = (headers.get(name) or "").strip()
        seconds = _seconds(text) if text else None
        if seconds is not None and re.fullmatch(r"[0-9]{10,13}(\.[0-9]*)?", text):
            moment = float(text) / (1000 if len(text.partition(".")[0]) > 10 else 1)
            seconds = min(LONGEST_PAUSE, max(0.0, moment - time.time()))
        if seconds is not None:
            if re.fullmatch(r"0+(\.0*)?", (headers.get(left) or "").strip()):
                return seconds
            found.append(seconds)
    return min(found, default=0.0)


def _texts(body: Any, depth: int = 6) -> Iterator[str]:
    """The texts in an error's body, with the name of a field that only holds a pause."""
    if isinstance(body, str):
        yield body[:2_000]
    elif depth and isinstance(body, Mapping):
        for name, value in body.items():
            if name in ("retryDelay", "retry_delay", "retry_after") and isinstance(value, str | int | float):
                yield f"retry after {value}"
            else:
                yield from _texts(value, depth - 1)
    elif depth and isinstance(body, list):
        for item in body[:10]:
            yield from _texts(item, depth - 1)
