"""Writes a board as records: one aggregate file a row, with the row's samples beside it where the board has answers."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from harness import __version__
from harness.boards.entry import Entry
from harness.boards.provenance import Provenance
from harness.boards.read import read_board
from harness.boards.writing import content, own_file, replace_files, writing
from harness.errors import DataError, StoreError
from harness.files import json_text
from harness.report.every_eval_ever import LIBRARY, SCHEMA_VERSION
from harness.report.every_eval_ever.figures import results
from harness.report.every_eval_ever.identity import (
    Context,
    HubModel,
    board_moment,
    evaluation_id,
    model_info,
    record_file,
    samples_file,
    source_metadata,
    texts,
)
from harness.report.every_eval_ever.samples import Samples, samples
from harness.report.every_eval_ever.schema import KEPT, ROW, OwnRow
from harness.report.page.examples import board_examples

_REPOSITORY = "https://github.com/preference-harness/preference-harness"


class Exported(NamedTuple):
    """`files`: records by their path in the folder; `samples`: lines in all; `left_out`: rows without any figure."""

    files: tuple[str, ...]
    samples: int
    left_out: tuple[str, ...]


def export_records(
    source: Path, out: Path, owner: str | None = None, builtin: Mapping[str, HubModel] | None = None
) -> Exported:
    """Write a board's rows as records into `out`, as `data/<board>/<owner>/<model>/<uuid>.json`. The same board gives
    the same bytes: times are the board's. `owner`: who evaluated it and trained its models, by the name on the hub.
    `builtin`: built-in models by name. Raises DataError for what is no board, or one that has no
    time, and StoreError where the folder can't be written."""
    board = read_board(source)
    about = Context(board, owner, builtin or {}, board_moment(board))
    folder = (source if source.is_dir() else source.parent).resolve()
    examples = board_examples(folder, board.entries)
    files: dict[str, bytes] = {}
    left_out, count = [], 0
    for entry in board.entries:
        if all(metric.value is None for metric in entry.metrics.values()):
            left_out.append(entry.id)
            continue
        name, found = record_file(entry, about), samples(entry, about, examples)
        count += len(found.lines)
        if found.lines:
            files[samples_file(name)] = "".join(found.lines).encode()
        files[name] = json_text(_record(entry, about, name, found)).encode(errors="replace")
    if not files:
        raise DataError(f"{source}: none of its rows has a figure; there is nothing to export")
    _write(out, files)
    records = tuple(name for name in files if name.endswith(".json"))
    return Exported(records, count, tuple(left_out))


def _record(entry: Entry, about: Context, name: str, found: Samples) -> dict[str, Any]:
    detailed = {"detailed_evaluation_results": _detailed(name, found)} if found.lines else {}
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": evaluation_id(entry, about),
        "evaluation_timestamp": about.moment.isoformat(),
        "retrieved_timestamp": about.seconds,
        "source_metadata": source_metadata(entry, about),
        "eval_library": _library(entry),
        "model_info": model_info(entry, about),
        "evaluation_results": results(entry, about),
        **detailed,
    }


def _detailed(name: str, found: Samples) -> dict[str, Any]:
    return {
        "format": "jsonl",
        "file_path": samples_file(name),
        "hash_algorithm": "sha256",
        "checksum": hashlib.sha256("".join(found.lines).encode()).hexdigest(),
        "total_rows": len(found.lines),
        "additional_details": texts({"not_scored": str(found.unscored)}),
    }


def _library(entry: Entry) -> dict[str, Any]:
    """The code that measured the row, and the row as the harness reads it back."""
    made_by = entry.provenance.made_by or {}
    package = made_by.get("harness")
    own = package if isinstance(package, dict) else {}
    details = {
        "commit": own.get("commit"),
        "dirty": own.get("dirty"),
        "packages": made_by.get("packages"),
        "python": made_by.get("python"),
        "repository": _REPOSITORY,
        "licence": "Apache-2.0",
        ROW: _own_row(entry).model_dump_json(exclude_defaults=True),
    }
    version = own.get("version") or __version__
    return {"name": LIBRARY, "version": str(version), "additional_details": texts(details)}


def _own_row(entry: Entry) -> OwnRow:
    plain = entry.provenance.plain()
    return OwnRow(
        id=entry.id,
        method=entry.method,
        unscored={name: metric for name, metric in entry.metrics.items() if metric.value is None},
        figures=entry.figures,
        outcomes=entry.outcomes,
        strata=entry.strata,
        provenance=Provenance.model_validate({name: plain[name] for name in KEPT if name in plain}),
    )


def _write(out: Path, files: Mapping[str, bytes]) -> None:
    """Write what has changed; files of other boards and of other evaluations stay."""
    try:
        with writing(out):
            paths = {own_file(out, name): data for name, data in files.items()}
            replace_files({path: data for path, data in paths.items() if content(path, len(data)) != data})
    except OSError as error:
        raise StoreError(f"{out} can't be written ({error.strerror or error}); check space and rights") from None
