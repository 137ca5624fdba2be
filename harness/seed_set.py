"""What seed sets share: how many rows are taken, files of the user's, and public sets with a home and a licence."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from harness.components import Component, RecipePath
from harness.hub_files import commit, fetched
from harness.pairs_file import Read, Weight, read_pairs
from harness.pairs_rows import Columns
from harness.row_files import file_rows, files_sha256, matching
from harness.types import PreferencePair

QUICK = 32 * 1024**2
"""Files up to this many bytes in all are read in a moment."""


class SeedSet(Component):
    """`limit` takes the first pairs only; `weight` is the share of them to take, where several seed sets are mixed."""

    limit: int | None = Field(None, ge=1)
    weight: Weight = 1.0

    def pairs(self) -> list[PreferencePair]:
        """All rows, in order; of rows with the same prompt, the first."""
        return list(self._read.pairs)

    def left_out(self) -> dict[str, int]:
        """How many rows `pairs` left out, by reason; see `harness.pairs_file.Read`."""
        return dict(self._read.left_out)

    @cached_property
    def _read(self) -> Read:
        # Read once a process: checks and estimates ask for them too, and what was left out is to be told once.
        return self._read_up_to(self.limit, self.weight)

    def _read_up_to(self, limit: int | None, weight: float = 1.0) -> Read:
        raise NotImplementedError

    def _check_rows(self, quick: bool) -> None:
        """All rows where that takes a moment, else the first pair."""
        if quick:
            self.pairs()
        else:
            self._read_up_to(1)


class FileSet(SeedSet):
    """Pairs from the user's file at `path`, or the files of a folder. `columns` says which column is what
    (`harness.pairs_rows.Columns`); without it they are detected. `licence`: the data's, for the dataset's card."""

    unkeyed: ClassVar[frozenset[str]] = frozenset({"licence"})
    home: ClassVar[str | None] = None
    patterns: ClassVar[tuple[str, ...]] = ()
    """Which files of a folder are read: those that the first pattern to fit any fits. None: `path` is no folder."""

    path: RecipePath
    columns: Columns | None = None
    licence: str | None = None

    @property
    def quick(self) -> bool:
        return _size(self._files()) <= QUICK

    def identity(self) -> dict[str, Any]:
        options = self.model_dump(mode="json", exclude={"path", *self.unkeyed})
        return {**options, "sha256": files_sha256(self._files())}

    def check(self) -> None:
        self._check_rows(self.quick)

    def _files(self) -> list[Path]:
        return _files(self.path, self.patterns)

    def _expect(self, file: Path) -> None:
        """Raises DataError for a file of another form than the set's."""

    def _read_up_to(self, limit: int | None, weight: float = 1.0) -> Read:
        source = self.path.name.removesuffix(".gz").rpartition(".")[0] or self.path.name
        files = self._files()
        for file in files:
            self._expect(file)
        rows = file_rows(files)
        return read_pairs(rows, str(self.path), source, columns=self.columns, limit=limit, weight=weight)


class PublicSet(SeedSet):
    """A published set, from the hub's dataset `dataset` at `revision`, a commit unless the recipe names another; or
    from `path`: its file (JSONL or a JSON list, plain or .gz, or Parquet), or a folder with files as the hub has them.
    A row that can't be read as a pair is left out and counted. `harness validate` downloads nothing.
    """

    home: ClassVar[str | None]
    licence: ClassVar[str | None]
    dataset: ClassVar[str] = ""
    columns: ClassVar[Columns | None] = None

    path: RecipePath | None = None
    revision: str

    @property
    def quick(self) -> bool:
        return self.path is not None and _size(self._files()) <= QUICK

    def identity(self) -> dict[str, Any]:
        options = self.model_dump(mode="json", exclude={"path", "revision", *self.unkeyed})
        if self.path is not None:
            return {**options, "sha256": files_sha256(self._files())}
        return {**options, "revision": self._commit() or self.revision}

    def check(self) -> None:
        if self.path is not None:
            self._check_rows(self.quick)

    def patterns(self) -> tuple[str, ...]:
        """Where the rows are in the set's folder; the first pattern that fits any file counts."""
        raise NotImplementedError

    def _commit(self) -> str | None:
        return commit(self.dataset, self.revision)

    def _folder(self) -> Path:
        """The downloaded files' folder."""
        return fetched(self.dataset, self.revision, self.patterns())

    def _files(self) -> list[Path]:
        return _files(self.path or self._folder(), self.patterns())

    def _read_up_to(self, limit: int | None, weight: float = 1.0) -> Read:
        name = str(self.path) if self.path else self.name
        rows = file_rows(self._files())
        return read_pairs(rows, name, self.name, columns=self.columns, limit=limit, weight=weight, strict=False)


def _files(path: Path, patterns: Sequence[str]) -> list[Path]:
    return matching(path, patterns) if patterns and path.is_dir() else [path]


def _size(files: Sequence[Path]) -> int:
    try:
        return sum(path.stat().st_size for path in files)
    except OSError:
        return 0  # whoever reads them will say what is wrong
