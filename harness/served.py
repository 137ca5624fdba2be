"""What a judge and a generator behind an OpenAI-compatible endpoint share: address, key, retries, errors in words."""

import os
import re
import threading
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, PrivateAttr, field_validator

from harness.components import Component
from harness.errors import HarnessError, ModelError

if TYPE_CHECKING:
    import openai

DEFAULT_URL = "https://api.openai.com/v1"
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class Served(Component):
    """`model` at `base_url` (OpenAI's own where it is not given) through the `openai` package, which retries 429, 5xx,
    broken connections and time-outs up to `max_retries` times, with back-off and Retry-After.

    The key is read from the environment variable named by `api_key_env`, and is in no field, identity, log or error; a
    server on this machine needs none.
    """

    role: ClassVar[str] = "model"
    failure: ClassVar[type[HarnessError]] = ModelError
    """What is raised when the server refuses altogether."""
    unkeyed: ClassVar[frozenset[str]] = frozenset({"api_key_env", "max_retries", "timeout"})

    model: str = Field(min_length=1)
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    max_retries: int = Field(6, ge=0)
    timeout: float = Field(120, gt=0)
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
            how = f"set {self.api_key_env}, or name another variable in api_key_env"
            raise self.failure(f"{self.role} '{self.name}' needs a key: {how}")

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
                    max_retries=self.max_retries,
                    timeout=self.timeout,
                )
            return self._client

    def _limited(self, create: Any, limit: int, options: dict[str, Any]) -> Any:
        """A call with its token limit, under the name that the model takes it by."""
        import openai

        try:
            return create(**options, **{self._limit_name: limit})
        except openai.BadRequestError as error:
            if self._limit_name != "max_tokens" or "max_tokens" not in str(error):
                raise
            # Newer models take the limit under another name only.
            self._limit_name = "max_completion_tokens"
            return create(**options, **{self._limit_name: limit})

    def _refused(self, error: Exception) -> HarnessError:
        """The error for a server that refuses the key, the address or the model altogether."""
        what = f"{self.role} '{self.name}': the server refused {self.model} ({self._told(error)})"
        return self.failure(f"{what}; check the model's name, base_url and {self.api_key_env}")

    def _told(self, error: Exception) -> str:
        """What went wrong, in one line, without the key, which some servers repeat in their messages."""
        status = getattr(error, "status_code", None)
        text = " ".join(str(error).split()) or type(error).__name__
        text = text.replace(self._key(), "***")[:300]
        return f"{type(error).__name__}: {text}" if status is None else f"HTTP {status}: {text}"
