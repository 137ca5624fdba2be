"""`steps.jsonl`: a line an optimizer step."""

import json
from pathlib import Path
from typing import Any


def read_steps(path: Path) -> list[dict[str, Any]]:
    """The lines of a steps.jsonl; a torn last one counts as not there."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def keep_steps(path: Path, last: int) -> None:
    """Drop the lines after a step: that of the checkpoint which the run goes on from."""
    kept = [line for line in read_steps(path) if line["step"] <= last]
    path.write_text("".join(json.dumps(line) + "\n" for line in kept))
