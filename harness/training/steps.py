"""`steps.jsonl`: one line per optimizer step."""

import json
from pathlib import Path
from typing import Any


def read_steps(path: Path) -> list[dict[str, Any]]:
    """The lines of a steps.jsonl. An incomplete last line is ignored; a missing file has no lines."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def keep_steps(path: Path, last: int) -> None:
    """Drop the lines after step `last`, the step of the checkpoint that the run resumes from."""
    lines = [line for line in read_steps(path) if line["step"] <= last]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
