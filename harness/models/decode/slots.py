"""Continuous batching: rows in slots of a preallocated cache. A finished row's slot is free for the next row.

A row's numbers don't depend on which others are decoded with it, nor on its slot: its tokens start at the slot's column
0, prompts attend one by one, and at least `LEAST` rows are multiplied. So in practice samples are the same, to
the last bit, in any batch and on any number of workers; on accelerators, whose products depend on the number of rows,
they differ by rounding.
"""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from harness.models.decode.attention import SlotLayer, Step, running
from harness.models.decode.prompts import LEAST, Beginning, Prompt, compute_prompts
from harness.models.decode.rows import Ending, Row
from harness.models.decode.sampling import Sampler

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

COLUMNS = 64
"""A slot's number of columns is a multiple of it."""


@cache
def _cache_class() -> type:
    """The class of the cache, defined on first use because transformers is slow to import."""
    from transformers.cache_utils import Cache

    class SlotCache(Cache):  # type: ignore[misc]
        """Keys and values of all slots, by layer."""

        def __init__(self) -> None:
            super().__init__(layers=[])

        def update(
            self, key_states: "Tensor", value_states: "Tensor", layer_idx: int, *_: Any, **__: Any
        ) -> "tuple[Tensor, Tensor]":
            step = running.step
            if step is None:
                raise NotImplementedError("a cache of slots takes one token per row")
            layer: SlotLayer = self.layers[layer_idx]
            return layer.store(key_states[:, :, 0], value_states[:, :, 0], step)

        def get_seq_length(self, layer_idx: int = 0) -> int:
            return running.step.longest - 1 if running.step else 0

    return SlotCache


class SlotBatch:
    """Rows of one worker. `rows`: slots; `columns`: tokens that a slot has room for."""

    def __init__(self, model: "PreTrainedModel", ending: Ending, rows: int, columns: int) -> None:
        self._model = model
        self._ending = ending
        self._cache = _cache_class()()
        self._sampler: Sampler | None = None
        self.rows = rows
        self.columns = -(-columns // COLUMNS) * COLUMNS
        self.active: list[Row] = []
        self.least = LEAST

    def resize(self, rows: int, columns: int) -> None:
        """Change the number of slots and their size. The active rows must fit in."""
        self.rows, self.columns = rows, -(-columns // COLUMNS) * COLUMNS
        used = max((row.length for row in self.active), default=0)
        for i, layer in enumerate(self._cache.layers):
            kept = len(self.active)
            new = self._new_layer(layer.keys[0], layer.values[0])
            new.keys[:kept, :, :used] = layer.keys[:kept, :, :used]
            new.values[:kept, :, :used] = layer.values[:kept, :, :used]
            self._cache.layers[i] = new

    def clear(self) -> list[Row]:
        """Remove all rows and free the memory; returns them."""
        rows, self.active, self._cache, self._sampler = self.active, [], _cache_class()(), None
        return rows

    @property
    def _slots(self) -> int:
        return max(self.rows, self.least)

    def admit(self, groups: Sequence[Sequence[Row]], beginning: Beginning | None) -> list[Row]:
        """Compute the prompt of each group of rows, which share it, and draw the rows' next tokens. Returns the
        finished rows; the others go into free slots, of which there must be enough."""
        prompts = [[*group[0].sample.prompt, *group[0].written] for group in groups]
        computed = compute_prompts(self._model, prompts, beginning)
        finished: list[Row] = []
        for group, prompt in zip(groups, computed, strict=True):
            finished += self._enter(group, prompt)
        return finished

    def _enter(self, rows: Sequence[Row], prompt: Prompt) -> list[Row]:
        sampler = Sampler([row.sample.sampling for row in rows], [row.stream for row in rows])
        drawn = sampler.pick(prompt.logits.expand(len(rows), -1)).tolist()
        length = rows[0].length
        finished: list[Row] = []
        for row, token in zip(rows, drawn, strict=True):
            if self._ending.add(row, token):
                finished.append(row)
                continue
            self.place(len(self.active), prompt, length)
            self.active.append(row)
        self._sampler = None
        return finished

    def place(self, slot: int, prompt: Prompt, length: int) -> None:
        """Copy a prompt's keys and values into a slot."""
        if not self._cache.layers:
            self._cache.layers = [self._new_layer(*layer) for layer in prompt.layers]
        for layer, (keys, values) in zip(self._cache.layers, prompt.layers, strict=True):
            layer.keys[slot, :, :length] = keys
            layer.values[slot, :, :length] = values

    def _new_layer(self, keys: "Tensor", values: "Tensor") -> SlotLayer:
        """Slots for keys and values like these [K, any, D]."""
        # Zeros, as a column that no token was written to yet is multiplied by a probability of 0.
        new = [one.new_zeros(self._slots, len(one), self.columns, one.shape[-1]) for one in (keys, values)]
        return SlotLayer(*new)

    def step(self) -> list[Row]:
        """Draw the next token of every row; returns the finished rows, whose slots are free."""
        if self._sampler is None:
            self._sampler = Sampler([r.sample.sampling for r in self.active], [r.stream for r in self.active])
        logits = self.logits([row.written[-1] for row in self.active], [row.length - 1 for row in self.active])
        drawn = self._sampler.pick(logits).tolist()
        finished = []
        for row, token in zip(self.active, drawn, strict=True):
            if self._ending.add(row, token):
                finished.append(row)
        self.leave(finished)
        return finished

    def logits(self, tokens: Sequence[int], positions: Sequence[int]) -> "Tensor":
        """The logits after one more token in each of the first slots, at these positions [R, V]."""
        import torch

        idle = [0] * (self.least - len(tokens))
        ids = torch.tensor([*tokens, *idle], device=self._model.device)
        running.step = Step([*positions, *idle], self.columns, self._model.device)
        try:
            out = self._model(
                input_ids=ids[:, None],
                position_ids=running.step.positions[:, None],
                past_key_values=self._cache,
                use_cache=True,
            )
        finally:
            running.step = None
        logits: Tensor = out.logits[: len(tokens), -1]
        return logits

    def leave(self, rows: Sequence[Row]) -> None:
        """Remove rows. Rows from the end take their slots."""
        for row in rows:
            slot, last = self.active.index(row), len(self.active) - 1
            if slot != last:
                for layer in self._cache.layers:
                    used = self.active[last].length
                    layer.keys[slot, :, :used] = layer.keys[last, :, :used]
                    layer.values[slot, :, :used] = layer.values[last, :, :used]
            self.active[slot] = self.active[last]
            self.active.pop()
            self._sampler = None
