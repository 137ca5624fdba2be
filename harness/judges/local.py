"""A local causal language model in process that answers from its logits."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PrivateAttr

from harness import chat, models
from harness.choices import ChoiceQuestion, choice_logps
from harness.components import Component, ModelReference
from harness.decoding import Job, decode_all
from harness.types import JudgeReply, JudgeRequest, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Local(Component):
    """A judge without a server or a key.

    A request with `choices` is answered by the exact log-probability of each whole choice as the continuation of the
    chat-templated prompt (the sum over its tokens), normalised over the choices; the reply's text is the most probable
    one, the first of equals. A request without choices is answered by generation: greedy at temperature 0, otherwise
    from a random stream of the prompt's own. Batches change speed, not replies (up to floating-point noise). A prompt
    that doesn't fit the model's window is a failed reply, never a cut one. Raises ModelError when the model can't be
    loaded.
    """

    unkeyed: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    model: ModelReference
    revision: str | None = None
    dtype: models.Dtype = "bfloat16"
    batch_size: int = Field(8, ge=1)
    _loaded: "tuple[PreTrainedModel, PreTrainedTokenizerBase] | None" = PrivateAttr(None)

    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype, **models.identity(self.model, self.revision)}

    def check(self) -> None:
        models.check(self.model, self.revision)

    def reply(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        """One reply a request, in order."""
        model, tokenizer = self._load()
        window = getattr(model.config, "max_position_embeddings", None) or math.inf
        replies: list[JudgeReply | None] = [None] * len(requests)
        asked: list[tuple[int, ChoiceQuestion]] = []
        free: list[tuple[int, list[int]]] = []
        for i, request in enumerate(requests):
            prompt = chat.encode_prompt(tokenizer, request.messages)
            choices = [list(tokenizer.encode(c, add_special_tokens=False)) for c in request.choices]
            if len(prompt) + max((len(c) for c in choices), default=1) > window:
                reason = f"prompt of {len(prompt)} tokens is longer than the judge's window of {window}"
                replies[i] = JudgeReply(text="", prompt_tokens=len(prompt), price=0.0, error=reason)
            elif choices:
                asked.append((i, ChoiceQuestion(prompt, choices)))
            else:
                free.append((i, prompt))
        self._answer_choices(model, requests, asked, replies)
        self._answer_freely(model, tokenizer, requests, free, replies)
        return [reply for reply in replies if reply is not None]

    def _load(self) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
        if self._loaded is None:
            tokenizer = models.load_tokenizer(self.model, self.revision)
            self._loaded = models.load_causal_lm(self.model, self.revision, self.dtype), tokenizer
        return self._loaded

    def _answer_choices(
        self,
        model: "PreTrainedModel",
        requests: Sequence[JudgeRequest],
        asked: list[tuple[int, ChoiceQuestion]],
        replies: list[JudgeReply | None],
    ) -> None:
        scored = choice_logps(model, [question for _, question in asked], batch_size=self.batch_size)
        for (i, question), logps in zip(asked, scored, strict=True):
            if not all(math.isfinite(x) for x in logps):
                replies[i] = JudgeReply(text="", price=0.0, error="the judge's log-probabilities are not finite")
                continue
            top = max(logps)
            norm = top + math.log(sum(math.exp(x - top) for x in logps))
            best = logps.index(top)
            replies[i] = JudgeReply(
                text=requests[i].choices[best],
                logprobs={c: x - norm for c, x in zip(requests[i].choices, logps, strict=True)},
                prompt_tokens=len(question.prompt),
                completion_tokens=len(question.choices[best]),
                price=0.0,
            )

    def _answer_freely(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        requests: Sequence[JudgeRequest],
        free: list[tuple[int, list[int]]],
        replies: list[JudgeReply | None],
    ) -> None:
        jobs = [
            Job(prompt, Sampling(temperature=requests[i].temperature, max_new_tokens=requests[i].max_tokens))
            for i, prompt in free
        ]
        decoded = decode_all(model, tokenizer, jobs, seed=0, batch_size=self.batch_size, advance=lambda _: None)
        for (i, prompt), completions in zip(free, decoded, strict=True):
            replies[i] = JudgeReply(
                text=completions[0].text,
                prompt_tokens=len(prompt),
                completion_tokens=completions[0].tokens,
                price=0.0,
            )
