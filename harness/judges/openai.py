"""Any server with an OpenAI-compatible chat endpoint: a vendor, vLLM, `transformers serve`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from harness.errors import HarnessError, JudgeError
from harness.served import Served
from harness.types import JudgeReply, JudgeRequest

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion


class Price(BaseModel):
    """Dollars for a million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: float = Field(ge=0)
    output: float = Field(ge=0)


class Openai(Served):
    """Asks a served model (see `harness.served` for the address, the key and the retries). What still fails after the
    retries is a reply with `error`; a key, address or model that is refused altogether raises JudgeError. The
    log-probabilities of a reply are those of its first token.
    """

    role: ClassVar[str] = "judge"
    failure: ClassVar[type[HarnessError]] = JudgeError
    unkeyed: ClassVar[frozenset[str]] = Served.unkeyed | {"price"}

    price: Price | None = None

    def reply(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        """One reply a request, in order. Raises JudgeError when the server refuses the key or the model."""
        return [self._reply(request) for request in requests]

    def _reply(self, request: JudgeRequest) -> JudgeReply:
        import openai

        self.check()
        try:
            return self._read(self._create(request))
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise self._refused(error) from None
        except (openai.OpenAIError, ValueError) as error:  # ValueError: a reply that is not JSON
            # The rest of 4xx is about this one request (a prompt that is too long, say), and stays so.
            final = isinstance(error, openai.BadRequestError | openai.UnprocessableEntityError)
            return JudgeReply(text="", error=self._told(error), transient=not final)

    def _create(self, request: JudgeRequest) -> "ChatCompletion":
        options: dict[str, Any] = {
            "model": self.model,
            "messages": [m.model_dump() for m in request.messages],
            "temperature": request.temperature,
        }
        if request.top_logprobs is not None:
            options |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        made: ChatCompletion = self._limited(self._connect().chat.completions.create, request.max_tokens, options)
        return made

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
