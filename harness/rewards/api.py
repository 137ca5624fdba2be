"""A reward model behind an HTTP endpoint."""

import math
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from harness import chat, models
from harness.components import ModelReference
from harness.errors import ModelError
from harness.pace import HeldTooLong
from harness.protocols import Ready
from harness.served import Served
from harness.spending import Tab
from harness.types import Advance, Message, Messages, PreferencePair

PATHS = {"classify": "/classify", "pooling": "/pooling", "openrlhf": "/get_reward"}
PROBED = 8
"""Responses that are scored first, before any score is kept."""


class Api(Served):
    """Asks a server for the score of every response by itself, `concurrency` at a time (see `harness.served` for the
    key and the retries). `base_url` is the server's root, without the endpoint.

    `format`: `classify` (`/classify` of vLLM and SGLang; logits are asked for, not probabilities), `pooling`
    (`/pooling` of vLLM; of several vectors, one a token, the last counts), `openrlhf` (`/get_reward` of OpenRLHF's
    `serve_rm`). The first two are sent the conversation, and the server's own chat template makes the text; with
    `tokenizer` (a hub id or a folder) they are sent its token ids. `openrlhf` is sent text, and needs it.
    `weights`: of the outputs of a model with several; the score is their weighted sum.

    A response that the server refuses (too long for its window, say) and one whose score is not a finite number are not
    scored. What still fails after the retries raises ModelError once all other scores have arrived: they are kept.
    """

    role: ClassVar[str] = "reward model"
    unkeyed: ClassVar[frozenset[str]] = Served.unkeyed | {"concurrency"}

    base_url: str = Field(min_length=1)
    format: Literal["classify", "pooling", "openrlhf"] = "classify"
    tokenizer: ModelReference | None = Field(None, validate_default=True)
    revision: str | None = None
    """The tokenizer's."""
    weights: tuple[float, ...] = ()
    concurrency: int = Field(16, ge=1, le=512)

    @field_validator("tokenizer")
    @classmethod
    def _texts_are_made_here(cls, value: str | None, info: Any) -> str | None:
        if value is None and info.data.get("format") == "openrlhf":
            raise ValueError("openrlhf is sent texts: name the reward model's tokenizer, a hub id or a folder")
        return value

    def identity(self) -> dict[str, Any]:
        tokenizer = {"tokenizer": models.identity(self.tokenizer, self.revision)} if self.tokenizer else {}
        return {**super().identity(), "format": self.format, "weights": list(self.weights), **tokenizer}

    def fit(self, pairs: Sequence[PreferencePair], folder: Path, *, seed: int, advance: Advance) -> dict[str, Any]:
        """Nothing to train."""
        return {}

    def score(self, rows: Sequence[tuple[Messages, str]], ready: Ready) -> list[float | None]:
        """Raises ModelError for a server that refuses altogether, or that gives the probability of the one class there
        is, which is 1 whatever the response."""
        self.check()
        bodies = self._bodies(rows)
        found: dict[int, float | None] = {}
        failures: list[str] = []

        def one(place: int, *, keep: bool = True) -> None:
            try:
                found[place] = self._score(bodies[place])
            except _Failed as error:
                failures.append(str(error))
                return
            if keep:
                ready.keep([(place, found[place])])
            ready.advance(1)

        first, rest = range(min(PROBED, len(rows))), range(min(PROBED, len(rows)), len(rows))
        self._in_threads(lambda place: one(place, keep=False), first)
        if len(found) > 1 and set(found.values()) == {1.0} and not self.weights:
            raise ModelError(
                f"reward model '{self.name}': {self.model} gives every response the score 1, as a softmax over one "
                "output does: have the server return logits (vLLM: use_activation false in its pooler's settings)"
            )
        ready.keep(list(found.items()))
        self._in_threads(one, rest)
        if failures:
            raise ModelError(
                f"reward model '{self.name}': {len(failures)} of {len(rows)} responses could not be scored by "
                f"{self.model} ({failures[0]}); the other scores are kept: run again"
            )
        return [found[place] for place in range(len(rows))]

    def _in_threads(self, one: Any, places: Sequence[int]) -> None:
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="reward")
        try:
            futures = [pool.submit(one, place) for place in places]
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _bodies(self, rows: Sequence[tuple[Messages, str]]) -> list[dict[str, Any]]:
        """What is sent for each row."""
        options: dict[str, Any] = {"model": self.model}
        if self.format == "classify":
            # The second is what older versions of vLLM call it.
            options |= {"use_activation": False, "activation": False}
        if self.tokenizer is None:
            chats = [[*messages, Message(role="assistant", content=text)] for messages, text in rows]
            return [options | {"messages": [m.model_dump() for m in c], "add_generation_prompt": False} for c in chats]
        tokenizer = models.load_tokenizer(self.tokenizer, self.revision)
        ids = [(chat.encode_prompt(tokenizer, m), chat.encode_response(tokenizer, text)) for m, text in rows]
        if self.format == "openrlhf":
            return [{"query": [tokenizer.decode(p + r)], "prompts": [tokenizer.decode(p)]} for p, r in ids]
        return [options | {"input": prompt + response} for prompt, response in ids]

    def _score(self, body: dict[str, Any]) -> float | None:
        import httpx
        import openai

        try:
            client, path = self._connect(), PATHS[self.format]
            outputs = self._outputs(
                self._persist(lambda: client.post(path, body=body, cast_to=httpx.Response).json(), Tab())
            )
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise self._refused(error) from None
        except (openai.BadRequestError, openai.UnprocessableEntityError):
            return None
        except (openai.OpenAIError, HeldTooLong, ValueError) as error:  # ValueError: a reply that is not JSON
            raise _Failed(self._told(error)) from None
        weights = self.weights or (1.0,)
        if len(outputs) != len(weights):
            what = f"{len(outputs)} outputs" if len(outputs) != 1 else "one output"
            raise self.failure(
                f"reward model '{self.name}': {self.model} has {what}; expected {len(weights)}: give `weights`, one an "
                "output"
            )
        score = sum(w * x for w, x in zip(weights, outputs, strict=True))
        return score if math.isfinite(score) else None

    def _outputs(self, reply: Any) -> list[float]:
        """A response's outputs. Raises ValueError for a reply of another shape."""
        try:
            if self.format == "openrlhf":
                (value,) = reply["rewards"]
            else:
                (row,) = reply["data"]
                value = row["probs"] if self.format == "classify" else row["data"]
                if self.format == "pooling" and value and isinstance(value[0], list):
                    value = value[-1]
            return [math.nan if x is None else float(x) for x in (value if isinstance(value, list) else [value])]
        except (KeyError, TypeError, ValueError):
            said = " ".join(str(reply).split())[:120]
            raise ValueError(f"the reply is not that of {PATHS[self.format]}: {said}") from None


class _Failed(Exception):
    """A score that could not be had, for now."""
