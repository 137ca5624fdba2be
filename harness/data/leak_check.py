"""Reads what `harness leaks` compares: a file of prompts and the prompts of evaluation sets."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from harness.benchmark import Benchmark
from harness.components import build, modules
from harness.data.cells import turns_of_prompt
from harness.data.columns.contents import Unreadable, plain_messages, whole_messages
from harness.data.columns.delimited import is_delimited
from harness.data.columns.layouts import usual
from harness.data.conversations import turns_in
from harness.data.rows import file_rows, is_parquet, read_content
from harness.errors import DataError, nearest, quoted
from harness.outside import decoded, parse_json

COLUMNS = ("prompt", "question", "instruction", "messages", "conversations", "text")


def evaluation_prompts(names: Sequence[str], folder: Path | None) -> dict[str, list[tuple[str, str]]]:
    """All prompts of the named evaluation sets: (id, text). `folder` has a subfolder for each set. Raises DataError."""
    prompts = {}
    for name in (name.strip() for name in names):
        if name not in modules("benchmark"):
            raise DataError(f"--against: unknown evaluation set {quoted(name)}; {nearest(name, modules('benchmark'))}")
        options = {} if folder is None else {"data_dir": str((folder / name).absolute())}
        prompts[name] = cast(Benchmark, build("benchmark", {"name": name, **options})).all_prompts()
    return prompts


def read_prompts(path: Path) -> list[tuple[int, str]]:
    """(line number from 1, text) of every prompt in a file of pairs or of prompts, in any format of
    `harness.data.rows`; of a JSON list or Parquet, the number of the row. A line of JSONL may also be a text. Of a
    conversation, the user's messages are taken. Raises DataError naming FILE:LINE."""
    if is_parquet(path) or is_delimited(path) or read_content(path).lstrip(b"\xef\xbb\xbf \r\n\t")[:1] == b"[":
        rows = [(int(_NUMBER.findall(place)[-1]), _prompt(row, place)) for place, row in file_rows([path])]
        return _some(rows, path)
    prompts = []
    # Not splitlines(): JSON strings may contain U+2028 and other line separators.
    for number, line in enumerate(_text_of(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line, nan="none")
        except ValueError:
            raise DataError(f"{path}:{number}: not JSON; expected a text or an object per line") from None
        prompts.append((number, _prompt(row, f"{path}:{number}")))
    return _some(prompts, path)


def _some(prompts: list[tuple[int, str]], path: Path) -> list[tuple[int, str]]:
    if not prompts:
        raise DataError(f"{path}: no prompts; expected at least one row")
    return prompts


_NUMBER = re.compile(r"\d+")


def _prompt(row: Any, place: str) -> str:
    try:
        text = _text(row)
    except Unreadable as error:
        raise DataError(f"{place}: {error}") from None
    if text is None:
        raise DataError(f"{place}: no prompt; expected a text or one of the columns {', '.join(COLUMNS)}")
    return text


def _text_of(path: Path) -> str:
    data = read_content(path)
    try:
        return decoded(data)
    except UnicodeDecodeError:
        return data.decode("utf-8", errors="replace")  # a damaged letter hides no leak


def _text(row: Any) -> str | None:
    if isinstance(row, str):
        return row
    if not isinstance(row, dict):
        return None
    row, _ = usual(row)
    column = next((column for column in (*COLUMNS, "chosen") if column in row), None)
    if column is None:
        return None
    row, _ = whole_messages(row, column, ())
    value = plain_messages(row, [column])[0][column]
    if column == "chosen" and isinstance(value, str):  # without a prompt of its own: a conversation, or nothing
        conversation = turns_in(value, column)
        value = conversation[0] if conversation else None
    elif isinstance(value, str):
        value = turns_of_prompt(value, column) or value
    if isinstance(value, list):
        turns = [str(m.get("content")) for m in value if isinstance(m, dict) and m.get("role") == "user"]
        return "\n".join(turns) if turns else None
    if not isinstance(value, str):
        return None
    extra = row.get("input") if "instruction" in row else None
    return f"{value}\n\n{extra}" if isinstance(extra, str) and extra.strip() else value
