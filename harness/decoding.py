"""Sampling from a causal language model in process: batched, prompt computed once for its N samples.

Every sample draws from a random stream of its own, keyed by (seed, prompt, index of the sample). So a sample does not
depend on which others share its batch or on N, but for the rounding of batched matrix products: the first two of N=4
are those of N=2, and batch size stays out of stage keys. Of 24 samples of 48 tokens by SmolLM2-135M at temperature 1,
none differed between batches of 32, 4 and 1 in float32; in bfloat16 8 and 12 did. The same batches give the same texts
on the same machine in any type, and a run that is resumed forms the batches that it would have formed.
"""

import logging
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.batching import Job, Placed, alike, batches, in_order, room_for
from harness.chat import end_of_turn
from harness.errors import ModelError
from harness.kv_cache import join, keeps_every_token, without_gaps
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
        self._join: bool | None = None
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

    def _caches_join(self) -> bool:
        if self._join is None:
            row = _Row(0, [min(self._ending.tokens)], Sampling(), 0)
            self._join = keeps_every_token(self._read([row])[0])
        return self._join

    def _what_fits(self, rows: Sequence[_Row]) -> list[list[int]]:
        """`_written`, in halves where the whole doesn't fit in memory. What is as large as a batch that didn't is
        halved without another try."""
        tokens = len(rows) * (max(len(row.prompt) for row in rows) + max(map(self._limit, rows)))
        if len(rows) == 1 or self._too_large is None or tokens < self._too_large:
            try:
                return self._written(rows)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
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
            getattr(torch, self._model.device.type).empty_cache()
        self._too_large = tokens
        _log.warning("a batch of %d sequences does not fit in memory: halved, as all that are as large", len(rows))

    def _written(self, rows: Sequence[_Row]) -> list[list[int]]:
        """Token ids of each sample, the end token included: of all rows together, or, where the caches can't be joined,
        of one group after the other."""
        groups = _groups(rows)
        if len(groups) == 1 or self._caches_join():
            return self._decoded(rows, groups)
        return [tokens for group in groups for tokens in self._decoded(group, [group])]

    def _decoded(self, rows: Sequence[_Row], groups: Sequence[Sequence[_Row]]) -> list[list[int]]:
        """Token ids of each of the rows. Finished rows leave the batch as it goes."""
        import torch

        limits = [self._limit(row) for row in rows]
        kept, logits, mask = self._read_all(groups, max(limits))
        streams = [stream(self._seed, row.prompt, row.sample) for row in rows]
        sampler = Sampler([row.sampling for row in rows], streams)
        written: list[list[int]] = [[] for _ in rows]
        over = [False] * len(rows)
        alive = list(range(len(rows)))
        lengths = mask.sum(-1, keepdim=True)
        width = mask.shape[1]
        mask = torch.cat([mask, mask.new_ones(len(rows), max(limits))], dim=1)
        for step in range(max(limits)):
            tokens = sampler.pick(logits.float())
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

    def _read_all(self, groups: Sequence[Sequence[_Row]], steps: int) -> tuple[Any, "Tensor", "Tensor"]:
        """(cache with room for `steps` more, logits of the first new token [R, V], mask of the prompts [R, widest]):
        every prompt is read once, with others of like length, and its samples get copies."""
        import torch

        read = [self._read(group) for group in groups]
        widest = max(mask.shape[1] for _, _, mask in read)
        copies = []
        for group in groups:
            places = list(dict.fromkeys(row.place for row in group))
            copies.append(torch.tensor([places.index(row.place) for row in group]))
        chosen = [rows.to(self._model.device) for rows in copies]
        logits = torch.cat([one[1][rows] for one, rows in zip(read, chosen, strict=True)])
        masks = [torch.nn.functional.pad(one[2], (widest - one[2].shape[1], 0)) for one in read]
        mask = torch.cat([one[rows] for one, rows in zip(masks, chosen, strict=True)])
        return join([one[0] for one in read], copies, widest + steps), logits, mask

    def _read(self, rows: Sequence[_Row]) -> tuple[Any, "Tensor", "Tensor"]:
        """(cache, last logits [P, V], mask [P, widest]) of the P prompts of the rows."""
        import torch

        device = self._model.device
        prompts = list({row.place: row.prompt for row in rows}.values())
        widest = max(map(len, prompts))
        pad = min(self._ending.tokens)
        ids = torch.tensor([[pad] * (widest - len(p)) + p for p in prompts], device=device)
        mask = torch.tensor([[0] * (widest - len(p)) + [1] * len(p) for p in prompts], device=device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        # A model that doesn't know `logits_to_keep` gives all of them: only the last are looked at.
        out = self._model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1)
        kept = getattr(out, "past_key_values", None)
        if kept is None:
            kind = type(self._model).__name__
            raise ModelError(f"{self._model.name_or_path}: {kind} has no cache of keys and values; serve it with vLLM")
        return kept, out.logits[:, -1], mask


def _groups(rows: Sequence[_Row]) -> list[list[_Row]]:
    """Rows of prompts that are read together."""
    samples: dict[int, list[_Row]] = {}
    for row in rows:
        samples.setdefault(row.place, []).append(row)
    prompts = iter(samples.values())
    sizes = alike([len(each[0].prompt) for each in samples.values()])
    return [[row for each in islice(prompts, size) for row in each] for size in sizes]


def is_out_of_memory(error: Exception) -> bool:
    """torch has a class for it on accelerators; on a processor it is a RuntimeError."""
    import torch

    told = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "allocate memory" in told or "out of memory" in told
    )
