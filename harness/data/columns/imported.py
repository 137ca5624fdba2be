"""What `harness import` reads without being told the format, and pairs in any columns as TRL's."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from harness.data.cells import as_dicts
from harness.data.columns.contents import Unreadable
from harness.data.columns.layouts import usual
from harness.data.pairs import Columns, columns_of, prepared, to_pair
from harness.data.rankings import layout_of
from harness.data.rows import file_rows
from harness.errors import DataError


def form_of(path: Path) -> Literal["jsonl", "trl", "simpo", "nemo-rl", "nectar", "ultrafeedback"]:
    """The format of a file by the columns of its first row; `jsonl` stands for rows of a ranked dataset, in any kind of
    file. Raises DataError."""
    if path.is_dir():
        return "jsonl"
    first = next(iter(file_rows([path])), None)
    if first is None:
        raise DataError(f"{path}:1: expected at least one row")
    layout = layout_of(first[1])
    return "jsonl" if layout == "harness" else layout or "trl"


def trl_rows(rows: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Pairs in any columns of `harness.data.pairs`, with those of TRL. Raises DataError naming the row."""
    mapping: Columns | None = None
    for place, row in rows:
        try:
            row, _ = usual(row)
            mapping = mapping or columns_of(row, None)
            pair = to_pair(prepared(row, mapping, named=False).row, mapping, "")
        except Unreadable as error:
            raise DataError(f"{place}: {error}") from None
        scores = {name: row.get(name) for name in ("score_chosen", "score_rejected")}
        yield place, {"prompt": as_dicts(pair.messages), "chosen": pair.chosen, "rejected": pair.rejected, **scores}
