"""Devices that models run on: named GPUs, with the figures of their data sheets, and this machine, which is measured.

What of its peak a device reaches is assumed for named ones; none of it was measured on a GPU. Trainings reach 20 % of
the dense bfloat16 peak (model FLOP utilisation, arXiv 2204.02311), half of what Llama 3's pretraining reached (38 to
43 %, arXiv 2407.21783, table 4), since nothing here is tuned as that was; passes without gradients 30 %. Decoding is
bound by memory, which reads weights and caches for each token of a batch (arXiv 2402.16363), at 60 % of the bandwidth
by vLLM; in process a layer also takes at least a millisecond, as launching its kernels one by one does.
"""

import os
import re
import shutil
import time
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from harness.errors import RecipeError, nearest, quoted
from harness.files import asset
from harness.models.processor import recorded_speed
from harness.outside import read_text
from harness.outside_yaml import parse_yaml

_ON = re.compile(r"(?P<name>[a-z0-9][a-z0-9-]*)(:(?P<count>[1-9][0-9]{0,5}))?", re.IGNORECASE)


class Reached(NamedTuple):
    """The share of its peak that a device reaches in training and in passes without gradients, and of its bandwidth in
    decoding. `layer`: the least seconds of a layer for a token of a batch, decoded in process."""

    training: float
    scoring: float
    decoding: float
    layer: float = 0.0


ASSUMED = Reached(training=0.2, scoring=0.3, decoding=0.6, layer=1e-3)
MEASURED = Reached(training=0.3, scoring=0.7, decoding=0.25)
"""Of a matrix product's speed on two cores, measured with a 135M model. There decoding is bound by products, too."""
RESERVED = 1.5e9
"""Bytes of a GPU that its driver, the libraries and fragments take: our assumption."""


class Device(NamedTuple):
    """A compute device. `peak`, `single`: operations per second in bfloat16 and float32. `memory`: bytes; `bandwidth`:
    bytes per second, None if it isn't known. `process`: bytes of a process besides its tensors."""

    name: str
    peak: float
    single: float
    memory: float
    bandwidth: float | None = None
    reached: Reached = MEASURED
    process: float = 0.0
    is_gpu: bool = False
    source: str = ""

    def rate(self, dtype: str, share: float) -> float:
        """Operations per second in a dtype, at a share of the peak."""
        return share * (self.single if dtype == "float32" else self.peak)


class Devices(NamedTuple):
    """So many devices of one kind."""

    device: Device
    number: int


def named(text: str) -> Devices:
    """The devices that `--on` names: `h100`, or eight of them, `h100:8`. Raises RecipeError."""
    known = _table()
    found = _ON.fullmatch(text.strip())
    if found is None:
        raise RecipeError(f"--on {quoted(text)}: expected a device and how many, as in h100 or h100:8")
    name = found["name"].lower()
    if name not in known:
        raise RecipeError(f"--on: unknown device {quoted(name)}; {nearest(name, known, 'expected one of')}")
    return Devices(_device(known[name]), int(found["count"] or 1))


def _table() -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = parse_yaml(read_text(asset("devices.yaml"), 2**16))
    return table


def _device(figures: dict[str, Any]) -> Device:
    return Device(
        name=figures["title"],
        peak=figures["bfloat16"] * 1e12,
        single=figures["float32"] * 1e12,
        memory=figures["memory"] * 1e9,
        bandwidth=figures["bandwidth"] * 1e12,
        reached=ASSUMED,
        process=RESERVED,
        is_gpu=True,
        source=figures["source"],
    )


PROCESS = 0.6e9
"""Bytes of a process on a CPU besides its tensors: Python, torch and transformers, measured."""


@cache
def device() -> Device:
    """This machine's GPU if there is one, else its CPU; takes a moment to measure."""
    if gpu := _gpu():
        return gpu
    single, memory = _fastest(_on_processors()), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    peak = single * recorded_speed()  # numpy has no bfloat16
    return Device("this machine's processors", peak, single, float(memory), process=PROCESS)


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

    peak, properties = _fastest(product), torch.cuda.get_device_properties(0)
    return Device(
        f"one {torch.cuda.get_device_name()}",
        peak,
        peak,
        float(properties.total_memory),
        process=RESERVED,
        is_gpu=True,
    )
