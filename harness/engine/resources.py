"""The hardware resources that a stage needs."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from harness.types import RecipeSection

_UNITS = {"": 1, "b": 1} | {
    f"{prefix}{suffix}": (1024 if suffix == "ib" else 1000) ** power
    for power, prefix in enumerate("kmgt", 1)
    for suffix in ("b", "ib")
}


def _bytes(value: Any) -> Any:
    """`24 GiB` or `500 MB` as bytes."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", value)
    if not match or match[2].lower() not in _UNITS:
        raise ValueError("expected an amount of memory like 24 GiB or 500 MB")
    return int(float(match[1]) * _UNITS[match[2].lower()])


class Resources(RecipeSection):
    """What a stage, or each worker of a stage over prompts, needs of a node of a Ray cluster. `memory`: in bytes, or a
    text with a unit. `workers`: at most so many; None: as many as the nodes have room for, or one a node where they
    only wait for servers."""

    cpus: float = Field(1.0, gt=0)
    """Processors of a stage."""
    gpus: float = Field(0.0, ge=0)
    """GPUs of a stage; a fraction lets stages share one."""
    memory: Annotated[int | None, BeforeValidator(_bytes), Field(ge=0)] = None
    workers: int | None = Field(None, ge=1)

    def fit(self, node: Mapping[str, float]) -> int:
        """How many workers a node with such resources, in Ray's names, has room for."""
        needed = {"CPU": self.cpus, "GPU": self.gpus, "memory": float(self.memory or 0)}
        return int(min(node.get(name, 0) // amount for name, amount in needed.items() if amount))


def declared(resources: Mapping[str, Resources], kind: str) -> Resources | None:
    """The resources declared for a kind of stage, else for `default`; None if there are none."""
    return resources.get(kind) or resources.get("default")
