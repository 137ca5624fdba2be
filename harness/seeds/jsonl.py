"""Seed pairs from a JSONL file."""

from pathlib import Path

from harness.errors import DataError
from harness.row_files import is_parquet
from harness.seed_set import FileSet


class Jsonl(FileSet):
    """Pairs from a JSONL file or a JSON list (plain or .gz) in any of the columns that `harness.pairs_rows` knows, or
    in those that `columns` names. `limit` takes the first pairs only; `weight` is the share of them to take, where
    several seed sets are mixed. Raises DataError naming the line of a row that can't be read.
    """

    def _expect(self, file: Path) -> None:
        if is_parquet(file):
            raise DataError(f"{file}: a Parquet file, expected JSONL; use {{name: parquet}} for it")
