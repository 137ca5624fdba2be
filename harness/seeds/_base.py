"""Base classes of seed sets: `SeedSet`, `FileSet` for the user's files, and `PublicSet` for published sets."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from harness.components import RecipePath
from harness.data.hub import commit, dataset_folder
from harness.data.messages import KEPT_AS_TEXT
from harness.data.pairs import Columns
from harness.data.read import LoadedPairs, Weight, read_pairs
from harness.data.rows import LocatedRow, file_rows, files_sha256, matching
from harness.errors import DataError
from harness.protocols import Origin, Seed
from harness.types import PreferencePair

QUICK = 32 * 1024**2
"""Files of up to this many bytes in total are quick to read."""


class SeedSet(Seed):
    """`limit`: use only the first pairs. `weight`: the share of them to use, for mixing several seed sets."""

    limit: int | None = Field(None, ge=1)
    weight: Weight = 1.0

    def pairs(self) -> list[PreferencePair]:
        """All pairs, in order; of rows with the same prompt, only the first."""
        return list(self._read.pairs)

    def remarks(self) -> dict[str, dict[str, int]]:
        """The counts of `harness.data.read.LoadedPairs`; `left_out` always, the others if there are any."""
        rest = {"read_as": self._read.read_as, "ignored_columns": self._read.ignored_columns}
        return {"left_out": dict(self._read.left_out)} | {kind: dict(counts) for kind, counts in rest.items() if counts}

    def _reading(self) -> dict[str, Any]:
        """The part of the identity that says how rows were read, for those that an earlier version read as text."""
        try:
            counts = self._read.read_as if self.quick else {}
        except DataError:
            return {}  # `check` reports it
        read_as = {style: count for style, count in counts.items() if style != KEPT_AS_TEXT}
        return {"read_as_messages": read_as} if read_as else {}

    @cached_property
    def _read(self) -> LoadedPairs:
        # Read once per process: checks and estimates use the pairs too, and rows left out should be logged only once.
        return self._read_up_to(self.limit, self.weight)

    @abstractmethod
    def _read_up_to(self, limit: int | None, weight: float = 1.0) -> LoadedPairs:
        """The set's pairs; see `harness.data.read.read_pairs`. Raises DataError."""

    def _check_rows(self, quick: bool) -> None:
        """Check all rows if that is quick, else only the first pair."""
        if quick:
            self.pairs()
        else:
            self._read_up_to(1)


class MayRank(SeedSet):
    """`rankings`: each row ranks several responses, in any layout of `harness.data.rankings`, and all are kept;
    `data.ranked` sets it."""

    rankings: bool = False

    @model_serializer(mode="wrap")
    def _as_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {k: v for k, v in handler(self).items() if k != "rankings" or v}  # so keys of pairs stay valid


class FileSet(MayRank):
    """Pairs from the user's file at `path`, or from the files of a folder. `columns` maps the columns
    (`harness.data.pairs.Columns`); by default they are detected. `licence`: the data's, for the dataset card."""

    unkeyed: ClassVar[frozenset[str]] = frozenset({"licence"})
    patterns: ClassVar[tuple[str, ...]] = ()
    """Which files of a folder are read: those that match the first pattern with any match. Empty: `path` is a file."""

    path: RecipePath
    """The file, or a folder of such files."""
    columns: Columns | None = None
    """What the columns mean, where they have other names than those that are known."""
    licence: str | None = None

    @property
    def origin(self) -> Origin:
        return Origin(self.licence)

    @property
    def quick(self) -> bool:
        return size(self._files()) <= QUICK

    def identity(self) -> dict[str, Any]:
        options = self.model_dump(mode="json", exclude={"path", *self.unkeyed})
        return {**options, "sha256": files_sha256(self._files()), **self._reading()}

    def check(self) -> None:
        self._check_rows(self.quick)

    def _files(self) -> list[Path]:
        return _files(self.path, self.patterns)

    def _rows(self, files: Sequence[Path]) -> Iterator[LocatedRow]:
        return file_rows(files)

    def _expect(self, file: Path) -> None:
        """Raises DataError for a file in another format than the set's."""

    def _read_up_to(self, limit: int | None, weight: float = 1.0) -> LoadedPairs:
        source = self.path.name.removesuffix(".gz").rpartition(".")[0] or self.path.name
        files = self._files()
        for file in files:
            self._expect(file)
        return read_pairs(
            self._rows(files),
            str(self.path),
            source,
            columns=self.columns,
            limit=limit,
            weight=weight,
            rankings=self.rankings,
        )


class PublicSet(SeedSet):
    """A published set, from the hub dataset `dataset` at `revision` (by default a pinned commit); or from `path`: its
    file (JSONL or a JSON list, plain or .gz, or Parquet), or a folder laid out as on the hub. A row that can't be read
    as a pair is left out and counted. `harness validate` downloads nothing.
    """

    published: ClassVar[Origin]
    dataset: ClassVar[str] = ""
    columns: ClassVar[Columns | None] = None
    _ranks: ClassVar[bool] = False
    """Its rows rank several responses, as those of `MayRank` may."""

    path: RecipePath | None = None
    revision: str
    """The commit of the published set on the hub."""

    @property
    def origin(self) -> Origin:
        if self.published.size is None:
            return self.published
        pairs, *means = self.published.size
        used = round(self.weight * min(self.limit or pairs, pairs))
        return self.published._replace(size=(used, means[0], means[1]))

    @property
    def quick(self) -> bool:
        return self.path is not None and size(self._files()) <= QUICK

    def identity(self) -> dict[str, Any]:
        options = self.model_dump(mode="json", exclude={"path", "revision", *self.unkeyed})
        if self.path is not None:
            return {**options, "sha256": files_sha256(self._files()), **self._reading()}
        return {**options, "revision": self._commit() or self.revision}

    def check(self) -> None:
        if self.path is not None:
            self._check_rows(self.quick)

    @abstractmethod
    def patterns(self) -> tuple[str, ...]:
        """Patterns of the data files in the set's folder; the first pattern with any match is used."""

    def _commit(self) -> str | None:
        return commit(self.dataset, self.revision)

    def _folder(self) -> Path:
        """The folder of the downloaded files."""
        return dataset_folder(self.dataset, self.revision, self.patterns())

    def _files(self) -> list[Path]:
        return _files(self.path or self._folder(), self.patterns())

    def _read_up_to(self, limit: int | None, weight: float = 1.0) -> LoadedPairs:
        name = str(self.path) if self.path else self.name
        rows = file_rows(self._files())
        return read_pairs(
            rows,
            name,
            self.name,
            columns=self.columns,
            limit=limit,
            weight=weight,
            strict=False,
            rankings=self._ranks,
        )


def _files(path: Path, patterns: Sequence[str]) -> list[Path]:
    return matching(path, patterns) if patterns and path.is_dir() else [path]


def size(files: Sequence[Path]) -> int:
    """The files' bytes in total."""
    try:
        return sum(path.stat().st_size for path in files)
    except OSError:
        return 0  # reading the files reports the error
