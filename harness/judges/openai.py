"""Any server with an OpenAI-compatible chat endpoint: a vendor, vLLM, `transformers serve`."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from harness.errors import HarnessError, JudgeError
from harness.judges import _structured as structured
from harness.outside import parse_json
from harness.protocols import Judge
from harness.servers.adapting.chatting import ServedChat
from harness.servers.batches.batching import Batching
from harness.servers.faults import is_refusal
from harness.servers.pace import HeldTooLong
from harness.servers.replies import chat
from harness.servers.spending import Tab
from harness.types import FREE, JudgeReply, JudgeRequest, Price


class Openai(ServedChat, Batching, Judge):
    """Asks a served model (see `harness.servers.served` for the address, the key and the retries). A request that still
    fails after the retries gives a reply with `error`; a rejected key, address or model raises JudgeError. Thoughts are
    not part of a reply's text, and its log-probabilities are those of its answer's first token.

    `structured`: a request that has only a few well-formed replies asks for one of them as JSON, by `response_format`
    with a strict schema; the prompt stays as it is. A reply that is not that JSON can't be read.

    `mode: batch` sends all requests in batches, which cost less and take up to a day (`harness.judging.batches`).

    A complete chat completion is always a reply, since it was paid for. One without a text, choices or
    log-probabilities is returned as it is, and the benchmark reports that it can't be read.
    """

    role: ClassVar[str] = "judge"
    failure: ClassVar[type[HarnessError]] = JudgeError
    unkeyed: ClassVar[frozenset[str]] = ServedChat.unkeyed | Batching.unkeyed | {"price"}
    resamples: ClassVar[bool] = True
    is_metered: ClassVar[bool] = True

    price: Price | None = None
    """Overrides all price tables."""
    structured: bool = False
    """Ask for replies as JSON with a strict schema, where only a few are well-formed."""

    @property
    def model_name(self) -> str:
        return self.model

    def identity(self) -> dict[str, Any]:
        return super().identity() | ({"structured": True} if self.structured else {})

    def token_price(self, table: Mapping[str, Price]) -> Price | None:
        return self.price or (FREE if self.engine else table.get(self.model))

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
            reply = self._persist(lambda: self._create(request), tab)
            return reply.model_copy(update={"faults": tuple(tab.faults)})
        except (openai.OpenAIError, HeldTooLong, ValueError) as error:
            if is_refusal(error):
                raise self._refused(error) from None
            # Other 4xx errors are about this request (say, a prompt that is too long), and would recur, as would a
            # reply that was broken each time.
            final = isinstance(error, openai.BadRequestError | openai.UnprocessableEntityError | ValueError)
            return JudgeReply(text="", error=self._error_text(error), transient=not final, faults=tuple(tab.faults))

    def as_sent(self, request: JudgeRequest) -> JudgeRequest:
        in_json = structured.applies(request, self.structured)
        limit = structured.room(request) if in_json else request.max_tokens
        return request.model_copy(update={"max_tokens": self.room(limit)})

    def _create(self, request: JudgeRequest) -> JudgeReply:
        options: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            "temperature": request.temperature,
        }
        if request.function is not None:
            options |= parse_json(request.function)
        in_json = structured.applies(request, self.structured)
        if in_json:
            options["response_format"] = structured.response_format(request)
        if request.top_logprobs is not None and request.asks != "probability":
            options |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        if request.top_p is not None:
            options["top_p"] = request.top_p

        asked = options | {"max_tokens": self.as_sent(request).max_tokens}
        reply, notes = self._send("/chat/completions", asked, lambda body: self._read(body, request))
        return reply.model_copy(update={"adapted": (*reply.adapted, *notes)}) if notes else reply

    def _read(self, body: Any, request: JudgeRequest) -> JudgeReply:
        """Raises ValueError for anything but a complete chat completion."""
        in_json = structured.applies(request, self.structured)
        place = structured.place if in_json else _place
        reply = chat(body, self._without_key, lambda text: place(request, text))
        prompt_tokens, completion_tokens = reply.prompt_tokens, reply.completion_tokens
        counted = prompt_tokens is not None and completion_tokens is not None
        price = self.price.of(prompt_tokens or 0, completion_tokens or 0) if self.price and counted else None
        made = JudgeReply(
            text=reply.text,
            logprobs=reply.logprobs,
            prompt_tokens=prompt_tokens or 0,
            completion_tokens=completion_tokens or 0,
            price=price,
            model=reply.origin.model,
            fingerprint=reply.origin.fingerprint,
            thought=reply.thought,
            cut=reply.cut,
            unread=reply.unread,
        )
        if not in_json:
            return made
        return made.model_copy(update={"adapted": ("structured output",), **structured.read(request, reply)})


def _place(request: JudgeRequest, answer: str) -> int | None:
    """Where in an answer its choice begins: at its start, or, where it stands last, at its last characters."""
    if request.asks != "last":
        return 0
    text = answer.rstrip()
    return next((len(text) - len(choice) for choice in request.choices if text.endswith(choice)), None)
