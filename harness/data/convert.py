"""Ranked datasets as files: native rows as JSONL or Parquet, and other trainers' formats (`harness.data.formats`)."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from harness.data.columns.imported import trl_rows
from harness.data.formats import EXPORTS, IMPORTS, Conversion, Format, ImportFormat, to_trl
from harness.data.pairings import PairSelection
from harness.data.rows import file_rows
from harness.errors import DataError
from harness.types import RankedExample

NativeFormat = Literal["jsonl", "parquet"]
Split = Literal["train", "heldout", "all"]
PROVENANCE = ("reward", "reward_key", "responses_key", "imported_from")


class ConversionSummary(NamedTuple):
    """Numbers of examples read, rows written, and items that could not be represented, by description."""

    examples: int
    rows: int
    left_out: dict[str, int]


def read_ranked(source: Path, split: Split = "all") -> list[RankedExample]:
    """Native rows from a JSONL or Parquet file, or from a folder with `ranked.jsonl` and `heldout.jsonl`. Raises
    DataError naming the row."""
    files = [source]
    if source.is_dir():
        files = [source / name for name in ("ranked.jsonl", "heldout.jsonl") if (source / name).is_file()]
        if not files:
            raise DataError(f"{source}: contains no ranked.jsonl; expected a ranked dataset's folder or file")
    examples = []
    for place, row in file_rows(files):
        row["provenance"] = {k: v for k, v in (row.get("provenance") or {}).items() if v is not None}
        try:
            examples.append(RankedExample.model_validate(row))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise DataError(f"{place}: {where}: {first['msg']}; expected a ranked dataset's row") from None
    return [e for e in examples if split in ("all", e.split)]


def export(
    source: Path, out: Path, form: Format | NativeFormat, pairing: PairSelection = "best_worst", split: Split = "train"
) -> ConversionSummary:
    """Write a ranked dataset in a format, as JSONL or, if `out` ends in `.parquet`, as Parquet. `split`: by default the
    training part, since the held-out prompts must not be trained on; with `all`, every row names its `split`. Raises
    DataError."""
    everything = read_ranked(source)
    examples = [e for e in everything if split in ("all", e.split)]
    if not examples:
        raise DataError(f"{source}: no examples of the split '{split}'; expected at least one")
    native = form == "jsonl" or form == "parquet"
    if form == "jsonl" or form == "parquet":
        conversion = Conversion([e.model_dump(mode="json") for e in examples], {})
    else:
        conversion = _of_splits(form, examples, pairing, marked=split == "all")
    write(out, conversion.rows, native=native)
    other = {f"prompts of the other split (--split {split})": len(everything) - len(examples)}
    left_out = conversion.left_out | {what: count for what, count in other.items() if count}
    return ConversionSummary(len(examples), len(conversion.rows), left_out)


def _of_splits(form: Format, examples: Sequence[RankedExample], pairing: PairSelection, *, marked: bool) -> Conversion:
    """The examples in another trainer's format, by split. `marked`: with a column `split` (train or heldout)."""
    rows: list[Any] = []
    left_out: Counter[str] = Counter()
    for split in ("train", "heldout"):
        part = [e for e in examples if e.split == split]
        done = to_trl(part, pairing) if form == "trl" else EXPORTS[form](part)
        rows += [{**row, "split": split} if marked else row for row in done.rows]
        left_out.update(done.left_out)
    return Conversion(rows, dict(left_out))


def import_(source: Path, out: Path, form: ImportFormat | NativeFormat, name: str | None = None) -> ConversionSummary:
    """Convert a file of some format into native rows (JSONL, or Parquet if `out` ends in `.parquet`). `name`: the
    `source` of its examples, by default the file's name. Of examples with the same prompt, the first is kept. Raises
    DataError."""
    if form == "jsonl" or form == "parquet":
        conversion = Conversion(read_ranked(source), {})
    else:
        rows = file_rows([source])
        conversion = IMPORTS[form](trl_rows(rows) if form == "trl" else rows, name or source.name.split(".")[0])
    first = {example.id: example for example in reversed(conversion.rows)}
    unique = [e for e in conversion.rows if first[e.id] is e]
    repeated = len(conversion.rows) - len(unique)
    left_out = conversion.left_out | ({"repeated prompts": repeated} if repeated else {})
    if not unique:
        raise DataError(f"{source}: contains no examples; expected at least one row")
    write(out, [e.model_dump(mode="json") for e in unique], native=True)
    return ConversionSummary(len(conversion.rows), len(unique), left_out)


def write(out: Path, rows: Sequence[dict[str, Any]], *, native: bool) -> None:
    """Write rows to a file, as Parquet if its name ends in `.parquet`, else as JSONL. `native`: rows of RankedExample.
    Raises DataError."""
    if out.suffix == ".parquet":
        _write_parquet(out, rows, native)
        return
    try:
        text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
        out.write_bytes(text.encode())
    except UnicodeEncodeError:
        raise DataError(
            f"{out}: a text contains a lone surrogate, which can't be written as UTF-8; correct it"
        ) from None


def _write_parquet(out: Path, rows: Sequence[dict[str, Any]], native: bool) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    schema = _schema() if native else None
    other = {key for row in rows for key in row["provenance"]} - {*PROVENANCE} if native else set()
    if other:  # pyarrow would drop them silently
        raise DataError(f"{out}: Parquet has no column for provenance {', '.join(sorted(other))}; write JSONL instead")
    try:
        parquet.write_table(pa.Table.from_pylist(list(rows), schema=schema), out)
    except UnicodeEncodeError:
        raise DataError(
            f"{out}: a text contains a lone surrogate, which can't be written as UTF-8; correct it"
        ) from None


def _schema() -> Any:
    """The Arrow schema of native rows: without it, a column without any value would have no type."""
    import pyarrow as pa

    text = pa.string()
    message = pa.struct([("role", text), ("content", text)])
    response = pa.struct(
        [("text", text), ("source", text), ("score", pa.float64()), ("rank", pa.int64()), ("finish_reason", text)]
    )
    return pa.schema(
        [
            ("id", text),
            ("messages", pa.list_(message)),
            ("responses", pa.list_(response)),
            ("source", text),
            ("split", text),
            ("category", text),
            ("shots", pa.list_(text)),
            ("provenance", pa.struct([(name, text) for name in PROVENANCE])),
        ]
    )
