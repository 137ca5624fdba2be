"""The seed pairs that ship with the package."""

from functools import cached_property
from importlib import resources
from typing import Any

from pydantic import Field

from harness.components import Component
from harness.pairs_file import Weight, content_sha256, parse_pairs
from harness.types import PreferencePair


class Builtin(Component):
    """64 pairs over the eight MT-bench categories, written for this project: enough to try the harness, too few to
    learn from. `limit` takes the first pairs only; `weight` is the share of them to take.
    """

    limit: int | None = Field(None, ge=1)
    weight: Weight = 1.0

    @cached_property
    def _content(self) -> bytes:
        return resources.files("harness").joinpath("assets", "seeds.jsonl").read_bytes()

    def identity(self) -> dict[str, Any]:
        return {**self.model_dump(mode="json"), "sha256": content_sha256(self._content)}

    def check(self) -> None:
        self.pairs()

    def pairs(self) -> list[PreferencePair]:
        """All rows, in file order."""
        return parse_pairs(self._content, "seeds.jsonl", "builtin", limit=self.limit, weight=self.weight)
