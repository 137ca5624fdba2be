"""What a judge and a generator behind an OpenAI-compatible endpoint share: address, key, retries, errors in words."""

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

from harness.components import Component
from harness.errors import HarnessError, ModelError
from harness.pace import pace_of
from harness.spending import Tab

if TYPE_CHECKING:
    import openai

DEFAULT_URL = "https://api.openai.com/v1"
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0
"""Seconds before the first retry, doubled before each further one, and where that ends; a random part of up to a half
is taken off."""
SHORTEST_KEY = 8
"""A shorter one is a stand-in for a server that wants none, and may be a word of a reply."""
T = TypeVar("T")


class Fault(NamedTuple):
    """Why a call has failed in a way that may pass. `charged`: it may have been paid for all the same. `overloaded`:
    the server has, or seems to have, too much to do; `refused`: it turns callers away for now."""

    kind: str
    charged: bool = False
    overloaded: bool = False
    refused: bool = False
    retry_after: float = 0.0


class Served(Component):
    """`model` at `base_url` (OpenAI's own where it is not given) through the `openai` package.

    A call that fails in a way that may pass (5xx, broken connection, time-out, half a reply) is made again up to
    `max_retries` times, with jittered exponential back-off; one that is turned away (429, or a Retry-After) as long as
    the server answers others, and for `patience` seconds where it answers nobody. All callers of one server share a
    `Pace`. `timeout`: seconds to wait for a reply.

    The key is read from the environment variable named by `api_key_env`, and is in no field, identity, log or error; a
    server on this machine needs none.
    """

    role: ClassVar[str] = "model"
    failure: ClassVar[type[HarnessError]] = ModelError
    """What is raised when the server refuses altogether."""
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
        url = urlsplit(value)  # raises ValueError for one that is malformed
        if url.scheme not in {"http", "https"} or not url.hostname:
            raise ValueError("expected an http(s) address like http://host:8000/v1")
        if "@" in url.netloc or url.query or url.fragment:
            raise ValueError("expected an address without a user, a password or a query: recipes are kept on the board")
        return value

    @field_validator("api_key_env")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            raise ValueError("expected the name of an environment variable, not the key itself")
        return value

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
                # The address is always given: OPENAI_BASE_URL would change the model behind the recipe's back.
                self._client = openai.OpenAI(
                    api_key=self._key(),
                    base_url=self.base_url or DEFAULT_URL,
                    max_retries=0,  # ours are seen, counted and shared with the other callers
                    timeout=self.timeout,
                )
            return self._client

    def _persist(self, call: Callable[[], T], tab: Tab) -> T:
        """What `call` returns, asked for again where it fails in a way that may pass; the faults are noted on the tab.
        Raises the last error in the end, HeldTooLong, or what the tab raises."""
        pace = pace_of(self._address())
        retries = 0
        while True:
            tab.begin()
            began, fault, answered = 0.0, Fault("stopped"), False
            try:
                began = pace.enter(tab.stop, self.patience)
                made = call()
                answered = True
                return made
            except Exception as error:
                found = fault_of(error)
                if not began or found is None or not found.charged:
                    tab.uncharged()
                if not began or found is None:
                    raise
                fault = found
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
        """A call with its token limit, under the name that the model takes it by, and without a `top_p` that takes all
        where it knows none."""
        import openai

        if not self._takes_top_p:
            options = {name: value for name, value in options.items() if name != "top_p"}
        try:
            return create(**options, **{self._limit_name: limit})
        except openai.BadRequestError as error:
            # Newer models take the limit under another name only, and some no top_p beside a temperature.
            if self._limit_name == "max_tokens" and "max_tokens" in str(error):
                self._limit_name = "max_completion_tokens"
            elif options.get("top_p") == 1 and "top_p" in str(error):
                self._takes_top_p = False
            else:
                raise
            return self._limited(create, limit, options)

    def _refused(self, error: Exception) -> HarnessError:
        """The error for a server that refuses the key, the address or the model altogether."""
        what = f"{self.role} '{self.name}': the server refused {self.model} ({self._told(error)})"
        return self.failure(f"{what}; check the model's name, base_url and {self.api_key_env}")

    def _told(self, error: Exception) -> str:
        """What went wrong, in one line, without the key, which some servers repeat in their messages."""
        status = getattr(error, "status_code", None)
        text = " ".join(str(error).split()) or type(error).__name__
        text = self._without_key(text)[:300]
        return f"{type(error).__name__}: {text}" if status is None else f"HTTP {status}: {text}"

    def _without_key(self, text: str) -> str:
        key = self._key()
        return text.replace(key, "***") if len(key) >= SHORTEST_KEY else text


def fault_of(error: Exception) -> Fault | None:
    """What kind of passing fault an error of a call is; None for one that stays."""
    import openai

    if isinstance(error, openai.APIConnectionError):
        # Whoever was never connected has sent nothing.
        sent = type(error.__cause__).__name__ not in {"ConnectError", "ConnectTimeout", "PoolTimeout"}
        slow = isinstance(error, openai.APITimeoutError)
        return Fault("time-out" if slow else "connection", charged=sent, overloaded=slow)
    if isinstance(error, openai.APIStatusError):
        status = error.status_code
        if error.code == "insufficient_quota" or not (status in (408, 409, 429) or status >= 500):
            return None
        overloaded = status in (429, 503, 529)
        wait = _retry_after(error.response.headers) if overloaded else 0.0
        return Fault(f"HTTP {status}", overloaded=overloaded, refused=status == 429 or wait > 0, retry_after=wait)
    if isinstance(error, ValueError | openai.APIResponseValidationError):
        return Fault("broken reply", charged=True)
    return None


def _retry_after(headers: Any) -> float:
    """Seconds to wait, 0 where the server says nothing (or nothing sensible): a number, or a date."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        text = headers.get(name) or ""
        if re.fullmatch(r"\s*\d+(\.\d*)?\s*", text):
            return float(text) / unit
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
        except ValueError:
            continue
    return 0.0
