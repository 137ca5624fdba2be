"""How long computing takes, roughly: from the size of a model, the number of tokens, and how fast this machine is.

Work is counted in floating-point operations as if the machine reached its peak in them: 2 a parameter and token for a
forward, 6 for training (2001.08361), divided by the share of the peak that each kind of work reaches, as measured with
a 135M model on two cores.
"""

import json
import re
import shutil
import struct
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from harness import models

GENERATING, SCORING, TRAINING = 0.25, 0.7, 0.45
LOADED = 1e9
"""Bytes a second in which weights are read."""
REPLY_SECONDS = 3.0
"""What a served judge or generator takes for one reply."""
_SIZES = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8, "I8": 1, "U8": 1, "F8_E4M3": 1, "F8_E5M2": 1}
_IN_NAME = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([mb])(?![a-z])", re.IGNORECASE)


@cache
def parameters(model: str) -> int | None:
    """How many parameters a model has: from the headers of its weights, or from its name (`7b`, `135m`). None where
    neither says."""
    folder = Path(model)
    if folder.is_absolute() and (files := sorted(folder.glob("*.safetensors"))):
        try:
            return sum(_in_file(path) for path in files)
        except (OSError, ValueError, KeyError, TypeError, struct.error):
            return None  # an estimate is no place to complain of a file that loading will complain of
    named = _IN_NAME.findall(folder.name)
    return round(float(named[-1][0]) * (1e9 if named[-1][1] in "bB" else 1e6)) if named else None


def _in_file(path: Path) -> int:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(min(length, 100_000_000)))
    tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
    return sum(_count(tensor["shape"]) for tensor in tensors)


def _count(shape: Sequence[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def models_in(component: Any) -> list[str]:
    """The models that a component loads in this process, those of its parts included; none for a served one."""
    if hasattr(component, "base_url"):
        return []
    if isinstance(component, BaseModel):
        own = [m for field in ("base", "model") if isinstance(m := getattr(component, field, None), str)]
        return own + [m for f in type(component).model_fields for m in models_in(getattr(component, f))]
    if isinstance(component, list | tuple):
        return [m for item in component for m in models_in(item)]
    return []


def work(found: Sequence[str], tokens: float, kind: float = SCORING, times: float = 2.0) -> float:
    """Operations that `tokens` tokens take in each of the models; nothing for models of unknown size."""
    return sum(times * (parameters(model) or 0) * tokens / kind for model in found)


def loading(found: Sequence[str]) -> float:
    """Seconds in which the models' weights are read, at two bytes a parameter."""
    return sum(2 * (parameters(model) or 0) / LOADED for model in found)


class Device(NamedTuple):
    """What computes: its name, and the operations a second that it reaches in a product of matrices."""

    name: str
    peak: float


@cache
def device() -> Device:
    """This machine's GPU, where there is one, else its processors: measured, in a moment."""
    return _gpu() or Device("this machine's processors", _fastest(_on_processors()))


def _fastest(product: Callable[[], int]) -> float:
    """Operations a second in the best of six tries; `product` returns how many it has done."""
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
    if shutil.which("nvidia-smi") is None:  # torch is imported only where there is something to be found
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


def unknown(found: Sequence[str]) -> list[str]:
    """Those of the models whose size can't be told."""
    return [models.identity(model)["model"] for model in found if parameters(model) is None]
