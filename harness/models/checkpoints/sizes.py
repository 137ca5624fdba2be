"""What a configuration asks for, checked before anything is built: a number in a file costs its author nothing, and a
model of 10^8 layers takes hours and all memory. Kernels that are fetched from the hub are code."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import ModelError
from harness.printable import printable

MOST_OF_A_KIND = 100_000
"""The largest number of experts, heads or labels of a model. Of 802 families' defaults none is above 60,000."""
MOST_LAYERS = 1_024
"""The largest number of layers that have no tensors of their own in the files of weights."""
LARGEST_SIZE = 1 << 31
"""The largest size: of a vocabulary, a layer, a window."""
_LAYERS = re.compile(r"n_layers?|num_(hidden_|encoder_|decoder_)?layers|(en|de)coder_layers")
"""Names of numbers of layers. Each layer has a tensor at least."""
_KIND = re.compile(
    r"layer|depth|block|stage|expert|head|group|codebook|label|attention_types|hash|bucket|level|conv|^num_|^n_",
    re.IGNORECASE,
)
_SIZE = re.compile(r"size|dim|vocab|position|length|ctx|window|embd|inner|embed|chunk|width", re.IGNORECASE)
_STACK = re.compile(r"layers?$|depth|blocks?$|stages?$|attention_types", re.IGNORECASE)
_FREE = re.compile(r"param|sample|step|flop|seed|total|theta|token|train|(^|_)ids?$", re.IGNORECASE)
"""Numbers that nothing is built from."""


def check_sizes(config: dict[str, Any], path: Path, tensors: int | None = None) -> None:
    """Check the numbers in a configuration. `tensors`: how many the files of weights hold, if known. Raises
    ModelError, also if it names a kernel on the hub."""
    for name, value in _values(config, ""):
        if name.endswith("_implementation") and isinstance(value, str) and "/" in value:
            raise ModelError(f"{path}: {name} names code on the hub, {printable(repr(value), 80)}; remove the field")
    for name, value in _numbers(config):
        if _LAYERS.fullmatch(name) and tensors is not None and value > tensors:
            raise ModelError(f"{path}: {name} is {value:,}, but the weights have {tensors:,} tensors; fetch them again")
        largest = None if _FREE.search(name) else _largest(name, tensors or 0)
        if largest is not None and abs(value) > largest:
            raise ModelError(f"{path}: {printable(name, 60)} is {value:,}; expected at most {largest:,}")


def _largest(name: str, tensors: int) -> int | None:
    if _SIZE.search(name):
        return LARGEST_SIZE
    if _STACK.search(name):
        return max(MOST_LAYERS, tensors)
    return MOST_OF_A_KIND if _KIND.search(name) else None


def _numbers(config: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Every whole number with the name of its nearest key."""
    for name, value in _values(config, ""):
        if isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer():
            yield name, int(value)


def _values(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every value that is no list or object, with the name of its nearest key."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _values(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _values(inner, name)
    else:
        yield name, value
