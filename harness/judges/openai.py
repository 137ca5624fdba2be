"""Any server with an OpenAI-compatible chat endpoint: a vendor, vLLM, `transformers serve`."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from harness.errors import HarnessError, JudgeError
from harness.protocols import Judge
from harness.servers.faults import is_refusal
from harness.servers.pace import HeldTooLong
from harness.servers.replies import chat
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
            reply = self._persist(lambda: self._create(request), tab)
            return reply.model_copy(update={"faults": tuple(tab.faults)})
        except (openai.OpenAIError, HeldTooLong, ValueError) as error:
            if is_refusal(error):
                raise self._refused(error) from None
            # Other 4xx errors are about this request (say, a prompt that is too long), and would recur, as would a
            # reply that was broken each time.
            final = isinstance(error, openai.BadRequestError | openai.UnprocessableEntityError | ValueError)
            return JudgeReply(text="", error=self._error_text(error), transient=not final, faults=tuple(tab.faults))

    def _create(self, request: JudgeRequest) -> JudgeReply:
        options: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            "temperature": request.temperature,
        }
        if request.top_logprobs is not None:
            options |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        if request.top_p is not None:
            options["top_p"] = request.top_p

        def create(body: dict[str, Any]) -> JudgeReply:
            return self._post("/chat/completions", body, self._read)

        return self._limited(create, request.max_tokens, options)

    def _read(self, body: Any) -> JudgeReply:
        """Raises ValueError for anything but a complete chat completion."""
        reply = chat(body, self._without_key)
        prompt_tokens, completion_tokens = reply.prompt_tokens, reply.completion_tokens
        counted = prompt_tokens is not None and completion_tokens is not None
        price = self.price.of(prompt_tokens or 0, completion_tokens or 0) if self.price and counted else None
        return JudgeReply(
            text=reply.text,
            logprobs=reply.logprobs,
            prompt_tokens=prompt_tokens or 0,
            completion_tokens=completion_tokens or 0,
            price=price,
            model=reply.origin.model,
            fingerprint=reply.origin.fingerprint,
        )
