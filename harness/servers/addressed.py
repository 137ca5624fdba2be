"""Where a served model is, which keys it is sent, and who it is: the fields of all served components."""

import json
from typing import Any, ClassVar
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, JsonValue, ValidationInfo, ValidatorFunctionWrapHandler, field_validator, model_validator

from harness.errors import HarnessError, ModelError
from harness.protocols import Component
from harness.servers import credentials
from harness.servers.hosts import VARIABLE, is_loopback, is_vendor, place_of
from harness.servers.proxies import proxy_of
from harness.serving.engine import EngineField, Named
from harness.variables import FilledText, Variables

DEFAULT_URL = "https://api.openai.com/v1"
RESERVED = frozenset({"messages", "model", "prompt", "prompts", "input", "query", "stream", "n", "best_of", "seed"})
LIMITS = frozenset({"max_tokens", "max_completion_tokens", "logprobs", "top_logprobs", "stop"})
"""Fields of a request that `extra_body` can't set, since the harness does."""


class Addressed(Component):
    """`model` at `base_url` (by default OpenAI's), or of `engine`, a server of `runtime.engines` that the harness runs:
    its own model is then the default, and no key is sent. `extra_body`: more fields of each request. `query`: of the
    address, such as `{api-version: 2025-01-01}`. `headers`: more headers, each by the name of the environment variable
    that holds its value. `served_as`: the model's name in identities, where servers name one model differently, or
    several alike. Where a server is, is no part of an identity.

    The key is read from the environment variable named by `api_key_env`; it never appears in a field, identity, log or
    error, and is sent only where the user's settings allow it (`harness.servers.hosts`), like the values of headers.
    None: no key is sent. A vendor's server needs one; another is asked without if the default variable isn't set.
    """

    is_served: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("openai",)
    role: ClassVar[str] = "model"
    failure: ClassVar[type[HarnessError]] = ModelError
    """The class of the error raised when the server refuses all calls."""
    unkeyed: ClassVar[frozenset[str]] = frozenset(
        {"engine", "base_url", "query", "headers", "api_key_env", "max_retries", "patience", "timeout"}
    )

    engine: EngineField = None
    """A server of `runtime.engines`, which the harness runs, instead of an address."""
    model: str = Field(min_length=1)
    """The model's name at the server; of an engine, by default its own."""
    base_url: str | None = None
    """The server's address; None: OpenAI's."""
    api_key_env: str | None = "OPENAI_API_KEY"
    """The environment variable that holds the key; None: no key is sent."""
    max_retries: int = Field(8, ge=0)
    """How often a call with a transient failure (5xx, broken connection or reply, time-out) is tried again."""
    patience: float = Field(600, ge=0)
    """Seconds for which a call that is rejected for now (429) is tried again while the server answers no other."""
    timeout: float = Field(120, gt=0)
    """Seconds for a call, from the connection to the last byte."""
    extra_body: dict[str, JsonValue] = Field(default_factory=dict)
    headers: dict[str, str] = Field(default_factory=dict)
    query: dict[str, str] = Field(default_factory=dict)
    served_as: str | None = Field(None, min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _has_the_engines_model(cls, fields: Any, info: ValidationInfo) -> Any:
        if not isinstance(fields, dict) or fields.get("engine") is None:
            return fields
        engine, fields = fields["engine"], {"base_url": None, **fields}
        if isinstance(engine, str):
            described = (info.context or {}).get("engines", {}).get(engine)
        else:
            described = engine.engine if isinstance(engine, Named) else None
        name = described.served_name if described is not None else "unknown"  # which is reported at `engine`
        return fields if name is None else {"model": name, **fields}

    @field_validator("base_url")
    @classmethod
    def _is_the_only_address(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("engine") is not None:
            raise ValueError("an engine has its own address: leave out base_url, or engine")
        return value

    @field_validator("base_url", mode="wrap")
    @classmethod
    def _is_an_address(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> str | None:
        text = handler(value.address() if isinstance(value, Variables) else value)
        if text is None:
            return None
        if "@" in (url := urlsplit(text)).netloc or url.query or url.fragment:
            raise ValueError(
                "expected an address without user, password or query, because recipes are published on the board; "
                "see `query` for parameters like api-version"
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
        credentials.checked_body(value)
        return value

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, value: dict[str, str]) -> dict[str, str]:
        credentials.checked_headers(value)
        return value

    @field_validator("query")
    @classmethod
    def _holds_no_secret(cls, value: dict[str, str]) -> dict[str, str]:
        credentials.checked_query(value)
        return value

    def models_in_process(self) -> list[str]:
        return []

    def identity(self) -> dict[str, Any]:
        weights = self.engine.engine.weights() if self.engine else {}
        return {"name": self.name, "model": self.served_as or self.model, **weights, **self._extras()}

    def _extras(self) -> dict[str, Any]:
        """The fields of the recipe that change what a model is asked, if they are set."""
        return {"extra_body": self.extra_body} if self.extra_body else {}

    def _more_body(self) -> dict[str, Any]:
        """What every request has besides: as the recipe says, never changed for a server."""
        return dict(self.extra_body)

    def check(self) -> None:
        """Raises `failure` if there is no key for a server that needs one, if it must not be sent there, or if the
        proxy's address is malformed."""
        if self.engine is not None:
            return  # `harness.recipe.checks` looks whether it can be started
        self._key()
        try:
            credentials.header_values(self.headers, self._address())
            proxy_of(self._address())
        except ValueError as error:
            raise self.failure(f"{self.role} '{self.name}': {error}") from None

    def _address(self) -> str:
        url = urlsplit(self.base_url or DEFAULT_URL)
        return urlunsplit((url.scheme, url.netloc, url.path.rstrip("/"), "", ""))

    def _server(self) -> str:
        """What tells the server apart from others, for what is shared by all that ask it."""
        return f"engine {self.engine.engine.model_dump_json()}" if self.engine else self._address()

    def _shown_address(self) -> str:
        """The address as the recipe has it, where it has variables; an engine by its name."""
        if self.engine is not None:
            return f"engine {self.engine.name}"
        return self.base_url.written if isinstance(self.base_url, FilledText) else self._address()

    def _key(self) -> str:
        """The key to send. Raises `failure`; see `check`."""
        variable = None if self.engine else self.api_key_env
        if variable and credentials.value_of(variable):
            try:
                return credentials.key_of(variable, self._address())
            except ValueError as error:
                raise self.failure(f"{self.role} '{self.name}': {error}") from None
        if self._needs_key():
            how = f"set {variable}, or name another variable in" if variable else "name its variable in"
            raise self.failure(f"{self.role} '{self.name}' needs a key: {how} api_key_env (null: no key is needed)")
        return credentials.NO_KEY

    def _needs_key(self) -> bool:
        """Whether a missing key is a mistake: for a vendor, unless it is in a header, and where the recipe names it."""
        if self.engine is not None:
            return False
        place = place_of(self._address())
        if is_vendor(place):
            return not self.headers
        return "api_key_env" in self.model_fields_set and self.api_key_env is not None and not is_loopback(place.host)

    def _without_key(self, text: str) -> str:
        """A text of the server with the key and the values of headers masked: some repeat them."""
        key = [self.api_key_env] if self.api_key_env else []
        return credentials.without_secrets(text, [*key, *self.headers.values()])


def engines_of(*parts: Component) -> tuple[Named, ...]:
    """The engines that components and their parts ask."""
    found: dict[str, Named] = {}
    for part in parts:
        if isinstance(part, Addressed) and part.engine is not None:
            found[part.engine.name] = part.engine
        found |= {engine.name: engine for engine in engines_of(*part.components())}
    return tuple(found.values())
