"""Decoding of models that keep other things than keys and values of every token, or mask in their own way: batch by
batch, with the model's own cache. Finished rows are removed from a batch along the way, and no others come in."""

import logging
from collections.abc import Sequence
from importlib.metadata import version
from itertools import islice
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from harness.errors import ModelError
from harness.models.batching import is_out_of_memory, prefill_groups
from harness.models.decode.padded_cache import join, keeps_every_token, without_gaps
from harness.models.decode.rows import Ending, Row, Sample
from harness.models.decode.sampling import Sampler
from harness.types import Sampling

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

COMPACT_AT = 0.9
"""Finished rows are removed from the batch once at most this share of its rows is unfinished."""

TOLERANCE = 0.1
"""Largest mean difference of logits, as a share of their standard deviation. Rounding in bfloat16 gives 0.01."""
TEXTS = ((3, 9), (6, 12))
"""Two texts of the comparison: tokens of the prompt, and in all."""

_log = logging.getLogger(__name__)
_checked: "WeakSet[PreTrainedModel]" = WeakSet()


class PaddedDecoder:
    """Decodes batches with one model, and remembers what did not fit in memory."""

    def __init__(self, model: "PreTrainedModel", ending: Ending, seed: int) -> None:
        self._model = model
        self._seed = seed
        self._ending = ending
        self._joinable: bool | None = None
        self._too_large: int | None = None
        """Tokens of the smallest batch that didn't fit."""

    def batch(self, rows: Sequence[Sample]) -> list[Row]:
        """The finished rows of a batch's samples; `_decode`, split into halves if the rows don't fit in memory
        together. A batch at least as large as one that failed is split without another attempt."""
        tokens = len(rows) * (max(len(row.prompt) for row in rows) + max(row.limit for row in rows))
        if len(rows) == 1 or self._too_large is None or tokens < self._too_large:
            try:
                self._check()
                return self._decode(rows)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            self._note_too_large(rows, tokens)
        half = len(rows) // 2
        return [*self.batch(rows[:half]), *self.batch(rows[half:])]

    def _note_too_large(self, rows: Sequence[Sample], tokens: int) -> None:
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

    def _check(self) -> None:
        """Raise ModelError unless rows of two lengths are continued as the model's own pass over each alone has it.
        What a cache holds differs between releases of transformers, and a wrong one gives a text all the same."""
        model = self._model
        if model in _checked:
            return
        try:
            differs = self._differs()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return  # the batch won't fit, either
        if differs:
            raise ModelError(
                f"{model.name_or_path}: {type(model).__name__} does not continue a text from its cache as it does "
                f"without one, in transformers {version('transformers')}; serve it with vLLM"
            )
        _checked.add(model)

    def _differs(self) -> bool:
        import torch

        model = self._model
        size = model.get_input_embeddings().weight.shape[0]
        texts = [[(size // 3 + 7 * i + 31 * j) % size for i in range(n)] for j, (_, n) in enumerate(TEXTS)]
        starts, steps = [start for start, _ in TEXTS], TEXTS[0][1] - TEXTS[0][0]
        expected = [model(input_ids=torch.tensor([ids], device=model.device)).logits[0].float() for ids in texts]
        prompts = [ids[:start] for ids, start in zip(texts, starts, strict=True)]
        samples = [Sample(j, prompt, Sampling(), 0, steps) for j, prompt in enumerate(prompts)]
        cache, logits, mask = self._prefill_groups([samples], steps)
        got, lengths, width = [logits], mask.sum(-1, keepdim=True), mask.shape[1]
        mask = torch.cat([mask, mask.new_ones(len(texts), steps)], dim=1)
        for step in range(steps - 1):
            tokens = mask.new_tensor([ids[start + step] for ids, start in zip(texts, starts, strict=True)])
            got.append(self._step(tokens, mask[:, : width + step + 1], lengths + step, cache))
        written = torch.stack(got, dim=1).float()
        for row, whole, start in zip(written, expected, starts, strict=True):
            difference = (row - whole[start - 1 : start - 1 + steps]).abs()
            # Weights that give no number are no fault of the cache.
            if whole.isfinite().all() and difference.nan_to_num(torch.inf).mean() > TOLERANCE * whole.std():
                return True
        return False

    def _can_join_caches(self) -> bool:
        if self._joinable is None:
            row = Sample(0, [min(self._ending.tokens)], Sampling(), 0, 1)
            self._joinable = keeps_every_token(self._prefill([row])[0])
        return self._joinable

    def _decode(self, rows: Sequence[Sample]) -> list[Row]:
        """The finished rows. Prefill groups are decoded together, or one after the other if their caches can't be
        joined."""
        groups = _groups(rows)
        if len(groups) == 1 or self._can_join_caches():
            return self._decode_together(rows, groups)
        return [row for group in groups for row in self._decode_together(group, [group])]

    def _decode_together(self, samples: Sequence[Sample], groups: Sequence[Sequence[Sample]]) -> list[Row]:
        """The finished rows, which are removed from the batch along the way."""
        import torch

        rows = [self._ending.row(sample, self._seed) for sample in samples]
        limits = [sample.limit for sample in samples]
        cache, logits, mask = self._prefill_groups(groups, max(limits))
        sampler = Sampler([sample.sampling for sample in samples], [row.stream for row in rows])
        finished = [False] * len(rows)
        in_batch = list(range(len(rows)))
        lengths = mask.sum(-1, keepdim=True)
        width = mask.shape[1]
        mask = torch.cat([mask, mask.new_ones(len(rows), max(limits))], dim=1)
        for step in range(max(limits)):
            tokens = sampler.pick(logits.float())
            for r, token in zip(in_batch, tokens.tolist(), strict=True):
                if not finished[r]:
                    finished[r] = self._ending.add(rows[r], token)
            if any(row.budget for row in rows):  # which may have written another token than the drawn one
                tokens = tokens.new_tensor([rows[r].written[-1] for r in in_batch])
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
            logits = self._step(tokens, mask[:, : width + step + 1], lengths + step, cache)
        return rows

    def _step(self, tokens: "Tensor", mask: "Tensor", positions: "Tensor", cache: Any) -> "Tensor":
        """The logits [R, V] after one more token of each row [R]; `mask` [R, T] ends with that token."""
        out = self._model(
            input_ids=tokens[:, None],
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        logits: Tensor = out.logits[:, -1]
        return logits

    def _prefill_groups(self, groups: Sequence[Sequence[Sample]], steps: int) -> tuple[Any, "Tensor", "Tensor"]:
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

    def _prefill(self, rows: Sequence[Sample]) -> tuple[Any, "Tensor", "Tensor"]:
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


def _groups(rows: Sequence[Sample]) -> list[list[Sample]]:
    """Rows of prompts that are prefilled together."""
    samples: dict[int, list[Sample]] = {}
    for row in rows:
        samples.setdefault(row.request, []).append(row)
    prompts = iter(samples.values())
    sizes = prefill_groups([len(each[0].prompt) for each in samples.values()])
    return [[row for each in islice(prompts, size) for row in each] for size in sizes]
