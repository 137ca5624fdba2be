"""Reading data files: the package's assets, a local folder, or a download with a pinned SHA-256."""

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from platformdirs import user_cache_path

from harness.errors import DataError, StoreError
from harness.outside import decoded, parse_json, read_file, reason_of

T = TypeVar("T")


def asset(*parts: str) -> Path:
    """A file that ships with the package."""
    return Path(__file__).parent.joinpath("assets", *parts)


def read_bytes(path: Path) -> bytes:
    """A file's content; a `.gz` file is unpacked. Raises DataError."""
    try:
        return read_file(path)
    except (OSError, ValueError) as error:  # ValueError: too large, or a damaged .gz
        raise DataError(f"{path} can't be read: {reason_of(error)}") from None


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def official(data: bytes, expected: str, where: str, instead: str) -> bytes:
    """The data, if it has the pinned SHA-256. Raises DataError; `instead` says how to use other data."""
    digest = sha256(data)
    if digest != expected:
        raise DataError(f"{where} is not the official file: SHA-256 {digest}, expected {expected}; {instead}")
    return data


def json_list(data: bytes, where: str) -> list[dict[str, Any]]:
    """The objects of a JSON list; NaN, which pandas writes for a missing figure, is None. Raises DataError."""
    try:
        rows = parse_json(data, nan="none")
    except ValueError as error:
        raise DataError(f"{where} is not JSON ({error}); expected a list of objects") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{where}: expected a JSON list of objects")
    return rows


def json_lines(data: bytes, where: str) -> list[dict[str, Any]]:
    """The objects of a JSONL file; blank lines are skipped, and NaN is None. Raises DataError naming the line."""
    rows = []
    try:
        text = decoded(data)
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{where}, line {number}: not UTF-8; expected one JSON object per line, in UTF-8") from None
    # Not splitlines(): JSON strings may contain U+2028 and other line separators.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line, nan="none")
        except ValueError as error:
            raise DataError(f"{where}, line {number}: not JSON ({error}); expected one object per line") from None
        if not isinstance(row, dict):
            raise DataError(f"{where}, line {number}: expected a JSON object, got {type(row).__name__}")
        rows.append(row)
    return rows


FITTED = "fitted_on.json"
"""The file beside a fitted model that lists the pairs that it was fitted to, by `pair_hash`."""


def pair_hash(prompt_id: str, texts: Iterable[str]) -> str:
    """A pair of answers in whichever order: 12 hex digits of the SHA-256 of its prompt's id and its texts."""
    return sha256(json.dumps([prompt_id, *sorted(texts)]).encode())[:12]


def fitted_pairs(folder: Path) -> frozenset[str]:
    """The pairs that the model in a folder was fitted to; none if it has no FITTED. Raises DataError."""
    path = folder / FITTED
    if not path.is_file():
        return frozenset()
    try:
        hashes = parse_json(read_bytes(path))
    except ValueError:
        hashes = None
    if not isinstance(hashes, list) or not all(isinstance(h, str) for h in hashes):
        raise DataError(f"{path}: expected a JSON list of texts, the hashes of the pairs that a model was fitted to")
    return frozenset(hashes)


def json_text(value: Any) -> str:
    """JSON for a file that other programs read. Raises ValueError for NaN and infinity."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def file_name(name: str) -> str:
    """A file name (without extension) for any text. Unsafe characters are percent-encoded; a long name is shortened and
    ends in a hash."""
    safe = quote(name, safe="")
    return f"{safe[:100]}-{sha256(name.encode())[:16]}" if len(safe) > 120 else safe


def local_folder(data_dir: Path | None, benchmark: str) -> Path | None:
    """The folder of a benchmark's files: `data_dir`, else `$HARNESS_DATA/<benchmark>` if it exists."""
    if data_dir is not None:
        return data_dir
    shared = os.environ.get("HARNESS_DATA")
    folder = Path(shared).expanduser() / benchmark if shared else None
    return folder if folder is not None and folder.is_dir() else None


_offline = [False]


@contextmanager
def offline() -> Iterator[None]:
    """While open, nothing is fetched: not by `download`, nor from the hub. What this machine has is used."""
    before, variable = _offline[0], os.environ.get("HF_HUB_OFFLINE")
    _offline[0], os.environ["HF_HUB_OFFLINE"] = True, "1"
    hub = sys.modules.get("huggingface_hub.constants")  # imported later, it reads the variable
    known = vars(hub).get("HF_HUB_OFFLINE") if hub else None
    if hub:
        hub.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        _offline[0] = before
        if variable is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = variable
        if hub := sys.modules.get("huggingface_hub.constants"):
            hub.HF_HUB_OFFLINE = bool(known)  # type: ignore[attr-defined]


def is_offline() -> bool:
    """Whether `offline` is open."""
    return _offline[0]


def download(url: str, expected: str, folder: str, how: str) -> bytes:
    """Download a file and cache it; a `.gz` is unpacked, and its content is what has the `expected` SHA-256. Raises
    DataError; `how` says how to get the file without a network."""
    import pooch

    target = cache_root() / "data" / folder
    name = url.rsplit("/", 1)[-1]
    pooch.get_logger().setLevel("WARNING")
    if is_offline() and not (target / name).exists():
        raise DataError(f"{url} is not on this machine, and nothing is fetched offline; {how}")
    try:
        known = None if name.endswith(".gz") else f"sha256:{expected}"
        path = pooch.retrieve(url, known_hash=known, fname=name, path=target, processor=_with_usual_rights)
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong hash is a ValueError
        raise DataError(f"{url} can't be downloaded ({type(error).__name__}); {how}") from None
    return official(read_bytes(Path(path)), expected, url, how)


def _with_usual_rights(path: str, action: str, _: Any) -> str:
    """pooch writes through a temporary file, which is for its owner alone: a copy has the rights of the umask."""
    if action in ("download", "update"):
        scratch = Path(f"{path}.{os.getpid()}")
        scratch.write_bytes(read_bytes(Path(path)))
        os.replace(scratch, path)
    return path


def evenly_spaced(rows: Sequence[T], limit: int | None) -> list[T]:
    """`limit` of the n rows, evenly spaced and in order: row floor(i n / limit) for i = 0 .. limit - 1."""
    if limit is None or limit >= len(rows):
        return list(rows)
    return [rows[i * len(rows) // limit] for i in range(limit)]


def cache_root() -> Path:
    """The cache folder, which holds models and the store: `$HARNESS_HOME`, else the user's cache folder. Raises
    StoreError for a user without a home, as in many containers."""
    home = os.environ.get("HARNESS_HOME")
    try:
        return Path(home).expanduser().absolute() if home else user_cache_path("harness", appauthor=False)
    except RuntimeError:
        raise StoreError("this user has no home folder; set HARNESS_HOME to a writable folder") from None


def store_folder(path: Path | None) -> Path:
    """The store's folder: `path` if set, else the one in the cache folder."""
    return path or cache_root() / "store"


def read_json_list(path: Path) -> list[dict[str, Any]]:
    """`json_list` for a file. Raises DataError."""
    return json_list(read_bytes(path), str(path))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """`json_lines` for a file. Raises DataError."""
    return json_lines(read_bytes(path), str(path))
