"""What an error of a call means: whether it passes, whether the call was charged, and how long to wait."""

from typing import NamedTuple

from harness.servers.adapting.pauses import pause

REFUSALS = frozenset({401, 402, 403, 404, 405, 407, 410})
"""Statuses that all calls will get: about the key, the account, the address or the model."""


class CallFault(NamedTuple):
    """A transient failure of a call. `charged`: the call may have been billed nevertheless. `overloaded`: the server
    is, or seems, overloaded. `refused`: it rejects calls for now. `retry_after`: seconds to wait, as requested by the
    server. `unsent`: there was no connection; `hopeless`: and trying again won't help."""

    kind: str
    charged: bool = False
    overloaded: bool = False
    refused: bool = False
    retry_after: float = 0.0
    unsent: bool = False
    hopeless: bool = False


def fault_of(error: Exception) -> CallFault | None:
    """The transient fault that an error of a call stands for; None if the error is permanent."""
    import openai

    from harness.servers.transport import Unreachable

    if isinstance(error, openai.APIConnectionError):
        if isinstance(error.__cause__, Unreachable):  # nothing was sent
            return CallFault("connection", unsent=True, hopeless=error.__cause__.permanent)
        slow = isinstance(error, openai.APITimeoutError)
        return CallFault("time-out" if slow else "connection", charged=True, overloaded=slow)
    if isinstance(error, openai.APIStatusError):
        status = error.status_code
        if error.code == "insufficient_quota" or not (status in (408, 409, 429) or status >= 500):
            return None
        overloaded = status in (429, 503, 529)
        wait = pause(error.response.headers, error.body, limited=status == 429) if overloaded else 0.0
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
