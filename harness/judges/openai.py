"""Any server with an OpenAI-compatible chat endpoint: a vendor, vLLM, `transformers serve`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from harness.errors import HarnessError, JudgeError
from harness.pace import HeldTooLong
from harness.served import Served
from harness.spending import Price, Tab
from harness.types import JudgeReply, JudgeRequest


class Openai(Served):
    """Asks a served model (see `harness.served` for the address, the key and the retries). What still fails after the
    retries is a reply with `error`; a key, address or model that is refused altogether raises JudgeError. The
    log-probabilities of a reply are those of its first token.

    A whole chat completion is a reply whatever is in it, for it was paid for: one without a text, choices or
    log-probabilities comes back as it is, for the benchmark to say that it can't be read.
    """

    role: ClassVar[str] = "judge"
    failure: ClassVar[type[HarnessError]] = JudgeError
    unkeyed: ClassVar[frozenset[str]] = Served.unkeyed | {"price"}
    resamples: ClassVar[bool] = True
    """Asked the same again, it may reply otherwise, even at temperature 0."""
    takes_tab: ClassVar[bool] = True

    price: Price | None = None
    """Goes before every price table."""

    def reply(self, requests: Sequence[JudgeRequest], tab: Tab | None = None) -> list[JudgeReply]:
        """One reply a request, in order. Raises JudgeError when the server refuses the key or the model, unless there
        are replies already: those are returned, with the rest as failed. `tab`: see `harness.spending`."""
        replies: list[JudgeReply] = []
        for request in requests:
            try:
                replies.append(self._reply(request, tab or Tab()))
            except JudgeError as error:
                if all(reply.error is not None for reply in replies):
                    raise
                failed = JudgeReply(text="", error=str(error), transient=True)
                return [*replies, *[failed] * (len(requests) - len(replies))]
        return replies

    def _reply(self, request: JudgeRequest, tab: Tab) -> JudgeReply:
        import openai

        self.check()
        try:
            read = self._persist(lambda: self._read(self._create(request)), tab)
            return read.model_copy(update={"faults": tuple(tab.faults)})
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise self._refused(error) from None
        except (openai.OpenAIError, HeldTooLong, ValueError) as error:
            if getattr(error, "code", None) == "insufficient_quota":
                raise self._refused(error) from None
            # The rest of 4xx is about this one request (a prompt that is too long, say), and stays so.
            final = isinstance(error, openai.BadRequestError | openai.UnprocessableEntityError)
            return JudgeReply(text="", error=self._told(error), transient=not final, faults=tuple(tab.faults))

    def _create(self, request: JudgeRequest) -> object:
        """The parsed body of the server's answer. It is read here rather than by the package, whose checks and objects
        cost more than all the rest of a call."""
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
        """Raises ValueError for what isn't a whole chat completion, which nobody has paid for."""
        choices, usage = _at(body, "choices"), _at(body, "usage")
        tokens = [_at(usage, "prompt_tokens"), _at(usage, "completion_tokens")]
        counted = all(isinstance(n, int) and n >= 0 for n in tokens)
        if not isinstance(choices, list) or not (counted or isinstance(_at(choices, 0, "message"), Mapping)):
            told = _at(body, "error", "message")
            raise ValueError(f"the server's reply is not a chat completion{f': {told}' if told else ''}")
        message = _at(choices, 0, "message")
        text = next((t for t in (_at(message, "content"), _at(message, "refusal")) if isinstance(t, str) and t), "")
        prompt_tokens, completion_tokens = tokens if counted else (0, 0)
        price = self.price.of(prompt_tokens, completion_tokens) if self.price and counted else None
        return JudgeReply(
            text=self._without_key(text.encode("utf-8", "replace").decode()),  # half a surrogate pair can't be kept
            logprobs=_logprobs(_at(choices, 0, "logprobs", "content", 0, "top_logprobs")),
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            price=price,
        )


def _at(value: object, *path: str | int) -> Any:
    """What is at a place in nested JSON, None where it has no such place."""
    found: Any = value
    for step in path:
        try:
            found = found[step]
        except (KeyError, IndexError, TypeError):
            return None
    return found


def _logprobs(top: object) -> dict[str, float] | None:
    """Log-probabilities by token. Some servers write -9999, -inf or NaN for what has no probability; JSON knows only
    the first."""
    if not isinstance(top, list):
        return None
    pairs = [(_at(entry, "token"), _at(entry, "logprob")) for entry in top]
    found = {
        token.encode("utf-8", "replace").decode(): float(x) if math.isfinite(x) and x > -9999 else -9999.0
        for token, x in pairs
        if isinstance(token, str) and isinstance(x, int | float)
    }
    return found or None
