"""Exports the model of a board's row: a folder that transformers, PEFT and vLLM load, and its upload to the hub."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

from harness.data.hub import upload
from harness.errors import DataError, StoreError, nearest, quoted
from harness.models.checkpoints.saving import follow_umask
from harness.models.load import Dtype
from harness.pipeline.export.base import Base, hub_base
from harness.pipeline.export.card import model_card
from harness.pipeline.export.row import TrainedRow, trained_row
from harness.pipeline.export.usage import serving_line
from harness.pipeline.export.weights import write_adapter, write_whole

if TYPE_CHECKING:
    from huggingface_hub import HfApi

REPLACED = ("*.safetensors", "*.safetensors.index.json", "adapter_config.json", "config.json", "generation_config.json")
"""Files of an earlier model in a repository: beside a new one they would be loaded with it."""


class Exported(NamedTuple):
    """`folder`: where it was written, if anywhere; `url`: of the commit, if it was uploaded; `serve`: the command that
    serves it."""

    folder: Path | None
    url: str | None
    serve: str


def export_model(
    source: Path,
    row: str,
    out: Path | None = None,
    *,
    merge: bool = False,
    dtype: str | None = None,
    base: str | None = None,
    repo: str | None = None,
    private: bool = False,
    store: Path | None = None,
) -> Exported:
    """Write the model of a board's row with its tokenizer and card into the new or empty folder `out`, and upload it to
    the hub as `repo`; at least one of them is given.

    An adapter stays one unless `merge`. `dtype`: of a whole model; None: the recipe's. `base`: what the base is called
    on the hub (`OWNER/NAME@REVISION`), where that isn't known. `store`: where its training is; None: the default one,
    or the one that the board's link leads into. Raises HarnessError, and OSError if the folder can't be written."""
    chosen = _dtype(dtype)
    trained = trained_row(source, row, store)
    adapter = trained.is_adapter and not merge
    known = hub_base(trained, base, adapter=adapter)
    _check(trained, adapter, chosen, known)
    name = repo or f"./{out.name if out else trained.entry.id}"
    with _new_folder(out) as scratch:
        if adapter and known is not None:
            written = write_adapter(trained, scratch, known)
        else:
            written = write_whole(trained, scratch, chosen)
        card = model_card(trained, written, known, name)
        (scratch / "README.md").write_text(card, encoding="utf-8")
        follow_umask(scratch)
        url = _uploaded(scratch, repo, trained, private) if repo else None
    return Exported(out, url, serving_line(trained, written, known, repo or str(out or name)))


def _dtype(name: str | None) -> Dtype | None:
    kinds: tuple[Dtype, ...] = get_args(Dtype)
    if name is not None and name not in kinds:
        raise DataError(f"--dtype: unknown {quoted(name)}; {nearest(name, kinds)}")
    return next((kind for kind in kinds if kind == name), None)


def _check(row: TrainedRow, adapter: bool, dtype: Dtype | None, base: Base | None) -> None:
    """Raises DataError for an adapter in another dtype, or whose base nobody else can find."""
    which = f"row {quoted(row.entry.id)}"
    if adapter and dtype is not None:
        raise DataError(f"--dtype: {which} is an adapter, which stays in float32; add --merge for a whole model")
    if adapter and base is None:
        where = f"the folder {quoted(str(row.policy['model']))} of this machine"
        advice = "--merge it, or name its base on the hub with --base OWNER/NAME"
        if row.fine_tuned:
            where = f"what row {quoted(row.fine_tuned)} was trained to"
            advice = (
                f"--merge it; or upload {row.fine_tuned} with --dtype float32, and name that with --base OWNER/NAME"
            )
        raise DataError(f"{which} is an adapter for {where}, which is of no use without it; {advice}")


@contextmanager
def _new_folder(out: Path | None) -> Iterator[Path]:
    """A folder to write into, which then becomes `out`, whole or not at all; without `out` it is removed. Raises
    StoreError where there is something already."""
    if out is not None:
        _check_free(out)
        out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent if out else None, prefix=".export-") as parent:
        scratch = Path(parent) / "model"
        scratch.mkdir()
        yield scratch
        if out is not None:
            _check_free(out)
            os.replace(scratch, out)  # an empty folder is replaced


def _check_free(out: Path) -> None:
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise StoreError(f"{out} is there already; expected a new or empty folder: move it away, or name another one")


def _uploaded(folder: Path, repo: str, row: TrainedRow, private: bool) -> str:
    def commit_files(api: "HfApi") -> str:
        message = f"{row.board.name}: {row.entry.id}"
        done = api.upload_folder(
            repo_id=repo, folder_path=folder, commit_message=message, delete_patterns=list(REPLACED)
        )
        return str(done.commit_url)

    return upload(repo, "model", commit_files, private=private)
