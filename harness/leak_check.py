"""What `harness leaks` compares: a file of prompts, and the prompts of evaluation sets."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from harness.components import build, modules
from harness.datafiles import read_bytes
from harness.errors import DataError, nearest, quoted
from harness.protocols import Benchmark

COLUMNS = ("prompt", "question", "instruction", "messages", "text")


def evaluation_prompts(names: Sequence[str], folder: Path | None) -> dict[str, list[tuple[str, str]]]:
    """All prompts of the named official sets. `folder` has a folder for each. Raises DataError."""
    found = {}
    for name in (name.strip() for name in names):
        if name not in modules("benchmark"):
            raise DataError(f"--against: unknown evaluation set {quoted(name)}; {nearest(name, modules('benchmark'))}")
        where = {} if folder is None else {"data_dir": str((folder / name).absolute())}
        found[name] = cast(Benchmark, build("benchmark", {"name": name, **where})).all_prompts()
    return found


def read_prompts(path: Path) -> list[tuple[int, str]]:
    """(line from 1, text) of every prompt in a JSONL file: a text, or an object with one of COLUMNS. Of a conversation,
    the user's words. Raises DataError naming FILE:LINE."""
    prompts = []
    # Not splitlines(): JSON texts may hold U+2028 and its like.
    for number, line in enumerate(read_bytes(path).decode("utf-8", errors="replace").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            text = _text(json.loads(line))
        except (ValueError, RecursionError):
            raise DataError(f"{path}:{number}: not JSON; expected a text or an object a line") from None
        if text is None:
            raise DataError(f"{path}:{number}: no prompt; expected a text, or one of the columns {', '.join(COLUMNS)}")
        prompts.append((number, text))
    return prompts


def _text(row: Any) -> str | None:
    if isinstance(row, str):
        return row
    if not isinstance(row, dict):
        return None
    value = next((row[column] for column in COLUMNS if column in row), None)
    if isinstance(value, list):
        said = [str(m.get("content")) for m in value if isinstance(m, dict) and m.get("role") == "user"]
        return "\n".join(said) if said else None
    if not isinstance(value, str):
        return None
    extra = row.get("input") if "instruction" in row else None
    return f"{value}\n\n{extra}" if isinstance(extra, str) and extra.strip() else value
