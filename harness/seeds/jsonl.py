"""Seed pairs from a JSONL file."""

from functools import cached_property
from typing import Any

from pydantic import Field

from harness.components import Component, RecipePath
from harness.pairs_file import Weight, content_sha256, parse_pairs, read_content
from harness.types import PreferencePair


class Jsonl(Component):
    """Pairs from a JSONL file (plain or .gz) in any of the columns that `harness.pairs_file` knows: `prompt`, or
    `system` and `question`, or `instruction` and `input`; with `chosen` and `rejected`. `limit` takes the first pairs
    only; `weight` is the share of them to take, where several seed sets are mixed. Raises DataError naming the line of
    a row that can't be read.
    """

    path: RecipePath
    limit: int | None = Field(None, ge=1)
    weight: Weight = 1.0

    def identity(self) -> dict[str, Any]:
        options = self.model_dump(mode="json", exclude={"path"})
        return {**options, "sha256": content_sha256(read_content(self.path))}

    def check(self) -> None:
        self.pairs()

    def pairs(self) -> list[PreferencePair]:
        """All rows, in file order; of rows with the same prompt, the first."""
        return list(self._pairs)

    @cached_property
    def _pairs(self) -> list[PreferencePair]:
        # Read once a process: checks and estimates ask for them too, and what was left out is to be told once.
        source = self.path.name.removesuffix(".gz").rpartition(".")[0] or self.path.name
        return parse_pairs(read_content(self.path), str(self.path), source, limit=self.limit, weight=self.weight)
