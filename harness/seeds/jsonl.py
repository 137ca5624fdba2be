"""Seed pairs from a JSONL file."""

from pathlib import Path

from harness.data.columns.delimited import is_delimited
from harness.data.rows import is_parquet
from harness.errors import DataError
from harness.seeds._base import FileSet


class Jsonl(FileSet):
    """Pairs from a JSONL file or a JSON list (plain or .gz), in any columns supported by `harness.data.pairs`, or in
    those named by `columns`. `limit`: use only the first pairs. `weight`: the share of them to use, for mixing several
    seed sets. Raises DataError naming the line of an unreadable row.
    """

    def _expect(self, file: Path) -> None:
        if is_parquet(file):
            raise DataError(f"{file}: a Parquet file, expected JSONL; use {{name: parquet}} instead")
        if is_delimited(file):
            raise DataError(f"{file}: a table by its name, expected JSONL; use {{name: csv}} instead")
