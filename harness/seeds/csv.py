"""Seed pairs from CSV and TSV files."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from harness.data.columns.delimited import delimited_rows
from harness.data.rows import LocatedRow, is_parquet, read_content
from harness.errors import DataError
from harness.seeds._base import FileSet


class Csv(FileSet):
    """Pairs from a CSV or TSV file (plain or .gz) in UTF-8, or from all such files of a folder sorted by name, in any
    columns supported by `harness.data.pairs`, or in those named by `columns`. The first line names the columns.
    `limit`: use only the first pairs. `weight`: the share of them to use, for mixing several seed sets. Raises
    DataError naming the line of an unreadable row.
    """

    patterns: ClassVar[tuple[str, ...]] = ("*.csv", "*.tsv", "*.csv.gz", "*.tsv.gz")

    def _expect(self, file: Path) -> None:
        if is_parquet(file):
            raise DataError(f"{file}: a Parquet file, expected CSV; use {{name: parquet}} instead")

    def _rows(self, files: Sequence[Path]) -> Iterator[LocatedRow]:
        for path in files:  # a table by its recipe, whatever the file is called
            yield from delimited_rows(read_content(path), str(path))
