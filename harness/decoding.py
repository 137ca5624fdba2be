"""Sampling from a causal language model in process: batched, prompt computed once for its N samples.

Every sample draws from a random stream of its own, keyed by (seed, prompt, index of the sample). So a sample does not
depend on which others share its batch or on N, but for the floating-point noise of batched matrix products: the first
two of N=4 are those of N=2, and batch size stays out of stage keys.
The same jobs in the same batches give the same texts on the same machine, in every type.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.batching import Job, Placed, batches, in_order, room_for
from harness.chat import end_of_turn
from harness.errors import ModelError
from harness.kv_cache import make_room, without_gaps
from harness.protocols import Arrived, Sampled
from harness.sampling import Sampler, stream
from harness.types import Advance, Completion, FinishReason, Sampling

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Job", "decode", "decode_all"]

FEWER = 0.9
"""Finished rows leave the batch once no more than this share goes on."""

_log = logging.getLogger(__name__)


class _Row(NamedTuple):
    """One sample that is wanted."""

    place: int
    prompt: list[int]
    sampling: Sampling
    sample: int


def decode(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    wanted: Sequence[Job],
    *,
    seed: int,
    batch_size: int | None,
    arrived: Arrived,
) -> None:
    """Hands the wanted samples over batch by batch. `batch_size`: sequences in one forward at most, None: as the model
    and the device allow; it changes speed and memory, not the samples. A batch that doesn't fit in memory is halved;
    raises ModelError where one sequence doesn't. A prompt that leaves no room in the model's window gets empty
    completions that ended by length."""
    import torch

    decoder = _Decoder(model, tokenizer, seed)
    with torch.inference_mode():
        for batch in batches(in_order(wanted), room_for(model, batch_size)):
            arrived(decoder.batch(batch))


def decode_all(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    jobs: Sequence[Job],
    *,
    seed: int,
    batch_size: int | None,
    advance: Advance,
) -> list[list[Completion]]:
    """What `decode` hands over, as a list: the wanted samples of every job, in order."""
    done: dict[tuple[int, int], Completion] = {}

    def arrived(rows: Sequence[Sampled]) -> None:
        done.update({(row.request, row.sample): row.completion for row in rows})
        advance(len(rows))

    decode(model, tokenizer, jobs, seed=seed, batch_size=batch_size, arrived=arrived)
    return [[done[i, k] for k in job.samples] for i, job in enumerate(jobs)]


class _Ending:
    """Where a model's turn ends: at its end tokens, and at the `stop` texts of a sampling."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer
        self.tokens = {end_of_turn(tokenizer), tokenizer.eos_token_id} - {None}

    def reached(self, written: list[int], limit: int, stop: tuple[str, ...]) -> bool:
        if len(written) >= limit or (written and written[-1] in self.tokens):
            return True
        if not stop or not written:
            return False
        # A stop of n characters has at most n bytes of UTF-8 a character in as many tokens; some more for what a
        # tokenizer writes differently at the beginning of a text.
        tail = self._text(written[-(4 * max(map(len, stop)) + 8) :])
        return any(text in tail for text in stop)

    def completion(self, written: list[int], sampling: Sampling) -> Completion:
        ended = bool(written) and written[-1] in self.tokens
        text = self._text(written[:-1] if ended else written)
        cuts = [at for stop in sampling.stop if (at := text.find(stop)) >= 0]
        reason: FinishReason = "stop" if ended or cuts else "length"
        return Completion(text=text[: min(cuts)] if cuts else text, finish_reason=reason, tokens=len(written))

    def _text(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))


class _Decoder:
    """A model, and what is known of it."""

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", seed: int) -> None:
        self._model = model
        self._seed = seed
        self._ending = _Ending(tokenizer)
        self._window = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30
        self._too_large: int | None = None
        """Tokens of the smallest batch that didn't fit."""

    def batch(self, batch: Sequence[Placed]) -> list[Sampled]:
        """All samples of a batch."""
        rows = [_Row(place, job.prompt, job.sampling, k) for place, job in batch for k in job.samples]
        none = Completion(text="", finish_reason="length", tokens=0)
        done = [Sampled(row.place, row.sample, none) for row in rows if self._limit(row) <= 0]
        rows = [row for row in rows if self._limit(row) > 0]
        for row, tokens in zip(rows, self._what_fits(rows) if rows else [], strict=True):
            done.append(Sampled(row.place, row.sample, self._ending.completion(tokens, row.sampling)))
        return done

    def _limit(self, row: _Row) -> int:
        """How many tokens may be written."""
        return min(row.sampling.max_new_tokens, self._window - len(row.prompt))

    def _what_fits(self, rows: Sequence[_Row]) -> list[list[int]]:
        """`_written`, in halves where the whole doesn't fit in memory. What is as large as a batch that didn't is
        halved without another try."""
        tokens = len(rows) * (max(len(row.prompt) for row in rows) + max(map(self._limit, rows)))
        if len(rows) == 1 or self._too_large is None or tokens < self._too_large:
            try:
                return self._written(rows)
            except (MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
            self._no_room(rows, tokens)
        half = len(rows) // 2
        return [*self._what_fits(rows[:half]), *self._what_fits(rows[half:])]

    def _no_room(self, rows: Sequence[_Row], tokens: int) -> None:
        """Not inside the `except`: the error holds on to the memory of what failed."""
        import torch

        if len(rows) == 1:
            raise ModelError(
                f"a prompt of {len(rows[0].prompt)} tokens does not fit in memory with {self._model.name_or_path}: "
                "use shorter prompts, fewer max_new_tokens, or a smaller model"
            )
        if self._model.device.type != "cpu":
            torch.accelerator.empty_cache()
        self._too_large = tokens
        _log.warning("a batch of %d sequences does not fit in memory: halved, as all that are as large", len(rows))

    def _written(self, rows: Sequence[_Row]) -> list[list[int]]:
        """Token ids of each sample, the end token included. Finished rows leave the batch as it goes."""
        import numpy as np
        import torch

        limits = [self._limit(row) for row in rows]
        kept, logits, mask = self._read(rows, max(limits))
        streams = np.stack([stream(self._seed, row.prompt, row.sample, max(limits)) for row in rows])
        sampler = Sampler([row.sampling for row in rows], streams, logits.device)
        written: list[list[int]] = [[] for _ in rows]
        over = [False] * len(rows)
        alive = list(range(len(rows)))
        lengths = mask.sum(-1, keepdim=True)
        width = mask.shape[1]
        mask = torch.cat([mask, mask.new_ones(len(rows), max(limits))], dim=1)
        for step in range(max(limits)):
            tokens = sampler.pick(logits.float(), step)
            for r, token in zip(alive, tokens.tolist(), strict=True):
                if not over[r]:
                    written[r].append(token)
                    over[r] = self._ending.reached(written[r], limits[r], rows[r].sampling.stop)
            going = [i for i, r in enumerate(alive) if not over[r]]
            if not going:
                break
            if len(going) <= FEWER * len(alive):
                order = without_gaps(going)
                chosen = mask.new_tensor(order)
                kept.reorder_cache(chosen.cpu())
                sampler.keep(order)
                tokens, mask, lengths = tokens[chosen], mask[chosen], lengths[chosen]
                alive = [alive[i] for i in order]
            out = self._model(
                input_ids=tokens[:, None],
                attention_mask=mask[:, : width + step + 1],
                position_ids=lengths + step,
                past_key_values=kept,
                use_cache=True,
            )
            logits = out.logits[:, -1]
        return written

    def _read(self, rows: Sequence[_Row], steps: int) -> tuple[Any, "Tensor", "Tensor"]:
        """(cache, logits of the first new token [R, V], mask of the prompts [R, widest]): every prompt is read once,
        and its samples get copies."""
        import torch

        device = self._model.device
        prompts = {row.place: row.prompt for row in rows}
        widest = max(map(len, prompts.values()))
        pad = min(self._ending.tokens)
        ids = torch.tensor([[pad] * (widest - len(p)) + p for p in prompts.values()], device=device)
        mask = torch.tensor([[0] * (widest - len(p)) + [1] * len(p) for p in prompts.values()], device=device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        # A model that doesn't know `logits_to_keep` gives all of them: only the last are looked at.
        out = self._model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1)
        kept = getattr(out, "past_key_values", None)
        if kept is None:
            kind = type(self._model).__name__
            raise ModelError(f"{self._model.name_or_path}: {kind} has no cache of keys and values; serve it with vLLM")
        places = list(prompts)
        copies = torch.tensor([places.index(row.place) for row in rows])
        make_room(kept, copies, widest + steps)
        chosen = copies.to(device)
        return kept, out.logits[:, -1][chosen], mask[chosen]


def _is_out_of_memory(error: Exception) -> bool:
    """torch has a class for it on accelerators; on a processor it is a RuntimeError."""
    import torch

    told = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "allocate memory" in told or "out of memory" in told
    )
