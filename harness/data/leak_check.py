"""Reads what `harness leaks` compares: a file of prompts and the prompts of evaluation sets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from harness.benchmark import Benchmark
from harness.components import build, modules
from harness.errors import DataError, nearest, quoted
from harness.files import read_bytes
from harness.outside import decoded, parse_json

COLUMNS = ("prompt", "question", "instruction", "messages", "text")


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
    """(line number from 1, text) of every prompt in a JSONL file. A line is a text or an object with one of COLUMNS; of
    a conversation, the user's messages are taken. Raises DataError naming FILE:LINE."""
    prompts = []
    # Not splitlines(): JSON strings may contain U+2028 and other line separators.
    for number, line in enumerate(_text_of(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            text = _text(parse_json(line, nan="none"))
        except ValueError:
            raise DataError(f"{path}:{number}: not JSON; expected a text or an object per line") from None
        if text is None:
            raise DataError(f"{path}:{number}: no prompt; expected a text or one of the columns {', '.join(COLUMNS)}")
        prompts.append((number, text))
    return prompts


def _text_of(path: Path) -> str:
    data = read_bytes(path)
    try:
        return decoded(data)
    except UnicodeDecodeError:
        return data.decode("utf-8", errors="replace")  # a damaged letter hides no leak


def _text(row: Any) -> str | None:
    if isinstance(row, str):
        return row
    if not isinstance(row, dict):
        return None
    value = next((row[column] for column in COLUMNS if column in row), None)
    if isinstance(value, list):
        turns = [str(m.get("content")) for m in value if isinstance(m, dict) and m.get("role") == "user"]
        return "\n".join(turns) if turns else None
    if not isinstance(value, str):
        return None
    extra = row.get("input") if "instruction" in row else None
    return f"{value}\n\n{extra}" if isinstance(extra, str) and extra.strip() else value
