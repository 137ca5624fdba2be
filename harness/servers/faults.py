"""What an error of a call means: whether it passes, whether the call was charged, and how long to wait."""

import math
import re
import time
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

LONGEST_PAUSE = 86_400.0
"""Seconds; a server that asks for a longer pause is taken to ask for this one."""
REFUSALS = frozenset({401, 402, 403, 404, 405, 407, 410})
"""Statuses that all calls will get: about the key, the account, the address or the model."""


class CallFault(NamedTuple):
    """A transient failure of a call. `charged`: the call may have been billed nevertheless. `overloaded`: the server
    is, or seems, overloaded. `refused`: it rejects calls for now. `retry_after`: seconds to wait, as requested by the
    server. `hopeless`: there was no connection, and trying again won't help."""

    kind: str
    charged: bool = False
    overloaded: bool = False
    refused: bool = False
    retry_after: float = 0.0
    hopeless: bool = False


def fault_of(error: Exception) -> CallFault | None:
    """The transient fault that an error of a call stands for; None if the error is permanent."""
    import openai

    from harness.servers.transport import Unreachable

    if isinstance(error, openai.APIConnectionError):
        if isinstance(error.__cause__, Unreachable):  # nothing was sent
            return CallFault("connection", hopeless=error.__cause__.permanent)
        slow = isinstance(error, openai.APITimeoutError)
        return CallFault("time-out" if slow else "connection", charged=True, overloaded=slow)
    if isinstance(error, openai.APIStatusError):
        status = error.status_code
        if error.code == "insufficient_quota" or not (status in (408, 409, 429) or status >= 500):
            return None
        overloaded = status in (429, 503, 529)
        wait = _retry_after(error.response.headers) if overloaded else 0.0
        return CallFault(f"HTTP {status}", overloaded=overloaded, refused=status == 429 or wait > 0, retry_after=wait)
    if isinstance(error, ValueError):
        return CallFault("broken reply", charged=True)
    return None


def is_refusal(error: Exception) -> bool:
    """Whether an error says that the server will reject all calls."""
    import openai

    if not isinstance(error, openai.APIStatusError):
        return False
    redirected = 300 <= error.status_code < 400
    return redirected or error.status_code in REFUSALS or error.code == "insufficient_quota"


def _retry_after(headers: Any) -> float:
    """Seconds to wait, from a header that holds a number or a date; 0 if it is missing or malformed."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        text = (headers.get(name) or "").strip()
        if re.fullmatch(r"[0-9]+(\.[0-9]*)?", text):
            return min(LONGEST_PAUSE, float(text) / unit)
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError, OSError):  # no date, or one beyond what the system can count
            continue
        return min(LONGEST_PAUSE, max(0.0, seconds)) if math.isfinite(seconds) else 0.0
    return 0.0
