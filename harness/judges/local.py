"""A local causal language model, run in process, that answers from its logits."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PrivateAttr

from harness.components import ModelReference
from harness.models import chat
from harness.models import load as models
from harness.models.batching import Job
from harness.models.choices import ChoiceQuestion, choice_logps
from harness.models.config import context_window
from harness.models.conversation import before_answers
from harness.models.decoding import decode_all
from harness.models.processor import AutoDtype
from harness.protocols import Judge
from harness.servers.messages import after_thoughts
from harness.servers.replies import why_empty
from harness.types import JudgeReply, JudgeRequest, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Local(Judge):
    """A local model as a judge, run in process: no server, no key.

    For a request with `choices`, it computes the exact log-probability of each whole choice as the continuation of the
    chat-templated prompt (the sum over its tokens), normalised over the choices; where the template opens a thought, it
    is closed first. The reply's text is the most probable choice, the first of equals. Other requests are answered by
    generation: greedy at temperature 0, otherwise with a random stream for each prompt and sample. The limit of a reply
    is the request's own, or `max_tokens` if that is larger. `batch_size` affects speed, not replies (up to
    floating-point noise). A prompt that doesn't fit the model's window gives a failed reply; it is never truncated.
    Raises ModelError if the model can't be loaded.
    """

    unkeyed: ClassVar[frozenset[str]] = frozenset({"batch_size"})
    needs: ClassVar[tuple[str, ...]] = ("torch", "transformers")

    model: ModelReference
    """A built-in name, a hub id, or a local folder."""
    revision: str | None = None
    """Of a hub id: a commit, tag or branch."""
    dtype: AutoDtype = Field("auto", validate_default=True)
    """Of the weights in memory; `auto`: bfloat16 where this machine is fast at it, else float32."""
    batch_size: int = Field(8, ge=1)
    """Requests per forward pass (speed and memory only)."""
    max_tokens: int | None = Field(None, ge=1)
    """Room for a thought, which is left out of the reply; None: the request's own limit."""
    _loaded: "tuple[PreTrainedModel, PreTrainedTokenizerBase] | None" = PrivateAttr(None)

    def models_in_process(self) -> list[str]:
        return [self.model]

    def identity(self) -> dict[str, Any]:
        model = models.identity(self.model, self.revision) | models.sampling_identity(self.model, self.revision)
        room = {"max_tokens": self.max_tokens} if self.max_tokens is not None else {}
        return {"name": self.name, "dtype": self.dtype, **model, **before_answers(self.model, self.revision), **room}

    @property
    def requests_at_once(self) -> int:
        return self.batch_size

    @property
    def model_name(self) -> str:
        return self.model

    def check(self) -> None:
        models.check(self.model, self.revision)

    def reply(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        """One reply per request, in order."""
        model, tokenizer = self._load()
        window = context_window(model) or math.inf
        replies: list[JudgeReply | None] = [None] * len(requests)
        questions: list[tuple[int, ChoiceQuestion]] = []
        open_prompts: list[tuple[int, list[int]]] = []
        for i, request in enumerate(requests):
            given = request.choices if request.asks != "last" else ()
            prompt = chat.encode_prompt(tokenizer, request.messages, answered=bool(given))
            choices = [list(tokenizer.encode(c, add_special_tokens=False)) for c in given]
            if len(prompt) + max((len(c) for c in choices), default=1) > window:
                reason = f"prompt of {len(prompt)} tokens is longer than the judge's window of {window}"
                replies[i] = JudgeReply(text="", prompt_tokens=len(prompt), price=0.0, error=reason)
            elif choices:
                questions.append((i, ChoiceQuestion(prompt, choices)))
            else:
                open_prompts.append((i, prompt))
        self._answer_choices(model, requests, questions, replies)
        self._generate_replies(model, tokenizer, requests, open_prompts, replies)
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
        questions: list[tuple[int, ChoiceQuestion]],
        replies: list[JudgeReply | None],
    ) -> None:
        scored = choice_logps(model, [question for _, question in questions], batch_size=self.batch_size)
        for (i, question), logps in zip(questions, scored, strict=True):
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

    def _generate_replies(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        requests: Sequence[JudgeRequest],
        open_prompts: list[tuple[int, list[int]]],
        replies: list[JudgeReply | None],
    ) -> None:
        jobs = [Job(prompt, self._sampling(requests[i]), (requests[i].sample,)) for i, prompt in open_prompts]
        decoded = decode_all(model, tokenizer, jobs, seed=0, batch_size=self.batch_size, advance=lambda _: None)
        for (i, prompt), (completion,) in zip(open_prompts, decoded, strict=True):
            parts = after_thoughts(completion.text, opened=completion.opened)
            cut, thought = completion.finish_reason == "length", bool(parts.thought.strip())
            empty = why_empty(completion.tokens, cut=cut, thought=thought, unfinished=parts.unfinished)
            replies[i] = JudgeReply(
                text=parts.answer,
                prompt_tokens=len(prompt),
                completion_tokens=completion.tokens,
                price=0.0,
                thought=len(parts.thought.strip()),
                cut=cut,
                unread=None if parts.answer.strip() else empty,
            )

    def _sampling(self, request: JudgeRequest) -> Sampling:
        limit = max(request.max_tokens, self.max_tokens or 0)
        return Sampling(temperature=request.temperature, max_new_tokens=limit)
