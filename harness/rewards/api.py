"""A reward model behind an HTTP endpoint."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from harness.components import ModelReference
from harness.errors import ModelError
from harness.models import chat
from harness.models.conversation import scored_model
from harness.models.load import load_tokenizer
from harness.models.templates.checking import check_prompts
from harness.protocols import Ready, RewardModel
from harness.servers.adapting.refusals import about_length
from harness.servers.faults import is_refusal
from harness.servers.pace import HeldTooLong
from harness.servers.replies import numbers
from harness.servers.served import Served
from harness.servers.spending import Tab
from harness.types import Advance, Message, Messages, PreferencePair

PATHS = {"classify": "/classify", "pooling": "/pooling", "openrlhf": "/get_reward"}
PROBE_SIZE = 8
"""Responses that are scored first, and checked before any score is kept."""


class Api(Served, RewardModel):
    """Asks a server for the score of each response separately, `concurrency` at a time (see `harness.servers.served`
    for engines, the key and the retries). `base_url` is the server's root, without the endpoint.

    `format`: `classify` (`/classify` of vLLM and SGLang; it requests logits, not probabilities), `pooling` (`/pooling`
    of vLLM; if it returns a vector per token, the last one counts), `openrlhf` (`/get_reward` of OpenRLHF's
    `serve_rm`). The first two receive the conversation, and the server applies its own chat template; with `tokenizer`
    (a hub id or a folder) they receive token ids. `openrlhf` receives text, and needs `tokenizer`. `weights`: for a
    model with several outputs; the score is their weighted sum.

    A response that the server rejects (say, as too long for its window) is not scored, nor is one whose score is not
    finite. A server that rejects all, for another reason than their length, raises ModelError. Requests that still fail
    after the retries raise it once all other scores have arrived; those are kept.
    """

    role: ClassVar[str] = "reward model"
    unkeyed: ClassVar[frozenset[str]] = Served.unkeyed | {"concurrency"}

    _engine_path: ClassVar[str] = ""
    base_url: str | None = Field(min_length=1)
    format: Literal["classify", "pooling", "openrlhf"] = "classify"
    tokenizer: ModelReference | None = Field(None, validate_default=True)
    revision: str | None = None
    """The tokenizer's."""
    weights: tuple[float, ...] = ()
    concurrency: int = Field(16, ge=1, le=512)

    @field_validator("base_url")
    @classmethod
    def _is_somewhere(cls, value: str | None, info: Any) -> str | None:
        if value is None and info.data.get("engine") is None:
            raise PydanticCustomError("missing", "Field required")
        return value

    @field_validator("tokenizer")
    @classmethod
    def _openrlhf_needs_a_tokenizer(cls, value: str | None, info: Any) -> str | None:
        if value is None and info.data.get("format") == "openrlhf":
            raise ValueError("openrlhf needs the reward model's tokenizer: a hub id or a folder")
        return value

    def identity(self) -> dict[str, Any]:
        tokenizer = {"tokenizer": scored_model(self.tokenizer, self.revision)} if self.tokenizer else {}
        return {**super().identity(), "format": self.format, "weights": list(self.weights), **tokenizer}

    def check_prompts(self, prompts: Sequence[Messages], fold: bool) -> None:
        if self.tokenizer is not None:
            check_prompts(self.tokenizer, self.revision, prompts, fold)

    def fit(self, pairs: Sequence[PreferencePair], folder: Path, *, seed: int, advance: Advance) -> dict[str, Any]:
        """Nothing to train."""
        return {}

    def score(self, rows: Sequence[tuple[Messages, str]], ready: Ready) -> list[float | None]:
        """Raises ModelError for a server that rejects all of the first responses or most of all, or that returns the
        probability of the only class, which is always 1."""
        self.check()
        bodies = self._bodies(rows)
        scores: dict[int, float | None] = {}
        failures: list[str] = []
        refused: list[Exception] = []

        def score_one(i: int, *, keep: bool = True) -> None:
            try:
                scores[i] = self._score(bodies[i], refused)
            except _ScoreError as error:
                failures.append(str(error))
                return
            if keep and scores[i] is not None:
                ready.keep([(i, scores[i])])
            ready.advance(1)

        first, rest = range(min(PROBE_SIZE, len(rows))), range(min(PROBE_SIZE, len(rows)), len(rows))
        self._in_threads(lambda i: score_one(i, keep=False), first)
        if len(scores) > 1 and set(scores.values()) == {1.0} and not self.weights:
            raise ModelError(
                f"reward model '{self.name}': {self.model} gives every response the score 1, as a softmax over one "
                "output does: make the server return logits (vLLM: use_activation false in its pooler's settings)"
            )
        if refused and all(score is None for score in scores.values()):
            raise self._refused(refused[0])
        if not scores:
            self._require(failures, rows)
        ready.keep([(i, score) for i, score in scores.items() if score is not None])
        self._in_threads(score_one, rest)
        self._require(failures, rows)
        if 2 * len(refused) > len(rows):
            raise self._refused(refused[0])  # that is not about a few long responses
        ready.keep([(i, None) for i, score in scores.items() if score is None])
        return [scores[i] for i in range(len(rows))]

    def _require(self, failures: Sequence[str], rows: Sequence[Any]) -> None:
        if failures:
            raise ModelError(
                f"reward model '{self.name}': {len(failures)} of {len(rows)} responses could not be scored by "
                f"{self.model} ({failures[0]}); the other scores are kept: run again"
            )

    def _in_threads(self, score_one: Callable[[int], None], indices: Sequence[int]) -> None:
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="reward")
        try:
            futures = [pool.submit(score_one, i) for i in indices]
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _bodies(self, rows: Sequence[tuple[Messages, str]]) -> list[dict[str, Any]]:
        """The request body for each row."""
        options: dict[str, Any] = {"model": self.model}
        if self.format == "classify":
            # `activation` is the name in older versions of vLLM.
            options |= {"use_activation": False, "activation": False}
        if self.tokenizer is None:
            chats = [[*messages, Message(role="assistant", content=text)] for messages, text in rows]
            return [options | {"messages": [m.model_dump() for m in c], "add_generation_prompt": False} for c in chats]
        tokenizer = load_tokenizer(self.tokenizer, self.revision)
        ids = [
            (chat.encode_prompt(tokenizer, m, answered=True), chat.encode_response(tokenizer, text)) for m, text in rows
        ]
        if self.format == "openrlhf":
            return [{"query": [tokenizer.decode(p + r)], "prompts": [tokenizer.decode(p)]} for p, r in ids]
        return [options | {"input": prompt + response} for prompt, response in ids]

    def _score(self, body: dict[str, Any], refused: list[Exception]) -> float | None:
        """None for a response that is not scored. `refused` gets the error if the server refuses it for another reason
        than its length."""
        import openai

        try:
            outputs, _ = self._persist(lambda: self._send(PATHS[self.format], body, self._outputs), Tab())
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if not about_length(str(error.body)):
                refused.append(error)
            return None
        except (openai.OpenAIError, HeldTooLong, ValueError) as error:  # ValueError: a broken reply
            if is_refusal(error):
                raise self._refused(error) from None
            raise _ScoreError(self._error_text(error)) from None
        weights = self.weights or (1.0,)
        if len(outputs) != len(weights):
            count = f"{len(outputs)} outputs" if len(outputs) != 1 else "one output"
            raise self.failure(
                f"reward model '{self.name}': {self.model} has {count}; expected {len(weights)}: set `weights`, one "
                "per output"
            )
        score = sum(w * x for w, x in zip(weights, outputs, strict=True))
        return score if math.isfinite(score) else None

    def _outputs(self, reply: Any) -> list[float]:
        """The outputs for a response. Raises ValueError for a reply of another form."""
        try:
            if self.format == "openrlhf":
                (value,) = reply["rewards"]
            else:
                (row,) = reply["data"]
                value = row["probs"] if self.format == "classify" else row["data"]
                if self.format == "pooling" and value and isinstance(value[0], list):
                    value = value[-1]
            return numbers(value)
        except (KeyError, TypeError, ValueError):
            excerpt = " ".join(str(reply).split())[:120]
            raise ValueError(f"the reply is not that of {PATHS[self.format]}: {excerpt}") from None


class _ScoreError(Exception):
    """A score that could not be computed; a later attempt may succeed."""
