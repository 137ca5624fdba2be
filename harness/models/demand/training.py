"""What a training demands: operations, and what each of its processes holds.

The tensors that autograd keeps were counted with hooks, on Llama layers of several widths. A GPU is taken to hold just
these. On a CPU `harness.logprobs.lean` keeps fewer, but glibc's heap holds 1.4 to 2.1 times what is alive, in pieces
(with MALLOC_MMAP_THRESHOLD_=65536 only that, in a quarter more time): measured with SmolLM2-135M, by mode. There the
predicted peak was within 10 % of the measured one; tests/models/demand/test_peak.py compares them for another shape.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from harness.models.demand.devices import Device
from harness.models.demand.loads import Load, size_of, tile_bytes
from harness.models.demand.shapes import Shape

ADAM = 8
"""Bytes of AdamW's two moments of a weight, in float32."""


class Kept(NamedTuple):
    """Bytes that a layer keeps of a token: per unit of its inner width and of its hidden size, and the rest."""

    inner: float
    hidden: float
    rest: float


# By (whether only adapters are trained, bytes of a product's number).
_ON_GPU = {
    (True, 2): Kept(8, 22, 1400),
    (True, 4): Kept(16, 34, 3200),
    (False, 2): Kept(10, 49, 0),
    (False, 4): Kept(16, 46, 1900),
}
_ON_CPU = {
    (True, 2): Kept(5.8, 32, 2100),
    (True, 4): Kept(17, 72, 6800),
    (False, 2): Kept(7.5, 35.5, 1800),
    (False, 4): Kept(11.8, 41, 3500),
}


@dataclass(frozen=True)
class Training(Load):
    """A training. `row`: tokens of the longest prompt with all its responses; `rows`: of those at a time. `dtype`: of
    the products. `rank`: of its adapters; None: all weights are trained, in float32. `bits`: of a quantised base.
    `checkpointed`: only the inputs of layers are kept. `one_response`: tokens of the longest response with its prompt,
    if one is computed at a time."""

    rank: int | None = None
    bits: int | None = None
    checkpointed: bool = False
    one_response: int | None = None

    def _seconds(self, shape: Shape, device: Device) -> float:
        # Backward has one product of its own for the inputs of each layer, and one for the weights that are trained.
        passes = (2 if self.rank is not None else 3) + (1 if self.checkpointed else 0)
        passes += 1 if self.one_response else 0
        return 2 * shape.active * passes * self.tokens / device.rate(self.dtype, device.reached.training)

    def _memory(self, shape: Shape, device: Device) -> float:
        return self._held(shape) + self._activations(shape, device)

    def _held(self, shape: Shape) -> float:
        """Weights, gradients and the optimizer's state."""
        trained = shape.parameters if self.rank is None else self.rank * shape.adapted
        state = trained * (4 + 4 + ADAM)
        several = 4 * trained if self.processes > 1 and not self.sharded else 0  # what gradients are sent in
        base = 0.0 if self.rank is None else self._base(shape)
        if not self.sharded:
            return base + state + several
        size = 4 if self.rank is None else size_of(self.dtype)
        whole = size * max(2 * shape.parameters / shape.layers, 2 * shape.embeddings)
        return (base + state) / self.processes + whole

    def _base(self, shape: Shape) -> float:
        """Frozen weights; of quantised ones the embeddings and the head are not."""
        size = size_of(self.dtype)
        if self.bits is None:
            return shape.parameters * size
        rest = 2 * shape.embeddings
        return (self.bits / 8 + 0.02) * (shape.parameters - rest) + size * rest

    def _activations(self, shape: Shape, device: Device) -> float:
        tokens = self.one_response or self.rows * self.row
        size = size_of(self.dtype)
        kept = (_ON_GPU if device.is_gpu else _ON_CPU)[self.rank is not None, size]
        layer = tokens * (kept.inner * shape.inner + kept.hidden * (shape.hidden + shape.queries) / 2 + kept.rest)
        # Beside what is kept, backward holds the gradients of one layer, and computes its inner values again.
        working = tokens * (4 * shape.inner + 6 * shape.hidden) * size
        layers = tokens * shape.hidden * size * shape.layers + layer if self.checkpointed else shape.layers * layer
        head = tile_bytes(shape, tokens, device) + 4 * tokens * shape.hidden
        return layers + max(working, head)

    def smaller(self) -> list[tuple[str, Self]]:
        found = []
        if self.rows > 1:
            found.append(("runtime.micro_batch_size: 1", replace(self, rows=1)))
        if not self.checkpointed:
            found.append(("runtime.memory: checkpointed", replace(self, rows=1, checkpointed=True)))
        if not self.sharded and self.one_response is None:
            text = "runtime.launch with FSDP or ZeRO-3 on {} GPUs"
            found += [
                (text.format(n), replace(self, rows=1, checkpointed=True, processes=n, sharded=True))
                for n in (2, 4, 8)
                if n >= self.processes
            ]
        if self.rank is not None and self.bits is None and not self.sharded:
            found.append(("lora: {bits: 4} (QLoRA)", replace(self, rows=1, checkpointed=True, bits=4)))
        if self.rank is None:
            found.append(("LoRA instead of all weights", replace(self, rows=1, checkpointed=True, rank=16)))
        return found
