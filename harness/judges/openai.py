"""Any server with an OpenAI-compatible chat endpoint: a vendor, vLLM, `transformers serve`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from harness.errors import HarnessError, JudgeError
from harness.protocols import Judge
from harness.servers.pace import HeldTooLong
from harness.servers.served import Served
from harness.servers.spending import Tab
from harness.types import JudgeReply, JudgeRequest, Price


class Openai(Served, Judge):
    """Asks a served model (see `harness.servers.served` for the address, the key and the retries). A request that still
    fails after the retries gives a reply with `error`; a rejected key, address or model raises JudgeError. The
    log-probabilities of a reply are those of its first token.

    A complete chat completion is always a reply, since it was paid for. One without a text, choices or
    log-probabilities is returned as it is, and the benchmark reports that it can't be read.
    """

    role: ClassVar[str] = "judge"
    failure: ClassVar[type[HarnessError]] = JudgeError
    unkeyed: ClassVar[frozenset[str]] = Served.unkeyed | {"price"}
    resamples: ClassVar[bool] = True
    is_metered: ClassVar[bool] = True

    price: Price | None = None
    """Overrides all price tables."""

    @property
    def model_name(self) -> str:
        return self.model

    def token_price(self, table: Mapping[str, Price]) -> Price | None:
        return self.price or table.get(self.model)

    def reply(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        """One reply per request, in order. Raises JudgeError if the server rejects the key or the model, unless there
        are replies already: those are returned, and the rest as failed."""
        replies: list[JudgeReply] = []
        for request in requests:
            try:
                replies.append(self.metered_reply(request, Tab()))
            except JudgeError as error:
                if all(reply.error is not None for reply in replies):
                    raise
                failed = JudgeReply(text="", error=str(error), transient=True)
                return [*replies, *[failed] * (len(requests) - len(replies))]
        return replies

    def metered_reply(self, request: JudgeRequest, tab: Tab) -> JudgeReply:
        """One reply. Raises JudgeError if the server rejects the key or the model."""
        import openai

        self.check()
        try:
            reply = self._persist(lambda: self._read(self._create(request)), tab)
            return reply.model_copy(update={"faults": tuple(tab.faults)})
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise self._refused(error) from None
        except (openai.OpenAIError, HeldTooLong, ValueError) as error:
            if isinstance(error, openai.APIStatusError) and error.code == "insufficient_quota":
                raise self._refused(error) from None
            # Other 4xx errors are about this request (say, a prompt that is too long), and would recur.
            final = isinstance(error, openai.BadRequestError | openai.UnprocessableEntityError)
            return JudgeReply(text="", error=self._error_text(error), transient=not final, faults=tuple(tab.faults))

    def _create(self, request: JudgeRequest) -> object:
        """The parsed body of the server's answer. It is not parsed by the openai package, whose checks and objects cost
        more than the rest of the call."""
        options: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            "temperature": request.temperature,
        }
        if request.top_logprobs is not None:
            options |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        if request.top_p is not None:
            options["top_p"] = request.top_p
        client = self._connect()

        def create(**body: Any) -> object:
            return client.post("/chat/completions", cast_to=object, body=body)

        return self._limited(create, request.max_tokens, options)

    def _read(self, body: object) -> JudgeReply:
        """Raises ValueError for anything but a complete chat completion; such a body was not charged."""
        choices, usage = _at(body, "choices"), _at(body, "usage")
        tokens = [_at(usage, "prompt_tokens"), _at(usage, "completion_tokens")]
        counted = all(isinstance(n, int) and n >= 0 for n in tokens)
        if not isinstance(choices, list) or not (counted or isinstance(_at(choices, 0, "message"), Mapping)):
            detail = _at(body, "error", "message")
            raise ValueError(f"the server's reply is not a chat completion{f': {detail}' if detail else ''}")
        message = _at(choices, 0, "message")
        text = next((t for t in (_at(message, "content"), _at(message, "refusal")) if isinstance(t, str) and t), "")
        prompt_tokens, completion_tokens = tokens if counted else (0, 0)
        price = self.price.of(prompt_tokens, completion_tokens) if self.price and counted else None
        return JudgeReply(
            text=self._without_key(text.encode("utf-8", "replace").decode()),  # a lone surrogate can't be stored
            logprobs=_logprobs(_at(choices, 0, "logprobs", "content", 0, "top_logprobs")),
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            price=price,
        )


def _at(value: object, *path: str | int) -> Any:
    """The value at a path in nested JSON; None if there is no such path."""
    current: Any = value
    for step in path:
        try:
            current = current[step]
        except (KeyError, IndexError, TypeError):
            return None
    return current


def _logprobs(top: object) -> dict[str, float] | None:
    """Log-probabilities by token. For tokens without probability some servers write -9999, -inf or NaN; only the first
    is valid JSON."""
    if not isinstance(top, list):
        return None
    pairs = [(_at(entry, "token"), _at(entry, "logprob")) for entry in top]
    logprobs = {
        token.encode("utf-8", "replace").decode(): float(x) if math.isfinite(x) and x > -9999 else -9999.0
        for token, x in pairs
        if isinstance(token, str) and isinstance(x, int | float)
    }
    return logprobs or None
