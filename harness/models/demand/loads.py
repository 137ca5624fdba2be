"""What one model does in a stage: its operations, seconds and peak memory on a device.

Operations: 2 for each parameter and token of a forward pass (arXiv 2001.08361). Attention's own products are left out.
What a device reaches of its peak is said in `harness.models.demand.devices`. Memory is that of one process.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from harness.models.demand.devices import Device
from harness.models.demand.shapes import Shape, shape_of

LOADING_RATE = 1e9
"""Bytes of weights read per second."""
REPLY_SECONDS = 3.0
"""Seconds that a served judge or generator takes for one reply."""
SEQUENCES = 256
"""Sequences that an engine decodes at a time, and the most that are decoded in process on a GPU."""
TILE = 2**28
TILE_ON_CPU = 2**26
"""Logits in a tile of the head (`harness.logprobs.tiles`), in float32."""


def size_of(dtype: str) -> int:
    """Bytes of a number."""
    return 4 if dtype == "float32" else 2


def tile_bytes(shape: Shape, tokens: float, device: Device) -> float:
    """Bytes of the logits that exist at a time."""
    largest = min(TILE if device.is_gpu else TILE_ON_CPU, device.memory / 64 / 4)
    return 4 * min(tokens * shape.vocabulary, largest)


@dataclass(frozen=True)
class Load:
    """One model's work in a stage. `tokens`: those that go through it, or that it writes. `row`: tokens of the longest
    sequence; `rows`: sequences at a time. `dtype`: of the weights. `processes`: GPUs that share the work; `sharded`:
    each holds a part of the weights."""

    model: str
    tokens: float
    row: int
    rows: int = 1
    dtype: str = "bfloat16"
    processes: int = 1
    sharded: bool = False

    @property
    def shape(self) -> Shape | None:
        """The model's dimensions; None if they are unknown, and so is the rest."""
        return shape_of(self.model)

    def times(self, share: float) -> Self:
        """The load with more or fewer tokens."""
        return replace(self, tokens=share * self.tokens)

    def seconds(self, device: Device) -> float | None:
        """Seconds of one device; several take as many together, if they share the work without loss."""
        return None if self.shape is None else self._seconds(self.shape, device)

    def memory(self, device: Device) -> float | None:
        """Peak bytes of one process."""
        return None if self.shape is None else self._memory(self.shape, device) + device.process

    def smaller(self) -> "list[tuple[str, Self]]":
        """What a recipe can say so that less memory is needed, each with the load that it makes; gentle ones first."""
        return []

    @abstractmethod
    def _seconds(self, shape: Shape, device: Device) -> float: ...

    @abstractmethod
    def _memory(self, shape: Shape, device: Device) -> float: ...

    def _weights(self, shape: Shape) -> float:
        """Bytes of a process's weights. Of sharded ones also a layer's and the embeddings', which are whole in use."""
        size = size_of(self.dtype)
        if not self.sharded:
            return shape.parameters * size
        whole = max(2 * shape.parameters / shape.layers, 2 * shape.embeddings)
        return size * (shape.parameters / self.processes + whole)


@dataclass(frozen=True)
class Scoring(Load):
    """Forward passes without gradients. `batch_field`: the recipe's field that says how many rows there are at a time.
    `models`: of this size that are in memory together; `tokens` are those of all."""

    batch_field: str = "runtime.score_batch_size"
    models: int = 1

    def _seconds(self, shape: Shape, device: Device) -> float:
        return 2 * shape.active * self.tokens / device.rate(self.dtype, device.reached.scoring)

    def _memory(self, shape: Shape, device: Device) -> float:
        tokens = self.rows * self.row
        # A layer's input and residual, queries, keys, values and output, and three tensors of its inner width.
        layer = (6 * shape.hidden + 3 * shape.inner) * size_of(self.dtype)
        return self.models * self._weights(shape) + tokens * layer + tile_bytes(shape, tokens, device)

    def smaller(self) -> list[tuple[str, Self]]:
        fewer = [(f"{self.batch_field}: {max(1, self.rows // 8)}", replace(self, rows=max(1, self.rows // 8)))]
        return fewer if self.rows > 1 else []


@dataclass(frozen=True)
class Decoding(Load):
    """Sampling. `read`: prompt tokens, which are read before; `written`: most new tokens of a sequence; `texts`: how
    many sequences there are. `by_engine`: vLLM or a server like it, rather than in process."""

    read: float = 0.0
    written: int = 0
    texts: float = 1.0
    by_engine: bool = False

    def times(self, share: float) -> Self:
        return replace(self, tokens=share * self.tokens, written=max(1, round(share * self.written)))

    def batch(self, shape: Shape, device: Device) -> int:
        """Sequences that are decoded at a time: as many as there are, as the recipe allows, and as fit."""
        cache = self.row * self._token_cache(shape)
        room = 0.85 * device.memory - device.process - shape.parameters * size_of(self.dtype) / self.processes
        return max(1, int(min(self.rows, self.texts, self.processes * room / max(1.0, cache))))

    def _token_cache(self, shape: Shape) -> float:
        """Bytes of keys and values of a token."""
        return 2 * shape.layers * shape.keys * size_of(self.dtype)

    def _seconds(self, shape: Shape, device: Device) -> float:
        reading = 2 * shape.active * self.read / device.rate(self.dtype, device.reached.scoring)
        if device.bandwidth is None:
            share = device.reached.scoring if device.is_gpu else device.reached.decoding
            return reading + 2 * shape.active * self.tokens / device.rate(self.dtype, share)
        batch = self.batch(shape, device)
        context = max(1.0, self.row - self.written / 2)
        moved = shape.parameters * size_of(self.dtype) + batch * context * self._token_cache(shape)
        computed = 2 * shape.active * batch / device.rate(self.dtype, device.reached.scoring)
        step = max(moved / (device.reached.decoding * device.bandwidth), computed)
        if not self.by_engine:
            step = max(step, shape.layers * device.reached.layer)
        return reading + step * self.tokens / batch

    def _memory(self, shape: Shape, device: Device) -> float:
        caches = self.batch(shape, device) * self.row * self._token_cache(shape)
        return (shape.parameters * size_of(self.dtype) + caches) / self.processes

    def smaller(self) -> list[tuple[str, Self]]:
        if not self.by_engine:
            return []
        return [(f"parallel or gpus: {n}", replace(self, processes=n)) for n in (2, 4, 8) if n > self.processes]


def loading(models: Sequence[str]) -> float:
    """Seconds to read the models' weights, at two bytes per parameter; those of unknown size are left out."""
    return sum(2 * shape.parameters / LOADING_RATE for model in models if (shape := shape_of(model)) is not None)
