"""Seed pairs from Parquet files."""

from pathlib import Path
from typing import ClassVar

from harness.data.rows import is_parquet
from harness.errors import DataError
from harness.seeds._base import FileSet


class Parquet(FileSet):
    """Pairs from a Parquet file, or from all Parquet files of a folder sorted by name, in any columns supported by
    `harness.data.pairs`, or in those named by `columns`. `limit`: use only the first pairs. `weight`: the share of them
    to use, for mixing several seed sets. Raises DataError naming an unreadable row.
    """

    needs: ClassVar[tuple[str, ...]] = ("pyarrow",)
    patterns: ClassVar[tuple[str, ...]] = ("*.parquet", "**/*.parquet")

    def _expect(self, file: Path) -> None:
        if not is_parquet(file):
            raise DataError(f"{file}: not a Parquet file; use {{name: jsonl}} for JSONL or a JSON list")
