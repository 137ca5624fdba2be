"""The cache of a batch that is being decoded: made once for its N samples a prompt and for all that will be written."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def keeps_every_token(kept: Any) -> bool:
    """Whether all layers of a `transformers` Cache are plain keys and values, which `join` can put side by side: no
    sliding windows, no states of linear attention."""
    from transformers.cache_utils import DynamicLayer

    return all(type(layer) is DynamicLayer and layer.is_initialized for layer in kept.layers)


def join(parts: Sequence[Any], copies: Sequence["Tensor"], columns: int) -> Any:
    """One cache of the parts' rows, one part after the other: first row `copies[0][0]` of the first part, and so on.
    Narrower parts begin with zeros. Changes the first part, and returns it.

    Layers that keep every token get room for `columns` tokens at once; the library's own are copied for each new token,
    which takes a tenth of a step at 48 rows of 100 tokens, and more with longer ones. Other layers stay what they are,
    and can't be joined: they are taken from a single part."""
    from transformers.cache_utils import DynamicLayer

    kept = parts[0]
    for i, layer in enumerate(kept.layers):
        if type(layer) is DynamicLayer and layer.is_initialized:
            layers = [part.layers[i] for part in parts]
            keys = _joined([x.keys for x in layers], copies, columns)
            values = _joined([x.values for x in layers], copies, columns)
            kept.layers[i] = _roomy_layer()(keys, values, max(x.keys.shape[-2] for x in layers))
        else:
            (rows,) = copies
            layer.reorder_cache(rows)
    return kept


def _joined(parts: Sequence["Tensor"], copies: Sequence["Tensor"], columns: int) -> "Tensor":
    widest = max(part.shape[-2] for part in parts)
    _, heads, _, width = parts[0].shape
    room = parts[0].new_empty(sum(map(len, copies)), heads, columns, width)
    start = 0
    for part, rows in zip(parts, copies, strict=True):
        place = room[start : start + len(rows), :, :widest]
        place[:, :, : widest - part.shape[-2]] = 0
        place[:, :, widest - part.shape[-2] :] = part[rows.to(part.device)]
        start += len(rows)
    return room


def without_gaps(going: list[int]) -> list[int]:
    """The rows that go on, in an order in which as many as can be stay where they are: rows from the end fill the
    places of those that have left, and little of a cache is copied."""
    staying = {row for row in going if row < len(going)}
    movers = (row for row in going if row >= len(going))
    return [row if row in staying else next(movers) for row in range(len(going))]


@cache
def _roomy_layer() -> type:
    """The class, made where it is needed: transformers is slow to import."""
    from transformers.cache_utils import DynamicLayer

    class RoomyLayer(DynamicLayer):  # type: ignore[misc]
        """Keys and values [R, heads, columns, width], of which `keys` and `values` show the columns that are filled."""

        def __init__(self, keys: "Tensor", values: "Tensor", filled: int) -> None:
            super().__init__()
            self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
            self._keys, self._values, self._filled = keys, values, filled
            self._show()

        def _show(self) -> None:
            self.keys, self.values = self._keys[:, :, : self._filled], self._values[:, :, : self._filled]

        def update(self, key_states: "Tensor", value_states: "Tensor", *_: Any, **__: Any) -> tuple["Tensor", "Tensor"]:
            end = self._filled + key_states.shape[-2]
            self._keys[:, :, self._filled : end] = key_states
            self._values[:, :, self._filled : end] = value_states
            self._filled = end
            self._show()
            return self.keys, self.values

        def reorder_cache(self, beam_idx: "Tensor") -> None:
            """Go on with these rows, no more than there are; those that stay where they are aren't copied."""
            moved = (beam_idx != beam_idx.new_tensor(range(len(beam_idx)))).nonzero()[:, 0].to(self.device)
            sources = beam_idx.to(self.device)[moved]
            for shown in (self.keys, self.values):
                shown[moved] = shown[sources]
            self._keys, self._values = self._keys[: len(beam_idx)], self._values[: len(beam_idx)]
            self._show()

    return RoomyLayer
