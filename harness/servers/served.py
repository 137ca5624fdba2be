"""The base of components behind an OpenAI-compatible endpoint: address, key, retries and readable errors."""

import os
import random
import re
import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, PrivateAttr, field_validator

from harness.errors import HarnessError, ModelError
from harness.protocols import Component
from harness.servers.pace import pace_of
from harness.servers.spending import Tab

if TYPE_CHECKING:
    import openai

DEFAULT_URL = "https://api.openai.com/v1"
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0
"""Seconds before the first retry, and the maximum: the wait doubles with each retry, less a random part of up to a
half."""
SHORTEST_KEY = 8
"""A shorter key is a dummy for a server that needs none; it isn't masked, as it may be an ordinary word."""
T = TypeVar("T")


class CallFault(NamedTuple):
    """A transient failure of a call. `charged`: the call may have been billed nevertheless. `overloaded`: the server
    is, or seems, overloaded. `refused`: it rejects calls for now. `retry_after`: seconds to wait, as requested by the
    server."""

    kind: str
    charged: bool = False
    overloaded: bool = False
    refused: bool = False
    retry_after: float = 0.0


class Served(Component):
    """`model` at `base_url` (by default OpenAI's) through the `openai` package.

    A call with a transient failure (5xx, broken connection, time-out, incomplete reply) is retried up to `max_retries`
    times, with jittered exponential back-off. A call that is rejected for now (429, or with a Retry-After) is retried
    as long as the server answers other calls, and for `patience` seconds if it answers none. All callers of one server
    share a `Pace`. `timeout`: seconds to wait for a reply.

    The key is read from the environment variable named by `api_key_env`; it never appears in a field, identity, log or
    error. A server on this machine needs no key.
    """

    is_served: ClassVar[bool] = True
    role: ClassVar[str] = "model"
    failure: ClassVar[type[HarnessError]] = ModelError
    """The class of the error raised when the server refuses all calls."""
    unkeyed: ClassVar[frozenset[str]] = frozenset({"api_key_env", "max_retries", "patience", "timeout"})

    model: str = Field(min_length=1)
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    max_retries: int = Field(8, ge=0)
    patience: float = Field(600, ge=0)
    timeout: float = Field(120, gt=0)
    _client: "openai.OpenAI | None" = PrivateAttr(None)
    _client_lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)
    _limit_name: str = PrivateAttr("max_tokens")
    _takes_top_p: bool = PrivateAttr(True)

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        url = urlsplit(value)  # raises ValueError for a malformed address
        if url.scheme not in {"http", "https"} or not url.hostname:
            raise ValueError("expected an http(s) address like http://host:8000/v1")
        if "@" in url.netloc or url.query or url.fragment:
            raise ValueError(
                "expected an address without user, password or query, because recipes are published on the board"
            )
        return value

    @field_validator("api_key_env")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            raise ValueError("expected the name of an environment variable, not the key itself")
        return value

    def models_in_process(self) -> list[str]:
        return []

    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "model": self.model, "base_url": self._address()}

    def check(self) -> None:
        if not self._is_local() and not os.environ.get(self.api_key_env):
            how = f"set {self.api_key_env}, or name another variable in api_key_env"
            raise self.failure(f"{self.role} '{self.name}' needs a key: {how}")

    def _address(self) -> str:
        url = urlsplit(self.base_url or DEFAULT_URL)
        return urlunsplit((url.scheme, url.netloc, url.path.rstrip("/"), "", ""))

    def _is_local(self) -> bool:
        return urlsplit(self.base_url or DEFAULT_URL).hostname in LOCAL_HOSTS

    def _key(self) -> str:
        return os.environ.get(self.api_key_env) or "none-needed"

    def _connect(self) -> "openai.OpenAI":
        import openai

        with self._client_lock:
            if self._client is None:
                # Always set the address: OPENAI_BASE_URL would otherwise override the recipe.
                self._client = openai.OpenAI(
                    api_key=self._key(),
                    base_url=self.base_url or DEFAULT_URL,
                    max_retries=0,  # we retry ourselves, to count faults and share the pace
                    timeout=self.timeout,
                )
            return self._client

    def _persist(self, call: Callable[[], T], tab: Tab) -> T:
        """The result of `call`, retried after transient failures, which are recorded on the tab. Raises the last error
        when retries are exhausted, HeldTooLong, or what the tab raises."""
        pace = pace_of(self._address())
        retries = 0
        while True:
            tab.begin()
            began, fault, answered = 0.0, CallFault("stopped"), False
            try:
                began = pace.enter(tab.stop, self.patience)
                result = call()
                answered = True
                return result
            except Exception as error:
                transient = fault_of(error)
                if not began or transient is None or not transient.charged:
                    tab.uncharged()
                if not began or transient is None:
                    raise
                fault = transient
                tab.faults.append(fault.kind)
                retries += not fault.refused
                if retries > self.max_retries or (fault.refused and pace.overloaded_for() > self.patience):
                    raise
            finally:
                if began:
                    pace.leave(began, answered=answered, overloaded=fault.overloaded, retry_after=fault.retry_after)
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(len(tab.faults) - 1, 10))
            tab.stop.wait(wait * random.uniform(0.5, 1))

    def _limited(self, create: Any, limit: int, options: dict[str, Any]) -> Any:
        """Call `create` with the token limit under the parameter name that the model accepts, and without `top_p` = 1
        if the model rejects that parameter."""
        import openai

        if not self._takes_top_p:
            options = {name: value for name, value in options.items() if name != "top_p"}
        try:
            return create(**options, **{self._limit_name: limit})
        except openai.BadRequestError as error:
            # Newer models accept the limit only under another name, and some don't accept top_p with a temperature.
            if self._limit_name == "max_tokens" and "max_tokens" in str(error):
                self._limit_name = "max_completion_tokens"
            elif options.get("top_p") == 1 and "top_p" in str(error):
                self._takes_top_p = False
            else:
                raise
            return self._limited(create, limit, options)

    def _refused(self, error: Exception) -> HarnessError:
        """The error for a server that rejects the key, the address or the model."""
        problem = f"{self.role} '{self.name}': the server refused {self.model} ({self._error_text(error)})"
        return self.failure(f"{problem}; check the model's name, base_url and {self.api_key_env}")

    def _error_text(self, error: Exception) -> str:
        """The error in one line, with the key masked (some servers repeat it in their messages)."""
        status = getattr(error, "status_code", None)
        text = " ".join(str(error).split()) or type(error).__name__
        text = self._without_key(text)[:300]
        return f"{type(error).__name__}: {text}" if status is None else f"HTTP {status}: {text}"

    def _without_key(self, text: str) -> str:
        key = self._key()
        return text.replace(key, "***") if len(key) >= SHORTEST_KEY else text


def fault_of(error: Exception) -> CallFault | None:
    """The transient fault that an error of a call stands for; None if the error is permanent."""
    import openai

    if isinstance(error, openai.APIConnectionError):
        # Without a connection nothing was sent.
        sent = type(error.__cause__).__name__ not in {"ConnectError", "ConnectTimeout", "PoolTimeout"}
        slow = isinstance(error, openai.APITimeoutError)
        return CallFault("time-out" if slow else "connection", charged=sent, overloaded=slow)
    if isinstance(error, openai.APIStatusError):
        status = error.status_code
        if error.code == "insufficient_quota" or not (status in (408, 409, 429) or status >= 500):
            return None
        overloaded = status in (429, 503, 529)
        wait = _retry_after(error.response.headers) if overloaded else 0.0
        return CallFault(f"HTTP {status}", overloaded=overloaded, refused=status == 429 or wait > 0, retry_after=wait)
    if isinstance(error, ValueError | openai.APIResponseValidationError):
        return CallFault("broken reply", charged=True)
    return None


def _retry_after(headers: Any) -> float:
    """Seconds to wait, from a header that holds a number or a date; 0 if it is missing or malformed."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        text = headers.get(name) or ""
        if re.fullmatch(r"\s*\d+(\.\d*)?\s*", text):
            return float(text) / unit
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
        except ValueError:
            continue
    return 0.0
