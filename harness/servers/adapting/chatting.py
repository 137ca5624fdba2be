"""Served models that are asked in conversations: what a server of a reasoning model needs."""

from typing import Any

from pydantic import Field, JsonValue, field_validator, model_validator

from harness.protocols import Component
from harness.servers import credentials
from harness.servers.served import Served
from harness.types import JudgeRequest


class ServedChat(Served):
    """A served model that is asked in conversations. `reasoning_effort`: sent as it is. `chat_template_kwargs`: for the
    chat template, as vLLM and SGLang take them (`{enable_thinking: false}`). `max_tokens`: room for reasoning: the
    limit that is sent is the request's own, or this one if it is larger.
    """

    reasoning_effort: str | None = Field(None, min_length=1, max_length=40)
    max_tokens: int | None = Field(None, ge=1)
    chat_template_kwargs: dict[str, JsonValue] = Field(default_factory=dict)

    @field_validator("chat_template_kwargs")
    @classmethod
    def _holds_no_key(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        credentials.checked_body(value)
        return value

    @model_validator(mode="after")
    def _is_said_once(self) -> "ServedChat":
        for name, value in self._own_body().items():
            if name in self.extra_body and self.extra_body[name] != value:
                raise ValueError(f"{name} is also in extra_body: leave one of them out")
        return self

    def room(self, limit: int) -> int:
        """The token limit that is sent for a request's own."""
        return max(limit, self.max_tokens or 0)

    def as_sent(self, request: JudgeRequest) -> JudgeRequest:
        """A judge's request with the token limit that is sent."""
        return request.model_copy(update={"max_tokens": self.room(request.max_tokens)})

    def _own_body(self) -> dict[str, Any]:
        effort = {"reasoning_effort": self.reasoning_effort} if self.reasoning_effort is not None else {}
        return effort | ({"chat_template_kwargs": self.chat_template_kwargs} if self.chat_template_kwargs else {})

    def _extras(self) -> dict[str, Any]:
        room = {"max_tokens": self.max_tokens} if self.max_tokens is not None else {}
        return super()._extras() | self._own_body() | room

    def _more_body(self) -> dict[str, Any]:
        return super()._more_body() | self._own_body()


def as_sent(judge: Component, request: JudgeRequest) -> JudgeRequest:
    """A judge's request with the token limit that is sent, which its price depends on."""
    return judge.as_sent(request) if isinstance(judge, ServedChat) else request
