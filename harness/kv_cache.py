"""The cache of a batch that is being decoded: made once for its N samples a prompt and for all that will be written."""

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def make_room(kept: Any, copies: "Tensor", columns: int) -> None:
    """Turn the cache of prompts (a `transformers` Cache) into that of their samples: row i becomes prompt `copies[i]`.
    Layers that keep every token get room for `columns` tokens at once; the library's own are copied for each new token,
    which takes a tenth of a step at 48 rows of 100 tokens, and more with longer ones. Other layers (sliding windows,
    linear attention) stay what they are."""
    from transformers.cache_utils import DynamicLayer

    same = copies.tolist() == list(range(_rows(kept)))
    for i, layer in enumerate(kept.layers):
        if type(layer) is DynamicLayer and layer.is_initialized:
            kept.layers[i] = _roomy_layer()(layer.keys, layer.values, copies, columns)
        elif not same:
            layer.reorder_cache(copies)


def _rows(kept: Any) -> int:
    """Rows of a cache whose layers tell, else -1."""
    sizes = {len(layer.keys) for layer in kept.layers if getattr(layer, "keys", None) is not None}
    return sizes.pop() if len(sizes) == 1 else -1


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

        def __init__(self, keys: "Tensor", values: "Tensor", copies: "Tensor", columns: int) -> None:
            super().__init__()
            self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
            self._filled = keys.shape[-2]
            self._keys, self._values = (_spread(x, copies.to(x.device), columns) for x in (keys, values))
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


def _spread(filled: "Tensor", copies: "Tensor", columns: int) -> "torch.Tensor":
    _, heads, length, width = filled.shape
    room = filled.new_empty(len(copies), heads, columns, width)
    room[:, :, :length] = filled[copies]
    return room
