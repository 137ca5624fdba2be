"""A reward model behind an HTTP endpoint."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from harness.components import ModelReference
from harness.errors import ModelError
from harness.models import chat
from harness.models.classifier import classifier_ids, reads_pairs
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
from harness.serving.engine import NAMING
from harness.types import Advance, Message, Messages, PreferencePair

PATHS = {"classify": "/classify", "pooling": "/pooling", "sglang": "/classify", "openrlhf": "/get_reward"}
PROBE_SIZE = 8
"""Responses that are scored first, and checked before any score is kept."""
ACTIVATES = {"classify", "pooling"}
"""Formats whose request says whether outputs go through a sigmoid or a softmax."""
SAME = 1e-3
"""Outputs that differ by less are taken to be the same."""


class Api(Served, RewardModel):
    """Asks a server for the score of each response separately, `concurrency` at a time (see `harness.servers.served`
    for engines, the key and the retries).

    `format`: `classify` (`/classify` of vLLM), `pooling` (`/pooling` of vLLM; if it returns a vector per token, the
    last one counts), `sglang` (`/classify` of SGLang), `openrlhf` (`/get_reward` of OpenRLHF's `serve_rm`). With
    `tokenizer` (a hub id or a folder; by default the model of an engine that is vLLM or SGLang) they receive token ids,
    those of `sequence_classifier`, cut to `max_length` tokens as there (None: not cut); without, `classify` and
    `pooling` receive the conversation, and the server applies its own chat template. `openrlhf` receives text, and
    needs `tokenizer`, as `sglang` does. `weights`: for a model with several outputs; the score is their weighted sum.

    The score is the model's own output, not a probability: `classify` and `pooling` ask for no activation, and outputs
    that all lie in [0, 1] are compared with those that are asked for with it. A server that gives the same both times
    raises ModelError, as does one of `sglang`, which can't be asked, for eight such outputs; `bounded` says that the
    model's own outputs lie there.

    A response that the server rejects (say, as too long for its window) is not scored, nor is one whose score is not
    finite. A server that rejects all, for another reason than their length, raises ModelError. Requests that still fail
    after the retries raise it once all other scores have arrived; those are kept.
    """

    role: ClassVar[str] = "reward model"
    unkeyed: ClassVar[frozenset[str]] = Served.unkeyed | {"concurrency", "bounded"}

    _engine_path: ClassVar[str] = ""
    base_url: str | None = Field(min_length=1)
    """The server's root, without the endpoint."""
    format: Literal["classify", "pooling", "sglang", "openrlhf"] = "classify"
    """The endpoint: vLLM's `classify` or `pooling`, SGLang's (`sglang`), or that of OpenRLHF's `serve_rm`
    (`openrlhf`)."""
    tokenizer: ModelReference | None = Field(None, validate_default=True)
    """A hub id or a folder, whose token ids are sent; None: that of an engine, else conversations are sent as text."""
    revision: str | None = None
    """The tokenizer's."""
    max_length: int | None = Field(None, ge=16)
    """Tokens to which a text is cut; None: it is not cut. It needs a tokenizer."""
    weights: tuple[float, ...] = ()
    """Of the outputs of a model that has several; the score is their weighted sum."""
    bounded: bool = False
    """Say that the model's own outputs lie in [0, 1], so that they aren't taken for probabilities."""
    concurrency: int = Field(16, ge=1, le=512)
    """Calls that are under way at a time."""

    @field_validator("base_url")
    @classmethod
    def _is_somewhere(cls, value: str | None, info: Any) -> str | None:
        if value is None and info.data.get("engine") is None:
            raise PydanticCustomError("missing", "Field required")
        return value

    @field_validator("tokenizer")
    @classmethod
    def _is_known_where_needed(cls, value: str | None, info: Any) -> str | None:
        named, form = info.data.get("engine"), info.data.get("format")
        if value is None and named is not None and named.engine.name in NAMING:
            return str(named.engine.model)
        if value is None and form in ("sglang", "openrlhf"):
            raise ValueError(f"{form} needs the reward model's tokenizer: a hub id or a folder")
        return value

    @field_validator("max_length")
    @classmethod
    def _is_counted_here(cls, value: int | None, info: Any) -> int | None:
        if value is not None and info.data.get("tokenizer") is None:
            raise ValueError("max_length needs `tokenizer`, to count tokens: a hub id or a folder")
        return value

    def identity(self) -> dict[str, Any]:
        tokenizer = {"tokenizer": scored_model(self.tokenizer, self.revision)} if self.tokenizer else {}
        cut = {"max_length": self.max_length} if self.max_length is not None else {}
        return {**super().identity(), "format": self.format, "weights": list(self.weights), **tokenizer, **cut}

    def check_prompts(self, prompts: Sequence[Messages], fold: bool) -> None:
        if self.tokenizer is not None:
            check_prompts(self.tokenizer, self.revision, prompts, fold)

    def fit(self, pairs: Sequence[PreferencePair], folder: Path, *, seed: int, advance: Advance) -> dict[str, Any]:
        """Nothing to train."""
        return {}

    def score(self, rows: Sequence[tuple[Messages, str]], ready: Ready) -> list[float | None]:
        """Raises ModelError for a server that rejects all of the first responses or most of all, or that may return
        probabilities."""
        self.check()
        bodies = self._bodies(rows)
        outputs: dict[int, list[float] | None] = {}
        failures: list[str] = []
        refused: list[Exception] = []

        def score_one(i: int, *, keep: bool = True) -> None:
            try:
                outputs[i] = self._answer(bodies[i], refused)
            except _ScoreError as error:
                failures.append(str(error))
                return
            if keep and (score := self._combined(outputs[i])) is not None:
                ready.keep([(i, score)])
            ready.advance(1)

        first, rest = range(min(PROBE_SIZE, len(rows))), range(min(PROBE_SIZE, len(rows)), len(rows))
        self._in_threads(lambda i: score_one(i, keep=False), first)
        if refused and all(given is None for given in outputs.values()):
            raise self._refused(refused[0])
        if not outputs:
            self._require(failures, rows)
        self._require_raw(bodies, {i: given for i, given in outputs.items() if given is not None})
        scores = {i: self._combined(given) for i, given in outputs.items()}
        ready.keep([(i, score) for i, score in scores.items() if score is not None])
        self._in_threads(score_one, rest)
        self._require(failures, rows)
        if 2 * len(refused) > len(rows):
            raise self._refused(refused[0])  # that is not about a few long responses
        scores = {i: self._combined(given) for i, given in outputs.items()}
        ready.keep([(i, None) for i, score in scores.items() if score is None])
        return [scores[i] for i in range(len(rows))]

    def _require_raw(self, bodies: Sequence[dict[str, Any]], first: dict[int, list[float]]) -> None:
        """Raises ModelError if outputs may be probabilities."""
        found = [x for given in first.values() for x in given]
        if self.bounded or self.format == "openrlhf" or not found or not all(0 <= x <= 1 for x in found):
            return
        if self.format == "sglang" and len(found) < PROBE_SIZE:
            return  # its own scores may be such by chance, and it can't be asked for others
        if self.format in ACTIVATES:
            squashed: dict[int, list[float] | None] = {}

            def ask(i: int) -> None:
                with suppress(_ScoreError):
                    squashed[i] = self._answer(bodies[i] | {"use_activation": True, "activation": True}, [])

            self._in_threads(ask, list(first))
            pairs = (
                (x, y) for i, given in first.items() for x, y in zip(given, squashed.get(i) or given, strict=False)
            )
            if any(abs(x - y) > SAME for x, y in pairs):
                return
        raise self.failure(
            f"reward model '{self.name}': {self.model}'s outputs all lie between 0 and 1, so they may be probabilities "
            "instead of its own scores: have the server return logits (vLLM: "
            """--pooler-config '{"use_activation": false}'), or set bounded: true if its own scores lie there"""
        )

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
        if self.format in ACTIVATES:
            # `activation` is the name in older versions of vLLM.
            options |= {"use_activation": False, "activation": False}
        if self.tokenizer is None:
            chats = [[*messages, Message(role="assistant", content=text)] for messages, text in rows]
            return [options | {"messages": [m.model_dump() for m in c], "add_generation_prompt": False} for c in chats]
        tokenizer = load_tokenizer(self.tokenizer, self.revision)
        if reads_pairs(tokenizer):
            raise self.failure(
                f"reward model '{self.name}': {self.tokenizer} is an encoder, which reads two texts, and "
                f"{PATHS[self.format]} takes one: score in process, by {{name: sequence_classifier}}"
            )
        if self.format == "openrlhf":
            parts = [
                (chat.encode_prompt(tokenizer, messages, answered=True), chat.encode_response(tokenizer, text))
                for messages, text in rows
            ]
            return [{"query": [tokenizer.decode(p + r)], "prompts": [tokenizer.decode(p)]} for p, r in parts]
        ids = [classifier_ids(tokenizer, messages, text, self.max_length or 1 << 30)[0] for messages, text in rows]
        name = "input_ids" if self.format == "sglang" else "input"
        return [options | {name: row} for row in ids]

    def _answer(self, body: dict[str, Any], refused: list[Exception]) -> list[float] | None:
        """The outputs for a response; None if the server refuses it. `refused` gets the error if that is for another
        reason than its length."""
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
        if len(outputs) != (expected := len(self.weights or (1.0,))):
            count = f"{len(outputs)} outputs" if len(outputs) != 1 else "one output"
            raise self.failure(
                f"reward model '{self.name}': {self.model} has {count}; expected {expected}: set `weights`, one per "
                "output"
            )
        return outputs

    def _combined(self, outputs: list[float] | None) -> float | None:
        """The score; None for a response that is not scored."""
        if outputs is None:
            return None
        score = sum(w * x for w, x in zip(self.weights or (1.0,), outputs, strict=True))
        return score if math.isfinite(score) else None

    def _outputs(self, reply: Any) -> list[float]:
        """The outputs for a response. Raises ValueError for a reply of another form."""
        try:
            if self.format == "openrlhf":
                (value,) = reply["rewards"]
            elif self.format == "sglang":
                value = (reply[0] if isinstance(reply, list) else reply)["embedding"]
            else:
                (row,) = reply["data"]
                value = row["probs"] if self.format == "classify" else row["data"]
                if self.format == "pooling" and value and isinstance(value[0], list):
                    value = value[-1]
            return numbers(value)
        except (IndexError, KeyError, TypeError, ValueError):
            excerpt = " ".join(str(reply).split())[:120]
            raise ValueError(f"the reply is not that of {PATHS[self.format]}: {excerpt}") from None


class _ScoreError(Exception):
    """A score that could not be computed; a later attempt may succeed."""
