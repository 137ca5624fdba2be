"""Any server with an OpenAI-compatible chat endpoint: a vendor, vLLM, `transformers serve`."""

import os
import re
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator

from harness.components import Component
from harness.errors import JudgeError
from harness.types import JudgeReply, JudgeRequest

if TYPE_CHECKING:
    import openai
    from openai.types.chat import ChatCompletion

DEFAULT_URL = "https://api.openai.com/v1"
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class Price(BaseModel):
    """Dollars for a million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: float = Field(ge=0)
    output: float = Field(ge=0)


class Openai(Component):
    """Asks `model` at `base_url` (OpenAI's own where it is not given) through the `openai` package, which retries
    429, 5xx, broken connections and time-outs up to `max_retries` times, with back-off and Retry-After.

    The key is read from the environment variable named by `api_key_env`, and is in no field, identity, log or error; a
    server on this machine needs none. What still fails after the retries is a reply with `error`; a key, address or
    model that is refused altogether raises JudgeError. The log-probabilities of a reply are those of its first token.
    """

    unkeyed: ClassVar[frozenset[str]] = frozenset({"api_key_env", "max_retries", "timeout", "price"})

    model: str = Field(min_length=1)
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    max_retries: int = Field(6, ge=0)
    timeout: float = Field(120, gt=0)
    price: Price | None = None
    _client: "openai.OpenAI | None" = PrivateAttr(None)
    _client_lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)
    _limit_name: str = PrivateAttr("max_tokens")

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
        url = urlsplit(self.base_url or DEFAULT_URL)
        address = urlunsplit((url.scheme, url.netloc, url.path.rstrip("/"), "", ""))
        return {"name": self.name, "model": self.model, "base_url": address}

    def check(self) -> None:
        if not self._is_local() and not os.environ.get(self.api_key_env):
            raise JudgeError(
                f"judge 'openai' needs a key: set {self.api_key_env}, or name another variable in api_key_env"
            )

    def reply(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        """One reply a request, in order. Raises JudgeError when the server refuses the key or the model."""
        return [self._reply(request) for request in requests]

    def _is_local(self) -> bool:
        return urlsplit(self.base_url or DEFAULT_URL).hostname in LOCAL_HOSTS

    def _key(self) -> str:
        return os.environ.get(self.api_key_env) or "none-needed"

    def _connect(self) -> "openai.OpenAI":
        import openai

        with self._client_lock:
            if self._client is None:
                # The address is always given: OPENAI_BASE_URL would change the judge behind the recipe's back.
                self._client = openai.OpenAI(
                    api_key=self._key(),
                    base_url=self.base_url or DEFAULT_URL,
                    max_retries=self.max_retries,
                    timeout=self.timeout,
                )
            return self._client

    def _reply(self, request: JudgeRequest) -> JudgeReply:
        import openai

        self.check()
        try:
            return self._read(self._create(self._connect(), request))
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            what = f"judge 'openai': the server refused {self.model} ({self._told(error)})"
            raise JudgeError(f"{what}; check the model's name, base_url and {self.api_key_env}") from None
        except (openai.OpenAIError, ValueError) as error:  # ValueError: a reply that is not JSON
            # The rest of 4xx is about this one request (a prompt that is too long, say), and stays so.
            final = isinstance(error, openai.BadRequestError | openai.UnprocessableEntityError)
            return JudgeReply(text="", error=self._told(error), transient=not final)

    def _create(self, client: "openai.OpenAI", request: JudgeRequest) -> "ChatCompletion":
        import openai

        options: dict[str, Any] = {
            "model": self.model,
            "messages": [m.model_dump() for m in request.messages],
            "temperature": request.temperature,
        }
        if request.top_logprobs is not None:
            options |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        create: Any = client.chat.completions.create
        try:
            completion = create(**options, **{self._limit_name: request.max_tokens})
        except openai.BadRequestError as error:
            if self._limit_name != "max_tokens" or "max_tokens" not in str(error):
                raise
            # Newer models take the limit under another name only.
            self._limit_name = "max_completion_tokens"
            completion = create(**options, **{self._limit_name: request.max_tokens})
        return completion  # type: ignore[no-any-return]

    def _read(self, completion: "ChatCompletion") -> JudgeReply:
        usage = completion.usage
        tokens = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
        price = None
        if self.price is not None and usage is not None:
            price = (tokens[0] * self.price.input + tokens[1] * self.price.output) / 1e6
        counts: dict[str, Any] = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "price": price}
        if not completion.choices:
            return JudgeReply(text="", error="the server's reply has no choices", transient=True, **counts)
        choice = completion.choices[0]
        logprobs = None
        if choice.logprobs and choice.logprobs.content:
            # Some servers write -9999 or -inf for what has no probability; JSON knows no infinity.
            logprobs = {t.token: max(t.logprob, -9999.0) for t in choice.logprobs.content[0].top_logprobs}
        return JudgeReply(text=choice.message.content or choice.message.refusal or "", logprobs=logprobs, **counts)

    def _told(self, error: Exception) -> str:
        """What went wrong, in one line, without the key, which some servers repeat in their messages."""
        status = getattr(error, "status_code", None)
        text = " ".join(str(error).split()) or type(error).__name__
        text = text.replace(self._key(), "***")[:300]
        return f"{type(error).__name__}: {text}" if status is None else f"HTTP {status}: {text}"
