"""The base of components behind an OpenAI-compatible endpoint: address, key, retries and readable errors."""

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from pydantic import PrivateAttr

from harness.errors import HarnessError, ModelError
from harness.printable import printable
from harness.servers import credentials
from harness.servers.adapting.streams import is_stream, joined
from harness.servers.adapting.terms import Rules, Terms, terms_of
from harness.servers.addressed import Addressed
from harness.servers.faults import CallFault, fault_of
from harness.servers.hosts import ambient_settings
from harness.servers.pace import Pace, pace_of
from harness.servers.replies import Origin, answering, detail, origin, read_json
from harness.servers.spending import Tab
from harness.serving.pool import pool_of

if TYPE_CHECKING:
    import openai

FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0
"""Seconds before the first retry, and the maximum: the wait doubles with each retry, less a random part of up to a
half."""
BRIEF_RETRIES = 2
"""Retries where no server was ever reached and trying again won't help; a server may just be starting."""
UNREACHED = 10.0
"""Seconds after which a server that nobody has ever reached is taken to be not there."""
LONGEST_ERROR = 300
"""Characters of a server's message that are shown."""
MOST_ORIGINS = 4
"""Changes of the answering model that are logged."""
T = TypeVar("T")
_log = logging.getLogger("harness")


class Served(Addressed):
    """A model behind an OpenAI-compatible server, asked through the `openai` package.

    A call with a transient failure (5xx, broken connection, time-out, broken reply) is retried up to `max_retries`
    times, with jittered exponential back-off. A call that is rejected for now (429, or with a Retry-After) is retried
    as long as the server answers other calls, and for `patience` seconds if it answers none. All callers of one server
    share a `Pace`. A call may take `timeout` seconds. A server that can't be reached and has answered nobody meanwhile
    stops the run, after UNREACHED seconds if it has never answered. What a server refuses in a request is changed where
    that leaves its meaning (`harness.servers.adapting`).

    With an engine, each call goes to the replica that has the fewest; a call whose replica has died is tried again, at
    another one or the same when it runs again.
    """

    _engine_path: ClassVar[str] = "/v1"
    """Where the endpoints of an engine are."""

    _origins: list[Origin] = PrivateAttr(default_factory=list)
    _clients: "dict[str, openai.OpenAI]" = PrivateAttr(default_factory=dict)
    _client_lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)
    _terms: dict[str, Terms] = PrivateAttr(default_factory=dict)

    @contextmanager
    def _called(self) -> Iterator[str]:
        """While open, a call may go to this address. Raises `failure` if there is no engine at it."""
        with ExitStack() as calls:
            address = self._address()
            if self.engine is not None:
                try:
                    address = calls.enter_context(pool_of(self.engine.engine).address()) + self._engine_path
                except ModelError as error:
                    raise self.failure(f"{self.role} '{self.name}', engine {self.engine.name}: {error}") from None
            yield address

    def _connect(self, url: str | None = None) -> "openai.OpenAI":
        """The client of an address, by default of `base_url`."""
        import httpx
        import openai

        from harness.servers.transport import Transport

        with self._client_lock:
            url = url or self._address()
            if url not in self._clients:
                # Without the environment, which may name proxies, a .netrc file and addresses of other servers.
                headers = credentials.header_values(self.headers, url)
                http = httpx.Client(transport=Transport(url, self.timeout), trust_env=False, timeout=self.timeout)
                with ambient_settings(url):
                    self._clients[url] = openai.OpenAI(
                        api_key=self._key(),
                        base_url=url,
                        default_headers=headers,
                        default_query=dict(self.query),
                        max_retries=0,  # we retry ourselves, to count faults and share the pace
                        timeout=self.timeout,
                        http_client=cast(Any, http),  # its type differs between versions of the package
                    )
            return self._clients[url]

    def _post(self, path: str, body: dict[str, Any], read: Callable[[Any], T]) -> T:
        """`read` of the server's reply. Raises ValueError for a reply that isn't JSON or that `read` refuses, and the
        package's errors."""
        import httpx

        from harness.servers.network import limits

        def noted(value: Any) -> T:
            result = read(value)
            self._note(origin(value, self._without_key))
            return result

        with self._called() as address:
            client = self._connect(address)
            try:
                response = client.post(path, cast_to=httpx.Response, body=body)
                content = response.content
                return noted(joined(content)) if is_stream(content) else read_json(content, noted)
            finally:
                limits.end()

    def _send(self, path: str, request: dict[str, Any], read: Callable[[Any], T]) -> tuple[T, tuple[str, ...]]:
        """(`read` of the reply to a request, notes of how that was changed for the server). Raises as `_post` does."""
        more = self._more_body()
        if (terms := self._terms.get(path)) is None:
            query = json.dumps(self.query, sort_keys=True)
            terms = self._terms.setdefault(path, terms_of(self.role, self._server(), query, self.model, path))
        rules = Rules(samples=self._gives_samples(), fixed=frozenset(more))
        return terms.send(request | more, rules, lambda body: self._post(path, body, read), self._tell_terms)

    def _gives_samples(self) -> bool:
        """Whether the replies are samples: what would make others of them is not changed for a server."""
        return False

    def _tell_terms(self, words: str, error: Exception) -> None:
        why = self._error_text(error)
        _log.warning("%s '%s': %s is asked %s from now on (%s)", self.role, self.name, self.model, words, why)

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
        pace = pace_of(self._server())
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
                brief = fault.hopeless and self.engine is None and not pace.answered_since(0)
                wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(len(tab.faults) - 1, 10)) * random.uniform(0.5, 1)
                if self._is_not_there(fault, pace, time.monotonic() - start + wait):
                    raise self._unanswered(fault, error) from None
                if retries > (min(self.max_retries, BRIEF_RETRIES) if brief else self.max_retries):
                    if fault.kind == "connection" and not pace.answered_since(start):
                        raise self._unanswered(fault, error) from None
                    raise
                if fault.refused and pace.overloaded_for() > self.patience:
                    raise
            finally:
                if began:
                    pace.leave(began, answered=answered, overloaded=fault.overloaded, retry_after=fault.retry_after)
            tab.stop.wait(wait)

    def _unanswered(self, fault: CallFault, error: Exception) -> HarnessError:
        """The error for a server that answers nobody."""
        advice = ", and it has answered nobody: check the server and base_url, or raise timeout"
        text = f"{self._error_text(error)}{advice if fault.kind == 'time-out' else ''}"
        return self.failure(f"{self.role} '{self.name}' at {self._shown_address()}: {text}")

    def _is_not_there(self, fault: CallFault, pace: Pace, seconds: float) -> bool:
        """Whether to give up on a server that has never answered anybody. `seconds`: since the first try."""
        if self.engine is not None or fault.refused or pace.answered_since(0):
            return False
        return seconds > (UNREACHED if fault.unsent else max(UNREACHED, self.timeout))

    def _refused(self, error: Exception) -> HarnessError:
        """The error for a server that rejects the key, the address, the model or all requests."""
        import openai

        problem = f"{self.role} '{self.name}': the server refused {self.model} ({self._error_text(error)})"
        status = error.status_code if isinstance(error, openai.APIStatusError) else 0
        if status in (400, 422):
            return self.failure(f"{problem}; change what it names, or ask another server")
        if self.engine is not None:
            return self.failure(f"{problem}; check that its engine serves a model of this name")
        sent = credentials.value_of(self.api_key_env or "")
        without = "its headers" if self.headers else "the key: none was sent; name its variable in api_key_env"
        key = self.api_key_env if sent else without
        return self.failure(f"{problem}; check the model's name, base_url and {key}")

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
