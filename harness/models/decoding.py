"""In-process batched sampling from a causal language model. A prompt is computed once for all its samples.

Every sample has its own random stream, keyed by (seed, prompt, sample index). So a sample depends neither on the rest
of its batch nor on N, except for rounding in batched matrix products: the first two samples of N=4 are those of N=2,
and the batch size is not part of stage keys. Of 24 samples of 48 tokens by SmolLM2-135M at temperature 1, none differed
between batches of 32, 4 and 1 in float32; in bfloat16, 8 and 12 did. Identical batches give identical texts on the same
machine in any dtype, and a resumed run forms the same batches as an uninterrupted one.
"""

import logging
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.errors import ModelError
from harness.models.batching import IndexedJob, Job, batch_limits, batches, longest_first, prefill_groups
from harness.models.chat import end_of_turn
from harness.models.config import context_window
from harness.models.kv_cache import join, keeps_every_token, without_gaps
from harness.models.sampling import Sampler, stream
from harness.protocols import Arrived, Sampled
from harness.types import Advance, Completion, FinishReason, Sampling

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Job", "decode", "decode_all"]

COMPACT_AT = 0.9
"""Finished rows are removed from the batch once at most this share of its rows is unfinished."""

_log = logging.getLogger(__name__)


class _SampleRow(NamedTuple):
    """One sample to draw. `request`: the index of its job."""

    request: int
    prompt: list[int]
    sampling: Sampling
    sample: int


def decode(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    jobs: Sequence[Job],
    *,
    seed: int,
    batch_size: int | None,
    arrived: Arrived,
) -> None:
    """Draw the samples of all jobs and pass them to `arrived` batch by batch. `batch_size`: most sequences in one
    forward pass; None: as many as the model and the device allow. It affects speed and memory, not the samples. A batch
    that doesn't fit in memory is halved; raises ModelError if a single sequence doesn't fit. A prompt that fills the
    model's context window gets empty completions with finish reason `length`."""
    import torch

    decoder = _Decoder(model, tokenizer, seed)
    with torch.inference_mode():
        for batch in batches(longest_first(jobs), batch_limits(model, batch_size)):
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
    """The completions of every job as a list, in order; otherwise like `decode`."""
    done: dict[tuple[int, int], Completion] = {}

    def arrived(rows: Sequence[Sampled]) -> None:
        done.update({(row.request, row.sample): row.completion for row in rows})
        advance(len(rows))

    decode(model, tokenizer, jobs, seed=seed, batch_size=batch_size, arrived=arrived)
    return [[done[i, k] for k in job.samples] for i, job in enumerate(jobs)]


class _Ending:
    """Detects where a model's turn ends: at its end tokens and at the `stop` texts of the sampling parameters."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer
        self.tokens = {end_of_turn(tokenizer), tokenizer.eos_token_id} - {None}

    def reached(self, written: list[int], limit: int, stop: tuple[str, ...]) -> bool:
        """Whether these tokens end the turn, by the token limit or otherwise."""
        if len(written) >= limit or (written and written[-1] in self.tokens):
            return True
        if not stop or not written:
            return False
        # A character has at most 4 bytes of UTF-8, hence at most 4 tokens. 8 more, as a tokenizer may decode the
        # beginning of a text differently.
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
    """Decodes batches with one model, and remembers what did not fit in memory."""

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", seed: int) -> None:
        self._model = model
        self._seed = seed
        self._ending = _Ending(tokenizer)
        self._window = context_window(model) or 1 << 30
        self._joinable: bool | None = None
        self._too_large: int | None = None
        """Tokens of the smallest batch that didn't fit."""

    def batch(self, batch: Sequence[IndexedJob]) -> list[Sampled]:
        """All samples of a batch."""
        rows = [_SampleRow(request, job.prompt, job.sampling, k) for request, job in batch for k in job.samples]
        empty = Completion(text="", finish_reason="length", tokens=0)
        samples = [Sampled(row.request, row.sample, empty) for row in rows if self._limit(row) <= 0]
        rows = [row for row in rows if self._limit(row) > 0]
        for row, tokens in zip(rows, self._decode_fitting(rows) if rows else [], strict=True):
            samples.append(Sampled(row.request, row.sample, self._ending.completion(tokens, row.sampling)))
        return samples

    def _limit(self, row: _SampleRow) -> int:
        """The largest number of new tokens."""
        return min(row.sampling.max_new_tokens, self._window - len(row.prompt))

    def _can_join_caches(self) -> bool:
        if self._joinable is None:
            row = _SampleRow(0, [min(self._ending.tokens)], Sampling(), 0)
            self._joinable = keeps_every_token(self._prefill([row])[0])
        return self._joinable

    def _decode_fitting(self, rows: Sequence[_SampleRow]) -> list[list[int]]:
        """`_decode`, split into halves if the rows don't fit in memory together. A batch at least as large as one that
        failed is split without another attempt."""
        tokens = len(rows) * (max(len(row.prompt) for row in rows) + max(map(self._limit, rows)))
        if len(rows) == 1 or self._too_large is None or tokens < self._too_large:
            try:
                return self._decode(rows)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            self._note_too_large(rows, tokens)
        half = len(rows) // 2
        return [*self._decode_fitting(rows[:half]), *self._decode_fitting(rows[half:])]

    def _note_too_large(self, rows: Sequence[_SampleRow], tokens: int) -> None:
        """Remember a size that doesn't fit. Raises ModelError for a single row. Call it outside of the `except` block:
        the exception keeps the failed batch's memory alive."""
        import torch

        if len(rows) == 1:
            raise ModelError(
                f"a prompt of {len(rows[0].prompt)} tokens does not fit in memory with {self._model.name_or_path}: "
                "use shorter prompts, fewer max_new_tokens, or a smaller model"
            )
        if self._model.device.type != "cpu":
            getattr(torch, self._model.device.type).empty_cache()
        self._too_large = tokens
        _log.warning(
            "a batch of %d sequences does not fit in memory; it and all batches of its size are halved", len(rows)
        )

    def _decode(self, rows: Sequence[_SampleRow]) -> list[list[int]]:
        """Token ids of each sample, end token included. Prefill groups are decoded together, or one after the other if
        their caches can't be joined."""
        groups = _groups(rows)
        if len(groups) == 1 or self._can_join_caches():
            return self._decode_together(rows, groups)
        return [tokens for group in groups for tokens in self._decode_together(group, [group])]

    def _decode_together(self, rows: Sequence[_SampleRow], groups: Sequence[Sequence[_SampleRow]]) -> list[list[int]]:
        """Token ids of each row. Finished rows are removed from the batch along the way."""
        import torch

        limits = [self._limit(row) for row in rows]
        cache, logits, mask = self._prefill_groups(groups, max(limits))
        streams = [stream(self._seed, row.prompt, row.sample) for row in rows]
        sampler = Sampler([row.sampling for row in rows], streams)
        written: list[list[int]] = [[] for _ in rows]
        finished = [False] * len(rows)
        in_batch = list(range(len(rows)))
        lengths = mask.sum(-1, keepdim=True)
        width = mask.shape[1]
        mask = torch.cat([mask, mask.new_ones(len(rows), max(limits))], dim=1)
        for step in range(max(limits)):
            tokens = sampler.pick(logits.float())
            for r, token in zip(in_batch, tokens.tolist(), strict=True):
                if not finished[r]:
                    written[r].append(token)
                    finished[r] = self._ending.reached(written[r], limits[r], rows[r].sampling.stop)
            active = [i for i, r in enumerate(in_batch) if not finished[r]]
            if not active:
                break
            if len(active) <= COMPACT_AT * len(in_batch):
                order = without_gaps(active)
                chosen = mask.new_tensor(order)
                cache.reorder_cache(chosen.cpu())
                sampler.keep(order)
                tokens, mask, lengths = tokens[chosen], mask[chosen], lengths[chosen]
                in_batch = [in_batch[i] for i in order]
            out = self._model(
                input_ids=tokens[:, None],
                attention_mask=mask[:, : width + step + 1],
                position_ids=lengths + step,
                past_key_values=cache,
                use_cache=True,
            )
            logits = out.logits[:, -1]
        return written

    def _prefill_groups(self, groups: Sequence[Sequence[_SampleRow]], steps: int) -> tuple[Any, "Tensor", "Tensor"]:
        """(cache with room for `steps` new tokens, logits of the first new token [R, V], mask of the prompts
        [R, widest]). Every prompt is computed once, with others of similar length, and copied for its samples."""
        import torch

        prefills = [self._prefill(group) for group in groups]
        widest = max(mask.shape[1] for _, _, mask in prefills)
        copies = []
        for group in groups:
            requests = list(dict.fromkeys(row.request for row in group))
            copies.append(torch.tensor([requests.index(row.request) for row in group]))
        chosen = [rows.to(self._model.device) for rows in copies]
        logits = torch.cat([one[1][rows] for one, rows in zip(prefills, chosen, strict=True)])
        masks = [torch.nn.functional.pad(one[2], (widest - one[2].shape[1], 0)) for one in prefills]
        mask = torch.cat([one[rows] for one, rows in zip(masks, chosen, strict=True)])
        return join([one[0] for one in prefills], copies, widest + steps), logits, mask

    def _prefill(self, rows: Sequence[_SampleRow]) -> tuple[Any, "Tensor", "Tensor"]:
        """(cache, last logits [P, V], mask [P, widest]) of the P distinct prompts of the rows."""
        import torch

        device = self._model.device
        prompts = list({row.request: row.prompt for row in rows}.values())
        widest = max(map(len, prompts))
        pad = min(self._ending.tokens)
        ids = torch.tensor([[pad] * (widest - len(p)) + p for p in prompts], device=device)
        mask = torch.tensor([[0] * (widest - len(p)) + [1] * len(p) for p in prompts], device=device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        # A model that doesn't support `logits_to_keep` returns all logits; only the last are used.
        out = self._model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1)
        cache = getattr(out, "past_key_values", None)
        if cache is None:
            kind = type(self._model).__name__
            raise ModelError(f"{self._model.name_or_path}: {kind} has no cache of keys and values; serve it with vLLM")
        return cache, out.logits[:, -1], mask


def _groups(rows: Sequence[_SampleRow]) -> list[list[_SampleRow]]:
    """Rows of prompts that are prefilled together."""
    samples: dict[int, list[_SampleRow]] = {}
    for row in rows:
        samples.setdefault(row.request, []).append(row)
    prompts = iter(samples.values())
    sizes = prefill_groups([len(each[0].prompt) for each in samples.values()])
    return [[row for each in islice(prompts, size) for row in each] for size in sizes]


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that memory ran out: torch has a class for accelerators; on a CPU it is a RuntimeError."""
    import torch

    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "allocate memory" in text or "out of memory" in text
    )
