"""The seed pairs that ship with the package."""

from functools import cached_property
from importlib import resources
from typing import Any, ClassVar

from harness.pairs_file import Read, read_pairs
from harness.row_files import content_sha256, json_rows
from harness.seed_set import SeedSet


class Builtin(SeedSet):
    """64 pairs over the eight MT-bench categories, written for this project: enough to try the harness, too few to
    learn from. `limit` takes the first pairs only; `weight` is the share of them to take.
    """

    home: ClassVar[str | None] = "part of preference-harness"
    licence: ClassVar[str | None] = "Apache-2.0"
    quick: ClassVar[bool] = True

    @cached_property
    def _content(self) -> bytes:
        return resources.files("harness").joinpath("assets", "seeds.jsonl").read_bytes()

    def identity(self) -> dict[str, Any]:
        return {**self.model_dump(mode="json"), "sha256": content_sha256(self._content)}

    def check(self) -> None:
        self.pairs()

    def _read_up_to(self, limit: int | None, weight: float = 1.0) -> Read:
        rows = json_rows(self._content, "seeds.jsonl")
        return read_pairs(rows, "seeds.jsonl", "builtin", limit=limit, weight=weight)
