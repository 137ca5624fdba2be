"""Seed pairs from any dataset on the Hugging Face hub."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from harness.components import RecipePath
from harness.data.card_files import STANDALONE, check_card, check_files, check_inside
from harness.data.hub import commit, dataset_folder
from harness.data.pairs import Columns
from harness.data.read import LoadedPairs, read_pairs
from harness.data.rows import LocatedRow, files_sha256
from harness.errors import DataError, HarnessError
from harness.printable import first_line
from harness.protocols import Origin
from harness.seeds._base import QUICK, MayRank, size


class Hub(MayRank):
    """Pairs from one split of a hub dataset (owner/name), read by `datasets.load_dataset`, in any columns supported by
    `harness.data.pairs`, or in those named by `columns`.

    `revision`: a commit, tag or branch. Without it, or for a branch, the commit in this machine's hub cache is used,
    else the newest. `data_dir`: use only this folder of the repository. `path`: a local copy of the repository to use
    instead. `limit`: use only the first pairs. `weight`: the share of them to use. `licence`: the data's, for the
    dataset card. A row that can't be read as a pair is left out and counted. `harness validate` downloads nothing.
    Raises DataError.
    """

    needs: ClassVar[tuple[str, ...]] = ("datasets",)
    unkeyed: ClassVar[frozenset[str]] = frozenset({"licence"})

    dataset: str
    """The dataset's id on the hub."""
    config: str | None = Field(None, min_length=1)
    """The dataset's configuration, if it has several."""
    split: str = Field("train", min_length=1)
    """Which part of the dataset."""
    revision: str | None = Field(None, min_length=1)
    data_dir: str | None = Field(None, min_length=1)
    columns: Columns | None = None
    """What the columns mean, where they have other names than those that are known."""
    path: RecipePath | None = None
    licence: str | None = None
    """The data's, for the dataset card."""

    @field_validator("dataset")
    @classmethod
    def _is_an_id(cls, value: str) -> str:
        if not re.fullmatch(r"([\w-][\w.-]*/)?[\w-][\w.-]*", value):
            raise ValueError("expected the id of a hub dataset (owner/name); a local copy of one goes into `path`")
        return value

    @property
    def origin(self) -> Origin:
        return Origin(self.licence, f"https://huggingface.co/datasets/{self.dataset}")

    def identity(self) -> dict[str, Any]:
        options = self.model_dump(mode="json", exclude={"path", "revision", *self.unkeyed})
        if self.path is not None:
            return {**options, "sha256": files_sha256(self._files(self.path)), **self._reading()}
        return {**options, "revision": commit(self.dataset, self.revision) or self.revision or "main"}

    def check(self) -> None:
        if self.path is None:
            return
        if not self._files(self.path):
            raise DataError(f"{self.path}: contains no files; expected a copy of the hub dataset {self.dataset}")
        self._check_rows(self.quick)

    @property
    def quick(self) -> bool:
        return self.path is not None and size(self._files(self.path)) <= QUICK

    def _files(self, folder: Path) -> list[Path]:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; expected a copy of the hub dataset {self.dataset}")
        files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
        shown = [p for p in files if not any(part.startswith(".") for part in p.relative_to(folder).parts)]
        return shown + [p for p in files if p == folder / STANDALONE]

    def _read_up_to(self, limit: int | None, weight: float = 1.0) -> LoadedPairs:
        source = self.dataset.rpartition("/")[2]
        rows = self._rows()
        return read_pairs(
            rows,
            self.dataset,
            source,
            columns=self.columns,
            limit=limit,
            weight=weight,
            strict=False,
            rankings=self.rankings,
        )

    def _rows(self) -> Iterator[LocatedRow]:
        import datasets

        patterns = [f"{self.data_dir}/**", "*.md", "*.json", "*.yaml"] if self.data_dir else None
        folder = self.path or dataset_folder(self.dataset, self.revision, patterns)
        check_card(folder)
        if self.data_dir:
            check_inside(self.data_dir, "data_dir")
        try:
            # Without the user's token: whatever the folder names, it is not to be asked for on the user's behalf.
            builder = datasets.load_dataset_builder(str(folder), self.config, data_dir=self.data_dir, token=False)
            check_files(folder, (file for files in (builder.config.data_files or {}).values() for file in files))
            rows = builder.as_streaming_dataset(split=self.split)
            if rows.features is not None:  # an image or a sound may be an address, and is not needed
                rows = rows.decode(False)
            for number, row in enumerate(rows, start=1):
                yield f"{self.dataset}, row {number}", row
        except HarnessError:
            raise
        except Exception as error:  # the libraries for the various file formats raise many classes
            summary = first_line(error)
            raise DataError(f"hub dataset '{self.dataset}', split '{self.split}', can't be read ({summary})") from None
