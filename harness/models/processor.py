"""Whether this machine's processor is good at bfloat16, and the dtype that `dtype: auto` stands for.

Processors with AVX512-BF16, AMX or Arm's BF16 instructions multiply bfloat16 matrices two to ten times as fast as
float32 ones; others imitate it, and are slower. What a processor says about itself doesn't decide that (a virtual
machine may hide it, torch may not use it). So it is measured once, and the record in the cache folder decides from then
on: an answer that changed from run to run would change the keys of all stages.
"""

import contextlib
import hashlib
import os
import platform
import shutil
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field, GetPydanticSchema, ValidationInfo
from pydantic_core import core_schema

from harness.errors import is_installed
from harness.files import cache_root, json_text
from harness.models.load import Dtype
from harness.models.load import device as torch_device
from harness.outside import parse_json, read_file
from harness.settings import Settings

if TYPE_CHECKING:
    import torch

GOOD = 1.5
"""How many times as fast as in float32 products in bfloat16 must be. Measured: 3.7 with AVX512-BF16, 0.8 where AVX-512
imitates it, 0.3 where AVX2 does."""
SHAPES = ((128, 576, 1536), (128, 1536, 576))
"""Tokens, inputs and outputs of the measured products: the feed-forward layers of a small transformer."""
ROUNDS = 9
MOST_SECONDS = 0.25
"""No round starts after that."""
_FEATURES = frozenset({"amx_bf16", "avx512_bf16", "avx512f", "avx2", "bf16", "svebf16"})
_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
"""Environment variables that keep torch's products from using all instructions."""
_ACCELERATOR_FILES = ("nvidiactl", "dxg", "kfd", "dri/renderD*", "accel*", "davinci*", "habanalabs*")
"""Device files, below /dev, of Nvidia, WSL, AMD, Intel and other accelerators."""


class Answer(NamedTuple):
    """Whether products in bfloat16 are worth while here, and why, as the end of a sentence."""

    good: bool
    reason: str


class _Record(Settings):
    """A measurement on file. `speed`: how many times as fast as float32 products those in bfloat16 were."""

    processor: str
    torch: str
    speed: float = Field(gt=0)
    good: bool


def bfloat16_here() -> Answer:
    """Whether products in bfloat16 are fast on this machine: they are on an accelerator; a processor's are measured on
    first use. Imports torch only to measure, and where there may be an accelerator."""
    if _may_have_accelerator() and torch_device().type != "cpu":
        return Answer(True, "there is an accelerator")
    if not is_installed("torch"):
        return Answer(False, "torch is not installed, which would measure what is fast")
    record = _recorded(record_file(), processor_name(), torch_version())
    times = f"{record.speed:.1f} times as fast as in float32"
    return Answer(record.good, f"{record.processor} multiplies matrices {times} (torch {record.torch})")


def recorded_speed() -> float:
    """How many times as fast as in float32 this processor multiplies in bfloat16, as it was once measured; 1 where it
    has not been. Measures nothing."""
    record = _read(record_file(), processor_name(), torch_version())
    return record.speed if record else 1.0


def _concrete(value: Dtype | Literal["auto"], info: ValidationInfo) -> Dtype:
    if value != "auto":
        return value
    context = info.context or {}
    on_gpu = context.get("on_gpu", False)
    answer = Answer(True, "--on names a GPU") if on_gpu else bfloat16_here()
    dtype: Dtype = "bfloat16" if answer.good else "float32"
    reasons: set[str] = context.get("auto_dtype", set())
    reasons.add(f"dtype auto is {dtype} {'there' if on_gpu else 'here'}: {answer.reason}")
    return dtype


def _auto_or_dtype(_: Any, handler: Any) -> core_schema.CoreSchema:
    choices = handler(Literal["auto", "float32", "bfloat16", "float16"])
    return core_schema.with_info_after_validator_function(_concrete, choices)


AutoDtype = Annotated[Dtype, GetPydanticSchema(_auto_or_dtype)]
"""A recipe's dtype: `auto` becomes the dtype that is best on this machine when the recipe is read, so that keys hold
what was computed in. The reason is added to the validation context's `auto_dtype`, a set, if it has one. With `on_gpu`
in the context it is a GPU's dtype, whatever this machine has."""


def _may_have_accelerator() -> bool:
    """Whether anything hints at an accelerator; False spares the import of torch."""
    if sys.platform == "darwin":
        return True
    if torch_version().endswith("+cpu"):
        return False
    return bool(shutil.which("nvidia-smi")) or any(any(Path("/dev").glob(name)) for name in _ACCELERATOR_FILES)


@cache
def torch_version() -> str:
    """The version of the installed torch, without importing it; empty if there is none."""
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


def processor_name() -> str:
    """The processor's name, with what decides how it multiplies: a virtual machine's may have the name of another."""
    facts = _cpuinfo()
    arm = " ".join(facts[name] for name in ("CPU implementer", "CPU part") if name in facts)
    name = facts.get("model name") or arm or platform.processor() or platform.machine()
    features = _FEATURES.intersection((facts.get("flags") or facts.get("Features") or "").split())
    limits = [f"{limit}={os.environ[limit]}" for limit in _LIMITS if os.environ.get(limit)]
    return " ".join([name[:100], *([f"({', '.join(sorted(features))})"] if features else []), *limits])


@cache
def _cpuinfo() -> dict[str, str]:
    """What Linux says about the first processor, by name."""
    facts: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), " ".join(value.split()))
    return facts


def record_file() -> Path:
    """The file of this machine's record. One for each processor and each version of torch: machines may share the
    cache folder."""
    kept_under = f"{processor_name()} {torch_version()}"
    return cache_root() / "processors" / f"{hashlib.sha256(kept_under.encode()).hexdigest()[:16]}.json"


def _recorded(path: Path, processor: str, torch: str) -> _Record:
    """The record of this processor and this torch. Measured and written where there is none that can be used."""
    if record := _read(path, processor, torch):
        return record
    speed = bfloat16_speed(processor, torch)
    record = _Record(processor=processor, torch=torch, speed=round(speed, 3), good=speed >= GOOD)
    with contextlib.suppress(OSError):  # a full or read-only disk: it is measured again next time
        return _written(path, record)
    return record


def _read(path: Path, processor: str, torch: str) -> _Record | None:
    """A record; None for one that is missing, damaged or of another machine."""
    try:
        record = _Record.model_validate(parse_json(read_file(path)), strict=True)
    except (OSError, ValueError):  # pydantic's ValidationError is a ValueError
        return None
    return record if (record.processor, record.torch) == (processor, torch) else None


def _written(path: Path, record: _Record) -> _Record:
    """Write a record as a whole. One that another process has written meanwhile stays, and is returned. Raises
    OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
    try:
        scratch.write_text(json_text(record.model_dump()), encoding="utf-8")
        try:
            os.link(scratch, path)
        except OSError:  # there is a file, or this file system has no links
            if other := _read(path, record.processor, record.torch):
                return other
            os.replace(scratch, path)
        return record
    finally:
        scratch.unlink(missing_ok=True)


@cache
def bfloat16_speed(processor: str, torch: str) -> float:
    """How many times as fast this processor's matrix products are in bfloat16 as in float32: the median over rounds
    that measure both. In processor time on one thread, so that it doesn't depend on what else runs here. Takes about
    0.1 s; imports torch. The arguments are what the result is kept under."""
    import torch as library

    threads = library.get_num_threads()
    library.set_num_threads(1)
    try:
        with library.inference_mode():
            return _median_speed(_products(library.float32), _products(library.bfloat16))
    finally:
        library.set_num_threads(threads)


def _products(dtype: "torch.dtype") -> Callable[[], float]:
    """A measurement of the products of SHAPES in a dtype: the seconds that they take."""
    import torch

    generator = torch.Generator().manual_seed(0)

    def matrix(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    pairs = [(matrix(tokens, inputs), matrix(outputs, inputs)) for tokens, inputs, outputs in SHAPES]

    def seconds() -> float:
        started = time.thread_time()
        for states, weight in pairs:
            torch.nn.functional.linear(states, weight)
        return time.thread_time() - started

    return seconds


def _median_speed(float32: Callable[[], float], bfloat16: Callable[[], float]) -> float:
    """The median ratio of times, over rounds of both, after one that isn't counted: torch prepares its products
    then."""
    ends = time.monotonic() + MOST_SECONDS
    float32(), bfloat16()
    speeds: list[float] = []
    while not speeds or (len(speeds) < ROUNDS and time.monotonic() < ends):
        speeds.append(float32() / max(bfloat16(), 1e-9))
    return median(speeds)
