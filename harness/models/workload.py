"""Rough compute estimates, from a model's size, the number of tokens and the measured speed of this machine.

Work is counted in floating-point operations: 2 per parameter and token for a forward pass, 6 for training
(arXiv:2001.08361). These are divided by the share of peak throughput that each kind of work reaches (measured with a
135M model on two cores), so that work / peak is a time.
"""

import math
import re
import shutil
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from harness.errors import ModelError
from harness.models.checkpoints.folder import tensors
from harness.models.load import identity as model_identity

GENERATING, SCORING, TRAINING = 0.25, 0.7, 0.45
"""Share of peak throughput reached by each kind of work."""
LOADING_RATE = 1e9
"""Bytes of weights read per second."""
REPLY_SECONDS = 3.0
"""Seconds that a served judge or generator takes for one reply."""
_IN_NAME = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([mb])(?![a-z])", re.IGNORECASE)


@cache
def parameters(model: str) -> int | None:
    """The number of a model's parameters: from the headers of its weight files, else from its name (`7b`, `135m`). None
    if neither tells."""
    folder = Path(model)
    if folder.is_absolute() and (files := sorted(folder.glob("*.safetensors"))):
        try:
            return sum(math.prod(tensor.shape) for tensor in tensors(files, folder).values())
        except ModelError:
            return None  # only an estimate: loading reports the bad file
    sizes = _IN_NAME.findall(folder.name)
    return round(float(sizes[-1][0]) * (1e9 if sizes[-1][1] in "bB" else 1e6)) if sizes else None


def work(models: Sequence[str], tokens: float, efficiency: float = SCORING, operations: float = 2.0) -> float:
    """Operations to process `tokens` tokens with each of the models; 0 for a model of unknown size. `efficiency`: the
    share of peak throughput reached. `operations`: per parameter and token."""
    return sum(operations * (parameters(model) or 0) * tokens / efficiency for model in models)


def loading(models: Sequence[str]) -> float:
    """Seconds to read the models' weights, at two bytes per parameter."""
    return sum(2 * (parameters(model) or 0) / LOADING_RATE for model in models)


class Device(NamedTuple):
    """A compute device. `peak`: the operations per second that it reaches in a matrix product."""

    name: str
    peak: float


@cache
def device() -> Device:
    """This machine's GPU if there is one, else its CPU; takes a moment to measure."""
    return _gpu() or Device("this machine's processors", _fastest(_on_processors()))


def _fastest(product: Callable[[], int]) -> float:
    """Operations per second in the best of six runs of `product`, which returns its number of operations."""
    return max(_rate(product) for _ in range(6))


def _rate(product: Callable[[], int]) -> float:
    started = time.perf_counter()
    operations = product()
    return operations / (time.perf_counter() - started)


def _on_processors(size: int = 768) -> Callable[[], int]:
    import numpy as np

    matrix = np.random.default_rng(0).random((size, size), dtype=np.float32)

    def product() -> int:
        matrix @ matrix
        return 2 * size**3

    return product


def _gpu(size: int = 4096) -> Device | None:
    if shutil.which("nvidia-smi") is None:  # don't import torch if there is nothing to find
        return None
    import torch

    if not torch.cuda.is_available():
        return None
    matrix = torch.rand(size, size, device="cuda", dtype=torch.bfloat16)

    def product() -> int:
        matrix @ matrix
        torch.cuda.synchronize()
        return 2 * size**3

    return Device(f"one {torch.cuda.get_device_name()}", _fastest(product))


def models_of_unknown_size(models: Sequence[str]) -> list[str]:
    """Names of those models whose number of parameters is unknown."""
    return [model_identity(model)["model"] for model in models if parameters(model) is None]
