"""The data files of a local copy of a hub dataset: those in its folder, whatever its card says.

`datasets` follows a card's `data_files` to any address and any path, also when offline. What is read must be what the
identity covers: the files of the folder.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.data.rows import check_parquet, is_parquet, read_content
from harness.errors import DataError, quoted
from harness.outside import LARGEST_TEXT, open_file, read_text, reason_of
from harness.outside_yaml import parse_yaml

STANDALONE = ".huggingface.yaml"
"""A file with the same fields as a card's header."""
_HEADER = re.compile(r"\A\s*---[ \t]*\r?\n(.*?\n)---", re.DOTALL)


def check_card(folder: Path) -> None:
    """Raises DataError for a card that names data files outside of its folder, or can't be read."""
    for name in ("README.md", STANDALONE):
        path = folder / name
        if not path.exists():
            continue
        try:
            text = read_text(path, LARGEST_TEXT, inside=folder)
            header = _HEADER.match(text)
            fields = parse_yaml(text if name == STANDALONE else header[1] if header else "", any_keys=True)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: can't be read ({reason_of(error)}); expected a dataset's card") from None
        configs = fields.get("configs") if isinstance(fields, dict) else None
        for config in configs if isinstance(configs, list) else ():
            if isinstance(config, dict):
                for named in _texts([config.get("data_files"), config.get("data_dir")]):
                    check_inside(named, str(path))


def check_inside(named: str, where: str) -> None:
    """Raises DataError for a path or pattern that isn't relative, or leads upwards, or is an address."""
    parts = named.replace("\\", "/").split("/")
    if ":" in named or parts[0] in ("", "~") or ".." in parts:
        raise DataError(f"{where}: names the data files {quoted(named)}; expected files of its own folder")


def check_files(folder: Path, files: Iterable[str]) -> None:
    """Raises DataError for a data file that is not a regular file of the folder, is hidden (no part of the identity),
    or unpacks to too much."""
    root = folder.resolve()
    for file in map(Path, files):
        try:
            relative = Path(file).absolute().relative_to(folder.absolute())
            open_file(file, inside=root).close()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not in the dataset's folder"
            raise DataError(f"{file}: can't be read ({reason}); expected a file of {folder}") from None
        if any(part.startswith(".") for part in relative.parts):
            raise DataError(f"{file}: a hidden file; expected data in files whose names begin with no dot")
        if is_parquet(file):
            check_parquet(file)
        elif file.suffix == ".gz":
            read_content(file)  # bounded; `datasets` would unpack whatever it is


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            if key != "split":
                yield from _texts(part)
