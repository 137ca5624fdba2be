"""Linear layers with their weights in the layout that a CPU's bfloat16 products want.

Torch rearranges a weight for every product, which takes a quarter of the time when 24 rows are multiplied. Here it is
done once, and the results are the same to the last bit. It takes as much memory as the weights once more.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

ROWS = 32
"""The number of rows that the layout is chosen for."""

_log = logging.getLogger(__name__)


@contextmanager
def packed_weights(model: "PreTrainedModel", memory: int) -> Iterator[None]:
    """While it lasts, the model's linear layers use packed weights, if it is in bfloat16 on a CPU, they fit in so many
    bytes of `memory`, and this torch can pack them."""
    import torch

    layers = _linear_layers(model) if model.device.type == "cpu" and model.dtype == torch.bfloat16 else []
    if sum(layer.weight.numel() * layer.weight.element_size() for layer in layers) > memory:
        layers = []
    tried: set[tuple[Any, ...]] = set()
    try:
        for layer in layers:
            with torch.inference_mode():
                packed = _pack(layer, tried)
            if packed is None:
                break
            vars(layer)["forward"] = packed
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def _linear_layers(model: "PreTrainedModel") -> "list[nn.Linear]":
    """Layers that are called as they are: not those inside of adapters, which use the base's weight themselves."""
    from torch import nn

    return [
        module
        for name, module in model.named_modules()
        if type(module) is nn.Linear
        and not name.endswith("base_layer")
        and module.weight.dtype == model.dtype
        and "forward" not in vars(module)
    ]


def _pack(layer: "nn.Linear", tried: set[tuple[Any, ...]]) -> Any:
    """The layer's forward with a packed weight; None if it can't be packed, or doesn't give the same. `tried`: kinds of
    layers that do."""
    import torch

    kind = (layer.weight.shape, layer.weight.stride(), layer.bias is None)
    try:
        weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)
        packed = partial(_forward, weight, layer.bias)
        x = torch.linspace(-1, 1, 2 * layer.in_features).view(2, -1).to(layer.weight.dtype)
        if kind not in tried and not torch.equal(packed(x), layer(x)):
            return None
        tried.add(kind)
        return packed
    except (RuntimeError, AttributeError, TypeError) as error:
        # Operators that torch doesn't document: this one may not have them.
        _log.debug("weights are not packed: %s", error)
        return None


def _forward(weight: "Tensor", bias: "Tensor | None", x: "Tensor") -> "Tensor":
    import torch

    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out
