"""Seed pairs from Parquet files."""

from pathlib import Path
from typing import ClassVar

from harness.errors import DataError
from harness.row_files import is_parquet
from harness.seed_set import FileSet


class Parquet(FileSet):
    """Pairs from a Parquet file, or from all Parquet files of a folder in the order of their names, in any of the
    columns that `harness.pairs_rows` knows, or in those that `columns` names. `limit` takes the first pairs only;
    `weight` is the share of them to take, where several seed sets are mixed. Raises DataError naming the row that can't
    be read.
    """

    patterns: ClassVar[tuple[str, ...]] = ("*.parquet", "**/*.parquet")

    def _expect(self, file: Path) -> None:
        if not is_parquet(file):
            raise DataError(f"{file}: not a Parquet file; use {{name: jsonl}} for JSONL or a JSON list")
