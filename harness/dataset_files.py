"""Ranked datasets as files: our own rows as JSONL or Parquet, and the formats of others (`harness.formats`)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from harness.errors import DataError
from harness.formats import EXPORTS, IMPORTS, Converted, Format, to_trl
from harness.row_files import file_rows
from harness.trl_loss import Pairing
from harness.types import RankedExample

Own = Literal["jsonl", "parquet"]
Split = Literal["train", "heldout", "all"]
PROVENANCE = ("reward", "reward_key", "responses_key", "imported_from")


class Written(NamedTuple):
    """Examples read, rows written, and what could not be held, by what it is."""

    examples: int
    rows: int
    left_out: dict[str, int]


def read_ranked(source: Path, split: Split = "all") -> list[RankedExample]:
    """Our own rows from a JSONL or Parquet file, or from a folder with `ranked.jsonl` and `heldout.jsonl`. Raises
    DataError naming the row."""
    files = [source]
    if source.is_dir():
        files = [source / name for name in ("ranked.jsonl", "heldout.jsonl") if (source / name).is_file()]
        if not files:
            raise DataError(f"{source}: no ranked.jsonl in it; expected a ranked dataset's folder or file")
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
    source: Path, out: Path, form: Format | Own, pairing: Pairing = "best_worst", split: Split = "all"
) -> Written:
    """Write a ranked dataset in a format: JSONL, or Parquet where `out` ends so. Raises DataError."""
    examples = read_ranked(source, split)
    if not examples:
        raise DataError(f"{source}: no examples of the split '{split}'; expected at least one")
    own = form == "jsonl" or form == "parquet"
    if form == "jsonl" or form == "parquet":
        made = Converted([e.model_dump(mode="json") for e in examples], {})
    else:
        made = to_trl(examples, pairing) if form == "trl" else EXPORTS[form](examples)
    write(out, made.rows, own_rows=own)
    return Written(len(examples), len(made.rows), made.left_out)


def import_(source: Path, out: Path, form: Format | Own, name: str | None = None) -> Written:
    """Read a file of a format and write our own rows (JSONL, or Parquet where `out` ends so). `name`: the `source` of
    its examples, by default the file's name. Of examples with the same prompt the first is kept. Raises DataError."""
    if form == "jsonl" or form == "parquet":
        made = Converted(read_ranked(source), {})
    else:
        made = IMPORTS[form](file_rows([source]), name or source.name.split(".")[0])
    first = {example.id: example for example in reversed(made.rows)}
    kept = [e for e in made.rows if first[e.id] is e]
    left = made.left_out | ({"repeated prompts": len(made.rows) - len(kept)} if len(kept) < len(made.rows) else {})
    if not kept:
        raise DataError(f"{source}: no examples in it; expected at least one row")
    write(out, [e.model_dump(mode="json") for e in kept], own_rows=True)
    return Written(len(made.rows), len(kept), left)


def write(out: Path, rows: Sequence[dict[str, Any]], *, own_rows: bool) -> None:
    """Rows into a file, as Parquet where its name ends so, else as JSONL."""
    if out.suffix == ".parquet":
        _write_parquet(out, rows, own_rows)
        return
    try:
        text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
        out.write_bytes(text.encode())
    except UnicodeEncodeError:
        raise DataError(f"{out}: a text holds half of a surrogate pair, which no file can hold; mend it") from None


def _write_parquet(out: Path, rows: Sequence[dict[str, Any]], own_rows: bool) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    schema = _schema() if own_rows else None
    other = {key for row in rows for key in row["provenance"]} - {*PROVENANCE} if own_rows else set()
    if other:  # pyarrow would leave them out without a word
        raise DataError(f"{out}: Parquet has no column for provenance {', '.join(sorted(other))}; write JSONL instead")
    try:
        parquet.write_table(pa.Table.from_pylist(list(rows), schema=schema), out)
    except UnicodeEncodeError:
        raise DataError(f"{out}: a text holds half of a surrogate pair, which no file can hold; mend it") from None


def _schema() -> Any:
    """Of our own rows: without it a column that is empty everywhere would have no type."""
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
