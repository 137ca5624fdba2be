"""The key-value cache of a batch during decoding, allocated once for all samples and all new tokens."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def keeps_every_token(kv: Any) -> bool:
    """Whether all layers of a `transformers` Cache are plain keys and values, which `join` can concatenate: no sliding
    windows, no states of linear attention."""
    from transformers.cache_utils import DynamicLayer

    return all(type(layer) is DynamicLayer and layer.is_initialized for layer in kv.layers)


def join(parts: Sequence[Any], copies: Sequence["Tensor"], columns: int) -> Any:
    """Concatenate the selected rows of several caches. `copies[i]`: indices of the rows to take from part i. Narrower
    parts are padded with zeros on the left. Modifies the first part and returns it.

    Layers that keep every token get memory for `columns` tokens at once. The library's own layers are copied for each
    new token, which takes a tenth of a step at 48 rows of 100 tokens, and more for longer ones. Other layers are left
    unchanged and can't be joined; then there must be only one part.
    """
    from transformers.cache_utils import DynamicLayer

    joined = parts[0]
    for i, layer in enumerate(joined.layers):
        if type(layer) is DynamicLayer and layer.is_initialized:
            layers = [part.layers[i] for part in parts]
            keys = _concatenated([x.keys for x in layers], copies, columns)
            values = _concatenated([x.values for x in layers], copies, columns)
            joined.layers[i] = _preallocated_layer()(keys, values, max(x.keys.shape[-2] for x in layers))
        else:
            (rows,) = copies
            layer.reorder_cache(rows)
    return joined


def _concatenated(parts: Sequence["Tensor"], copies: Sequence["Tensor"], columns: int) -> "Tensor":
    widest = max(part.shape[-2] for part in parts)
    _, heads, _, width = parts[0].shape
    rows_out = parts[0].new_empty(sum(map(len, copies)), heads, columns, width)
    start = 0
    for part, rows in zip(parts, copies, strict=True):
        target = rows_out[start : start + len(rows), :, :widest]
        target[:, :, : widest - part.shape[-2]] = 0
        target[:, :, widest - part.shape[-2] :] = part[rows.to(part.device)]
        start += len(rows)
    return rows_out


def without_gaps(active: list[int]) -> list[int]:
    """The active rows, reordered so that as many as possible keep their index: rows from the end fill the gaps, and
    little of a cache is copied."""
    staying = {row for row in active if row < len(active)}
    movers = (row for row in active if row >= len(active))
    return [row if row in staying else next(movers) for row in range(len(active))]


@cache
def _preallocated_layer() -> type:
    """The layer class, defined on first use because transformers is slow to import."""
    from transformers.cache_utils import DynamicLayer

    class PreallocatedLayer(DynamicLayer):  # type: ignore[misc]
        """Preallocated keys and values [R, heads, columns, width]; `keys` and `values` view the filled columns."""

        def __init__(self, keys: "Tensor", values: "Tensor", filled: int) -> None:
            super().__init__()
            self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
            self._keys, self._values, self._filled = keys, values, filled
            self._update_views()

        def _update_views(self) -> None:
            self.keys, self.values = self._keys[:, :, : self._filled], self._values[:, :, : self._filled]

        def update(self, key_states: "Tensor", value_states: "Tensor", *_: Any, **__: Any) -> tuple["Tensor", "Tensor"]:
            end = self._filled + key_states.shape[-2]
            self._keys[:, :, self._filled : end] = key_states
            self._values[:, :, self._filled : end] = value_states
            self._filled = end
            self._update_views()
            return self.keys, self.values

        def reorder_cache(self, beam_idx: "Tensor") -> None:
            """Keep these rows, at most as many as there are; rows that keep their index aren't copied."""
            moved = (beam_idx != beam_idx.new_tensor(range(len(beam_idx)))).nonzero()[:, 0].to(self.device)
            sources = beam_idx.to(self.device)[moved]
            for view in (self.keys, self.values):
                view[moved] = view[sources]
            self._keys, self._values = self._keys[: len(beam_idx)], self._values[: len(beam_idx)]
            self._update_views()

    return PreallocatedLayer
