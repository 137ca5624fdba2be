"""Public data that isn't committed: tests that need it skip where it is absent."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parents[4] / "shared" / "data"


def folder(name: str) -> Path:
    """A folder of the data. Skips the test where it isn't there."""
    if not (DATA / name).is_dir():
        pytest.skip(f"needs the public data of {name}, beside the repository in shared/data")
    return DATA / name


def lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]
