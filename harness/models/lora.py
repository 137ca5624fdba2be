"""The forward pass of LoRA adapters on a half-precision base, rounded once.

PEFT adds what an adapter contributes to the base's output, which is rounded already. What is smaller than half a step
of the half-precision grid is then lost, and that is most of what a short or low-rate training learns. Here both are
added up in float32, in the accumulator of one matrix product, and rounded together: the base's own digits decide at
random whether the sum is rounded up or down, so small contributions survive on average.
"""

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def round_once(model: Any) -> Any:
    """The same model, whose adapters on linear layers with weights in half precision add up before they round: in
    training as in evaluation, under autocasting or not. PEFT's own forward remains for everything else: no adapter or
    several active ones, merged or quantised layers, variants like DoRA, and layers with hooks on their parts."""
    import torch
    from peft.tuners.lora import Linear
    from transformers.pytorch_utils import Conv1D

    for module in model.modules():
        if type(module) is Linear and type(module.base_layer) in (torch.nn.Linear, Conv1D):
            module.__class__ = _linear_class()
    return model


@cache
def _linear_class() -> type:
    import torch
    from peft.tuners.lora import Linear
    from transformers.pytorch_utils import Conv1D

    half = (torch.bfloat16, torch.float16)

    class RoundedOnce(Linear):  # type: ignore[misc]
        """PEFT's LoRA layer with one rounding."""

        def forward(self, x: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
            base, adapter = self.base_layer, None
            if base.weight.dtype in half and not args and not options:
                adapter = _only_adapter(self, x)
            if adapter is None:
                output: torch.Tensor = super().forward(x, *args, **options)
                return output
            weight = base.weight if type(base) is Conv1D else base.weight.t()
            return _forward(self, adapter, x, weight)

    RoundedOnce.__name__ = RoundedOnce.__qualname__ = Linear.__name__
    return RoundedOnce


def _only_adapter(layer: Any, x: "torch.Tensor") -> str | None:
    """The one active adapter of a layer, if its output can be rounded once."""
    import torch

    active = [name for name in layer.active_adapters if name in layer.lora_A]
    if layer.disable_adapters or layer.merged or len(active) != 1 or active[0] in layer.lora_variant:
        return None
    parts = (layer.base_layer, layer.lora_A[active[0]], layer.lora_B[active[0]])
    if parts[2].bias is not None or any(part._forward_pre_hooks or part._forward_hooks for part in parts):
        return None  # hooks may fetch a part's weights
    on = x.device.type
    dtype = torch.get_autocast_dtype(on) if torch.is_autocast_enabled(on) else x.dtype
    return active[0] if dtype == parts[0].weight.dtype else None


def _forward(layer: Any, adapter: str, x: "torch.Tensor", weight: "torch.Tensor") -> "torch.Tensor":
    """x: [..., in]; weight: [in, out]. Returns [..., out]."""
    import torch
    from torch.nn import functional

    down, up = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    rows = x.to(weight.dtype).reshape(-1, x.shape[-1])
    inner = functional.linear(layer.lora_dropout[adapter](rows), down.to(weight.dtype))
    delta = functional.linear(inner, (up * layer.scaling[adapter]).to(weight.dtype))
    output = torch.addmm(delta, rows, weight)
    if layer.base_layer.bias is not None:
        # Not into `delta` beforehand: on the coarse grid of a large bias it would be lost before the base is added.
        output = output + layer.base_layer.bias
    return output.view(*x.shape[:-1], -1)
