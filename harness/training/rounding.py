"""Stochastic rounding of trained weights to half precision.

Rounding to the nearest value loses changes smaller than half a step of the half-precision grid, and preference training
mostly makes such changes: nearly every weight falls back onto the base's. Rounded up or down at random, with the
probability that makes the mean right, the changes survive in the sum over many weights (arXiv 1502.02551).
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

_CHUNK = 1 << 18
"""Weights rounded at a time: they stay in the processor's cache. It's part of the stream of random numbers."""


def round_stochastically(weights: torch.Tensor, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    """float32 -> bfloat16 or float16 on the CPU, same shape: up or down to a neighbour on the grid, unbiased. What is
    on the grid stays as it is, like infinities and NaN; a finite value stays finite."""
    flat = weights.detach().to("cpu", torch.float32).contiguous().view(-1)
    rounded = torch.empty(flat.shape, dtype=dtype)
    for start in range(0, flat.numel(), _CHUNK):
        chunk = flat[start : start + _CHUNK]
        rounded[start : start + _CHUNK] = _round_chunk(chunk, dtype, torch.rand(chunk.shape, generator=generator))
    return rounded.view(weights.shape)


def _round_chunk(exact: torch.Tensor, dtype: torch.dtype, uniform: torch.Tensor) -> torch.Tensor:
    """`uniform`: random numbers in [0, 1). The bits of a magnitude, read as an integer, count its grid's values."""
    size = exact.abs()
    below = size.to(dtype)
    bits = below.view(torch.int16)
    bits -= (below.float() > size).to(torch.int16)  # the nearest value may lie above
    low = below.float()
    step = (bits + 1).view(dtype).float() - low  # infinite above the largest value, where nothing is rounded up
    bits += (uniform * step < size - low).to(torch.int16)
    return torch.where(exact.isfinite(), below, size.to(dtype)).copysign(exact.to(dtype))


def rounded_weights(
    model: Any, weights: Mapping[str, torch.Tensor], dtype: torch.dtype, seed: int
) -> dict[str, torch.Tensor]:
    """A whole model's weights by name, as `model.state_dict()` names them, on the CPU: stochastically rounded from
    float32. Tied weights are rounded once. Buffers, and what the architecture keeps in float32, stay as they are.

    The random numbers of a weight depend on `seed` and its name, not on other weights. model: of transformers; only its
    names are used, so its own weights may be elsewhere."""
    buffers = {name for name, _ in model.named_buffers()}
    in_float32 = _float32_modules(model, dtype)
    tied: Mapping[str, str] = model.all_tied_weights_keys
    rounded: dict[str, torch.Tensor] = {}
    for name in sorted(weights, key=lambda name: name in tied):  # after those that they are tied to
        weight = weights[name]
        if tied.get(name) in rounded:
            rounded[name] = rounded[tied[name]]
        elif weight.dtype != torch.float32 or name in buffers or _is_of(name, in_float32):
            rounded[name] = weight.detach().cpu()
        else:
            rounded[name] = round_stochastically(weight, dtype, _generator(seed, name))
    return rounded


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))


def _float32_modules(model: Any, dtype: torch.dtype) -> list[str]:
    """The names of modules and weights that transformers loads in float32 whatever half-precision dtype is asked for,
    and of those that it does so only for float16."""
    always = list(model._keep_in_fp32_modules_strict or ())
    return always + (list(model._keep_in_fp32_modules or ()) if dtype == torch.float16 else [])


def _is_of(name: str, modules: Sequence[str]) -> bool:
    """Whether a weight is of one of the modules. `*` in a module's name stands for anything."""
    patterns = (re.escape(module).replace(r"\*", ".*") for module in modules)
    return any(re.search(rf"(^|\.){pattern}(\.|$)", name) for pattern in patterns)
