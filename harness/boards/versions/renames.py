"""Rows under another id, with all that names them: their provenance, and their answers and verdicts on disk."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.boards.board import Board
from harness.boards.entry import Entry
from harness.boards.provenance import Provenance
from harness.errors import DataError, nearest, quoted
from harness.files import file_name
from harness.outside import parse_json

NAMING = ("generator", "generator_1", "generator_2", "model", "model_id", "model_1", "model_2")
"""Fields of AlpacaEval's and FastChat's files that hold a row's id."""
_FOLDERS = ("model_answer", "model_judgment", "reference_answer")
"""FastChat's folders, whatever rows are called."""


def parse_renames(texts: Sequence[str], paths: Sequence[str], boards: Sequence[Board]) -> list[dict[str, str]]:
    """For each board, new ids by old ones. A text is `OLD=NEW`, for the last board that has a row OLD, or
    `BOARD:OLD=NEW`, where BOARD is the board's path as it was given, or its number from 1. Raises DataError."""
    names: list[dict[str, str]] = [{} for _ in boards]
    ids = [[entry.id for entry in board.entries] for board in boards]
    for text in texts:
        i, old, new = _parsed(text, paths, ids)
        if old in names[i]:
            raise DataError(f"--rename {quoted(text)}: {paths[i]}'s row {quoted(old)} is renamed twice")
        names[i][old] = new
    for path, rows, renamed in zip(paths, ids, names, strict=True):
        after = [renamed.get(row, row) for row in rows]
        if repeated := [row for row in renamed.values() if after.count(row) > 1]:
            raise DataError(f"--rename: {path} would have two rows {quoted(repeated[0])}; choose another id")
    return names


def _parsed(text: str, paths: Sequence[str], ids: Sequence[Sequence[str]]) -> tuple[int, str, str]:
    """(the board's place, the old id, the new id). Ids may hold `=` and `:` themselves, so known ids decide."""
    for at in (k for k, character in enumerate(text) if character == "="):
        left, new = text[:at], text[at + 1 :]
        if not new.strip():
            continue
        for i in reversed(range(len(ids))):
            if left in ids[i]:
                return i, left, new
        for i, (path, rows) in enumerate(zip(paths, ids, strict=True)):
            for prefix in (f"{path}:", f"{i + 1}:"):
                if left.startswith(prefix) and left.removeprefix(prefix) in rows:
                    return i, left.removeprefix(prefix), new
    known = sorted({row for rows in ids for row in rows})
    wrong = text.partition("=")[0].rpartition(":")[2]
    expected = "expected OLD=NEW or BOARD:OLD=NEW with the id of a row"
    raise DataError(f"--rename {quoted(text)}: {expected}; {nearest(wrong, known, 'rows')}")


def renamed_row(entry: Entry, names: Mapping[str, str], others: Sequence[Entry]) -> Entry:
    """A row of a board whose rows get these names: under its own, and with theirs where its provenance names them.
    `others`: the rows of the other boards. A reference whose answers are also those of such a row keeps its name."""
    if not names:
        return entry
    about, fields = entry.provenance, dict[str, Any]()
    if about.match_to is not None and about.match_to in names:
        fields["match_to"] = names[about.match_to]
    if about.sft is not None and (start := about.sft.row) is not None and start in names:
        fields["sft"] = {**about.sft.plain(), "row": names[start]}
    for benchmark, key in about.references.items():
        reference = about.benchmark(benchmark).get("reference")
        shared = any(other.id == reference and key in other.provenance.keys.values() for other in others)
        if isinstance(reference, str) and reference in names and not shared:
            benchmarks = fields.setdefault("benchmarks", dict(about.benchmarks))
            benchmarks[benchmark] = {**about.benchmark(benchmark), "reference": names[reference]}
    provenance = Provenance.model_validate({**about.plain(), **fields}) if fields else about
    return entry.model_copy(update={"id": names.get(entry.id, entry.id), "provenance": provenance})


def renamed_data(name: str, content: bytes, names: Mapping[str, str], where: str) -> tuple[str, bytes]:
    """A data file of a board whose rows get these names: its name in the board's folder, and its content. Raises
    DataError, which says `where`, for JSON that can't be read."""
    if not names:
        return name, content
    renamed = _renamed_path(name, {file_name(old): file_name(new) for old, new in names.items()})
    if name.endswith(".jsonl"):
        lines = [_renamed_line(line, names, where) for line in content.split(b"\n")]
        return renamed, b"\n".join(lines)
    if not name.endswith(".json"):
        return renamed, content
    rows = _read(content, where)
    if not isinstance(rows, list) or not any(_names(row, names) for row in rows):
        return renamed, content
    text = json.dumps([_renamed(row, names) for row in rows], ensure_ascii=False, indent=1)
    return renamed, f"{text}\n".encode(errors="surrogatepass")


def _renamed_path(name: str, names: Mapping[str, str]) -> str:
    """`data/<benchmark>/...` with the first folder or file that is named like a row renamed. Files directly in the
    benchmark's folder belong to no row."""
    parts = name.split("/")
    for i in range(2, len(parts)):
        is_file = i == len(parts) - 1
        stem, dot, ending = parts[i].rpartition(".") if is_file else (parts[i], "", "")
        if stem in names and (i > 2 if is_file else stem not in _FOLDERS):
            parts[i] = f"{names[stem]}{dot}{ending}"
            break
    return "/".join(parts)


def _renamed_line(line: bytes, names: Mapping[str, str], where: str) -> bytes:
    row = _read(line, where) if line.strip() else None
    if not _names(row, names):
        return line
    return json.dumps(_renamed(row, names), ensure_ascii=False).encode(errors="surrogatepass")


def _read(data: bytes, where: str) -> Any:
    try:
        return parse_json(data, nan="keep")
    except ValueError as error:
        raise DataError(f"{where} is not JSON ({error}), so rows can't be renamed in it; remove it") from None


def _names(row: Any, names: Mapping[str, str]) -> bool:
    return isinstance(row, dict) and any(isinstance(row.get(field), str) and row[field] in names for field in NAMING)


def _renamed(row: Any, names: Mapping[str, str]) -> Any:
    if not _names(row, names):
        return row
    changed = {
        key: names[value] if key in NAMING and isinstance(value, str) and value in names else value
        for key, value in row.items()
    }
    model = row.get("model_id")
    if model in names and row.get("answer_id") == f"{model}-{row.get('question_id')}":
        changed["answer_id"] = f"{names[model]}-{row.get('question_id')}"
    return changed
