"""Less memory between forward and backward: what one cheap operation gives again isn't kept.

For gradients, autograd keeps a gate, its activation, the other factor and their product; of a norm, the normalised
values and their product with the weights; under autocast also a copy of each in half precision, and of every weight.
`lean_graph` keeps what these follow from, and computes the rest again, with the same bits, when backward asks for it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional

SMALLEST = 2**12
"""Elements from which on a tensor is worth it."""
VIEWS = {"ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0"}
ACTIVATIONS: dict[str, Callable[[Any], Tensor]] = {
    "SiluBackward0": lambda node: functional.silu(node._saved_self),
    "GeluBackward0": lambda node: functional.gelu(node._saved_self, approximate=node._saved_approximate),
}


class lean_graph(saved_tensors_hooks):
    """While open, operations save as described above. A backward may follow the context."""

    def __init__(self) -> None:
        graph = _Graph()
        super().__init__(graph.pack, graph.unpack)


class _Source(NamedTuple):
    """What a saved tensor follows from: `compute` gives it but for its shape."""

    key: tuple[Any, torch.dtype]
    compute: Callable[[], Tensor]
    transposed: bool


class _Value:
    """A value that is computed again when its first user asks for it, and kept until its last one has."""

    def __init__(self, compute: Callable[[], Tensor]) -> None:
        self.compute = compute
        self.users = 0
        self.value: Tensor | None = None


class _Saved(NamedTuple):
    value: _Value
    shape: torch.Size
    transposed: bool


class _Graph:
    def __init__(self) -> None:
        self._values: dict[Any, _Value] = {}
        self._depth = 0

    def pack(self, tensor: Tensor) -> Tensor | _Saved:
        source = _source(tensor) if tensor.numel() >= SMALLEST else None
        if source is None:
            return tensor
        value = self._values.setdefault(source.key, _Value(source.compute))
        value.users += 1
        return _Saved(value, tensor.shape, source.transposed)

    def unpack(self, saved: Tensor | _Saved) -> Tensor:
        if isinstance(saved, Tensor):
            return saved
        value = saved.value
        if value.value is None:
            self._depth += 1
            with torch.no_grad():
                value.value = value.compute()
            self._depth -= 1
        tensor = value.value
        if not self._depth:  # an operation that is computed again asks once more in its own backward
            value.users -= 1
            if value.users <= 0:
                value.value = None
        return tensor.t() if saved.transposed else tensor.view(saved.shape)


def _source(tensor: Tensor) -> _Source | None:
    """What a tensor follows from; None if it must be kept. A chain of views with at most one cast leads from a product
    or an activation to it, or it is a transposed cast of a weight."""
    node: Any = tensor.grad_fn
    if node is None:
        return None
    dtype, is_cast = tensor.dtype, False
    if node.name() == "TBackward0":  # a layer's copy of its weight
        weight = _weight_of_cast(node.next_functions[0][0])
        return None if weight is None else _Source((weight, dtype), lambda: weight.detach().to(dtype), True)
    while node.name() in VIEWS or (node.name() == "ToCopyBackward0" and not is_cast):
        is_cast = is_cast or node.name() == "ToCopyBackward0"
        node = node.next_functions[0][0]
    kind = node.name()
    if kind == "MulBackward0" and all(factor is not None for factor, _ in node.next_functions):
        return _Source((node, dtype), lambda: (node._saved_self * node._saved_other).to(dtype), False)
    if kind in ACTIVATIONS:
        return _Source((node, dtype), lambda: ACTIVATIONS[kind](node).to(dtype), False)
    return None


def _weight_of_cast(node: Any) -> Tensor | None:
    """The parameter that a node casts."""
    if node.name() != "ToCopyBackward0":
        return None
    source = node.next_functions[0][0]
    weight: Tensor | None = source.variable if source.name() == "torch::autograd::AccumulateGrad" else None
    return weight
