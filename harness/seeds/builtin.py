"""The seed pairs that ship with the package."""

from functools import cached_property
from importlib import resources
from typing import Any

from harness.data.read import LoadedPairs, read_pairs
from harness.data.rows import content_sha256, json_rows
from harness.protocols import Origin
from harness.seeds._base import SeedSet


class Builtin(SeedSet):
    """64 pairs over the eight MT-bench categories, written for this project: enough to try the harness, too few to
    learn from. `limit`: use only the first pairs. `weight`: the share of them to use.
    """

    @property
    def origin(self) -> Origin:
        return Origin("Apache-2.0", "part of preference-harness")

    @property
    def quick(self) -> bool:
        return True

    @cached_property
    def _content(self) -> bytes:
        return resources.files("harness").joinpath("assets", "seeds.jsonl").read_bytes()

    def identity(self) -> dict[str, Any]:
        return {**self.model_dump(mode="json"), "sha256": content_sha256(self._content)}

    def check(self) -> None:
        self.pairs()

    def _read_up_to(self, limit: int | None, weight: float = 1.0) -> LoadedPairs:
        rows = json_rows(self._content, "seeds.jsonl")
        return read_pairs(rows, "seeds.jsonl", "builtin", limit=limit, weight=weight)
