"""The base of components behind an OpenAI-compatible endpoint: address, key, retries and readable errors."""

import json
import logging
import os
import random
import re
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, JsonValue, PrivateAttr, ValidatorFunctionWrapHandler, field_validator

from harness.errors import HarnessError, ModelError
from harness.files import sha256
from harness.printable import printable
from harness.protocols import Component
from harness.servers.faults import CallFault, fault_of
from harness.servers.hosts import VARIABLE, ambient_settings, is_loopback, is_vendor, place_of, refusal
from harness.servers.masking import without_key
from harness.servers.pace import pace_of
from harness.servers.proxies import proxy_of
from harness.servers.replies import Origin, answering, detail, origin, read_json
from harness.servers.spending import Tab
from harness.variables import FilledText, Variables

if TYPE_CHECKING:
    import openai

DEFAULT_URL = "https://api.openai.com/v1"
NO_KEY = "none-needed"
"""What is sent instead of a key."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0
"""Seconds before the first retry, and the maximum: the wait doubles with each retry, less a random part of up to a
half."""
BRIEF_RETRIES = 2
"""Retries where no server was ever reached and trying again won't help; a server may just be starting."""
RESERVED = frozenset({"messages", "model", "prompt", "prompts", "input", "query", "stream", "n", "best_of", "seed"})
LIMITS = frozenset({"max_tokens", "max_completion_tokens", "logprobs", "top_logprobs", "stop"})
"""Fields of a request that `extra_body` can't set, since the harness does."""
LONGEST_ERROR = 300
"""Characters of a server's message that are shown."""
MOST_ORIGINS = 4
"""Changes of the answering model that are logged."""
T = TypeVar("T")
_log = logging.getLogger("harness")


class Served(Component):
    """`model` at `base_url` (by default OpenAI's) through the `openai` package.

    A call with a transient failure (5xx, broken connection, time-out, broken reply) is retried up to `max_retries`
    times, with jittered exponential back-off. A call that is rejected for now (429, or with a Retry-After) is retried
    as long as the server answers other calls, and for `patience` seconds if it answers none. All callers of one server
    share a `Pace`. `timeout`: seconds for a call, from the connection to the last byte. A server that can't be reached
    and has answered nobody meanwhile stops the run. `extra_body`: more fields of each request, such as
    `{chat_template_kwargs: {enable_thinking: false}}`.

    The key is read from the environment variable named by `api_key_env`; it never appears in a field, identity, log or
    error, and is sent only where the user's settings allow it (`harness.servers.hosts`). None: no key is sent. A server
    on this machine, or one over http if the default variable isn't set, is asked without a key.
    """

    is_served: ClassVar[bool] = True
    role: ClassVar[str] = "model"
    failure: ClassVar[type[HarnessError]] = ModelError
    """The class of the error raised when the server refuses all calls."""
    unkeyed: ClassVar[frozenset[str]] = frozenset({"api_key_env", "max_retries", "patience", "timeout"})

    model: str = Field(min_length=1)
    base_url: str | None = None
    api_key_env: str | None = "OPENAI_API_KEY"
    max_retries: int = Field(8, ge=0)
    patience: float = Field(600, ge=0)
    timeout: float = Field(120, gt=0)
    extra_body: dict[str, JsonValue] = Field(default_factory=dict)
    _origins: list[Origin] = PrivateAttr(default_factory=list)
    _client: "openai.OpenAI | None" = PrivateAttr(None)
    _client_lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)
    _limit_name: str = PrivateAttr("max_tokens")
    _takes_top_p: bool = PrivateAttr(True)

    @field_validator("base_url", mode="wrap")
    @classmethod
    def _is_an_address(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> str | None:
        text = handler(value.address() if isinstance(value, Variables) else value)
        if text is None:
            return None
        if "@" in (url := urlsplit(text)).netloc or url.query or url.fragment:
            raise ValueError(
                "expected an address without user, password or query, because recipes are published on the board"
            )
        place_of(text)  # raises ValueError
        if isinstance(value, Variables):
            value.note(text)
            return FilledText(text, value.written)
        return str(text)

    @field_validator("api_key_env")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        if value is not None and not VARIABLE.fullmatch(value):
            raise ValueError("expected the name of an environment variable, not the key itself")
        return value

    @field_validator("extra_body")
    @classmethod
    def _is_plain(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if taken := sorted((RESERVED | LIMITS) & value.keys()):
            raise ValueError(f"{taken[0]} can't be set here; expected fields that the harness doesn't set itself")
        try:
            json.dumps(value, allow_nan=False).encode()
        except ValueError:
            raise ValueError("expected plain values and finite numbers") from None
        return value

    def models_in_process(self) -> list[str]:
        return []

    def identity(self) -> dict[str, Any]:
        filled = isinstance(self.base_url, FilledText)
        content = {"address_sha256": sha256(self._address().encode())} if filled else {}
        extra = {"extra_body": self.extra_body} if self.extra_body else {}
        return {"name": self.name, "model": self.model, "base_url": self._shown_address(), **content, **extra}

    def check(self) -> None:
        """Raises `failure` if there is no key for a server that needs one, if it must not be sent there, or if the
        proxy's address is malformed."""
        self._key()
        try:
            proxy_of(self._address())
        except ValueError as error:
            raise self.failure(f"{self.role} '{self.name}': {error}") from None

    def _address(self) -> str:
        url = urlsplit(self.base_url or DEFAULT_URL)
        return urlunsplit((url.scheme, url.netloc, url.path.rstrip("/"), "", ""))

    def _shown_address(self) -> str:
        """The address as the recipe has it, where it has variables."""
        return self.base_url.written if isinstance(self.base_url, FilledText) else self._address()

    def _key(self) -> str:
        """The key to send. Raises `failure`; see `check`."""
        variable, address = self.api_key_env, self._address()
        key = self._users_key()
        if not key and self._needs_key():
            how = f"set {variable}, or name another variable in" if variable else "name its variable in"
            raise self.failure(f"{self.role} '{self.name}' needs a key: {how} api_key_env (null: no key is needed)")
        if not key:
            return NO_KEY
        if not re.fullmatch(r"[!-~]+", key):
            expected_form = "expected one word of ASCII characters, without quotation marks around it"
            raise self.failure(f"{self.role} '{self.name}': {variable} holds no key; {expected_form}")
        if variable and (reason := refusal(variable, address)):
            raise self.failure(f"{self.role} '{self.name}': {reason}")
        return key

    def _needs_key(self) -> bool:
        """Whether a missing key is a mistake. Servers in the user's own network are often asked over http without."""
        place = place_of(self._address())
        if self.api_key_env is None or is_loopback(place.host):
            return is_vendor(place)
        return place.scheme == "https" or "api_key_env" in self.model_fields_set or is_vendor(place)

    def _users_key(self) -> str:
        """The key in the environment, empty if there is none."""
        return os.environ.get(self.api_key_env, "").strip() if self.api_key_env else ""

    def _connect(self) -> "openai.OpenAI":
        import httpx
        import openai

        from harness.servers.transport import Transport

        with self._client_lock:
            if self._client is None:
                url = self._address()
                # Without the environment, which may name proxies, a .netrc file and addresses of other servers.
                http = httpx.Client(transport=Transport(url, self.timeout), trust_env=False, timeout=self.timeout)
                with ambient_settings(url):
                    self._client = openai.OpenAI(
                        api_key=self._key(),
                        base_url=url,
                        max_retries=0,  # we retry ourselves, to count faults and share the pace
                        timeout=self.timeout,
                        http_client=cast(Any, http),  # its type differs between versions of the package
                    )
            return self._client

    def _post(self, path: str, body: dict[str, Any], read: Callable[[Any], T]) -> T:
        """`read` of the server's reply. Raises ValueError for a reply that isn't JSON or that `read` refuses, and the
        package's errors."""
        import httpx

        from harness.servers.network import limits

        def noted(value: Any) -> T:
            result = read(value)
            self._note(origin(value, self._without_key))
            return result

        client = self._connect()
        try:
            response = client.post(path, cast_to=httpx.Response, body=body | self.extra_body)
            return read_json(response.content, noted)
        finally:
            limits.end()

    def _note(self, now: Origin) -> None:
        """Log that another model answers than before."""
        with self._client_lock:
            if now in self._origins or len(self._origins) > MOST_ORIGINS:
                return
            before = self._origins[-1] if self._origins else None
            self._origins.append(now)
        if before is not None:
            new, old = (printable(answering(*o) or "an unnamed model") for o in (now, before))
            _log.warning("%s '%s': %s is answered by %s now, before by %s", self.role, self.name, self.model, new, old)

    def _persist(self, call: Callable[[], T], tab: Tab) -> T:
        """The result of `call`, retried after transient failures, which are recorded on the tab. Raises the last error
        when retries are exhausted, `failure` for a server that can't be reached, HeldTooLong, or what the tab raises.
        """
        pace = pace_of(self._address())
        start, retries = time.monotonic(), 0
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
                brief = fault.hopeless and not pace.answered_since(0)
                if retries > (min(self.max_retries, BRIEF_RETRIES) if brief else self.max_retries):
                    if fault.kind == "connection" and not pace.answered_since(start):
                        place = f"{self.role} '{self.name}' at {self._shown_address()}"
                        raise self.failure(f"{place}: {self._error_text(error)}") from None
                    raise
                if fault.refused and pace.overloaded_for() > self.patience:
                    raise
            finally:
                if began:
                    pace.leave(began, answered=answered, overloaded=fault.overloaded, retry_after=fault.retry_after)
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(len(tab.faults) - 1, 10))
            tab.stop.wait(wait * random.uniform(0.5, 1))

    def _limited(self, create: Callable[[dict[str, Any]], T], limit: int, options: dict[str, Any]) -> T:
        """Call `create` with the token limit under the parameter name that the model accepts, and without `top_p` = 1
        if the model rejects that parameter."""
        import openai

        name = self._limit_name  # another thread may change it meanwhile
        if not self._takes_top_p:
            options = {name: value for name, value in options.items() if name != "top_p"}
        try:
            return create({**options, name: limit})
        except openai.BadRequestError as error:
            # Newer models accept the limit only under another name, and some don't accept top_p with a temperature.
            if name == "max_tokens" and "max_tokens" in self._error_text(error):
                self._limit_name = "max_completion_tokens"
            elif options.get("top_p") == 1 and "top_p" in self._error_text(error):
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
        import openai

        if isinstance(error, openai.APIStatusError):
            text = f"HTTP {error.status_code}: {detail(error.body) or 'without a message'}"
        elif isinstance(error, openai.APIConnectionError):
            text = str(error.__cause__ or error)
        else:
            text = str(error) or type(error).__name__
        return printable(self._without_key(text), LONGEST_ERROR)

    def _without_key(self, text: str) -> str:
        return without_key(text, self._users_key())
