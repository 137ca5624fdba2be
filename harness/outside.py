"""The one opener of files that other people wrote, and the one reader of JSON from outside.

A stranger's file may be a FIFO, a device, a link to a secret or a compressed bomb, and JSON may hold NaN, a number of a
million digits, a key twice or a list ten thousand levels deep. All of these end here, in a ValueError or OSError whose
text says what was expected; callers say where, in an error of their own kind.
"""

import gzip
import io
import json
import math
import os
import re
import stat
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

LARGEST_DATA = 2 << 30
"""Bytes of the largest file of rows: seeds, outputs, judgments. A larger one can be split or written as Parquet."""
LARGEST_TEXT = 64 << 20
"""Bytes of the largest file that is read as a whole: entries, boards, configurations, tokenizers."""
LARGEST_SETTINGS = 1 << 20
"""Bytes of the largest recipe, template, or file of prices, figures or hosts."""
FREELY_UNPACKED = 256 << 20
"""Bytes up to which a compressed file may unpack at any ratio."""
LARGEST_RATIO = 50
"""The largest ratio of unpacked to compressed bytes beyond FREELY_UNPACKED. Text reaches about 10."""
DEEPEST = 100
"""The largest number of lists and objects within each other."""
LONGEST_NUMBER = 40
"""The largest number of characters of an integer: more than a 128-bit id needs, and safe to turn into a float."""

_CHUNK = 1 << 20
_BRACKETS = re.compile(r'[\[{\]}]|"(?:[^"\\]|\\.)*+(?:"|$)', re.DOTALL)
"""Brackets, and strings as a whole."""


def open_file(path: Path, inside: Path | None = None) -> io.BufferedReader:
    """A regular file, open for reading. `inside`: the folder that a symbolic link must not lead out of; by default the
    folder that holds the file. A file of the Hugging Face cache may link to its blob. Raises OSError, among them one
    with a text of its own for links, FIFOs, devices and folders."""
    target = Path(os.path.realpath(path))  # unlike resolve(), no RuntimeError for a link to itself
    if path.is_symlink() or inside is not None:
        root = Path(os.path.realpath(inside or path.parent))
        if not target.is_relative_to(root) and not _is_hub_blob(path, target):
            raise OSError(0, f"it leads out of {root}; expected a file of its own, not a link", str(path))
    # Non-blocking, so that opening a FIFO returns; without following, in case the target is exchanged by now.
    handle = os.open(target, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        kind = "a folder" if stat.S_ISDIR(mode) else "a FIFO" if stat.S_ISFIFO(mode) else "a device or socket"
        raise OSError(0, f"it is {kind}; expected a regular file", str(path))
    return os.fdopen(handle, "rb")


def reason_of(error: Exception) -> str:
    """What an OSError or ValueError of reading says, without the number and the path of an OSError."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _is_hub_blob(path: Path, target: Path) -> bool:
    """Whether a link in a Hugging Face cache (`snapshots/<commit>/...`) leads to a blob of the same repository."""
    snapshots = next((parent for parent in path.absolute().parents if parent.name == "snapshots"), None)
    return snapshots is not None and target.parent == (snapshots.parent / "blobs").resolve()


def read_file(path: Path, largest: int = LARGEST_DATA, inside: Path | None = None) -> bytes:
    """The content of a regular file of at most `largest` bytes; a `.gz` file is unpacked, also to at most `largest`.
    `inside`: see `open_file`. Raises OSError, and ValueError for a file that is too large or damaged."""
    with open_file(path, inside) as file:
        size = os.fstat(file.fileno()).st_size
        if size > largest:
            raise ValueError(f"it has {size:,} bytes; expected at most {largest:,}")
        data = file.read(largest + 1)
    if len(data) > largest:
        raise ValueError(f"it grew beyond {largest:,} bytes while it was read")
    return unpacked(data, largest) if path.suffix == ".gz" else data


def unpacked(data: bytes, largest: int) -> bytes:
    """gzip data, unpacked. Stops with a ValueError beyond `largest` bytes, or beyond FREELY_UNPACKED at a ratio that
    text never reaches; and for damaged data."""
    most = min(largest, max(FREELY_UNPACKED, LARGEST_RATIO * len(data)))
    pieces: list[bytes] = []
    size = 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:  # piece by piece: several members may follow each other
            while piece := file.read(_CHUNK):
                size += len(piece)
                if size > most:
                    raise ValueError(f"it unpacks to more than {most:,} bytes; expected a smaller file")
                pieces.append(piece)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"it is not whole gzip data ({error})") from None
    return b"".join(pieces)


def decoded(data: bytes) -> str:
    """Text in UTF-8, with or without a byte order mark, or in UTF-16 with one. Raises UnicodeDecodeError."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    return data.decode("utf-8-sig")


def read_text(path: Path, largest: int = LARGEST_TEXT, inside: Path | None = None) -> str:
    """`read_file`, decoded. Raises OSError, and ValueError for a file that is too large or not UTF-8."""
    data = read_file(path, largest, inside)
    try:
        return decoded(data)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is not UTF-8; expected text in UTF-8") from None


def parse_json(text: str | bytes, nan: Literal["refuse", "none", "keep"] = "refuse") -> Any:
    """The value of JSON from outside: finite, at most DEEPEST levels deep, integers of at most LONGEST_NUMBER
    characters, no key twice in one object. `nan`: whether NaN is an error or None (pandas writes a missing figure so);
    infinity is an error then. `keep`: NaN and infinity are floats, as in some models' configurations. Raises
    ValueError, json.JSONDecodeError among them."""
    text = decoded(text) if isinstance(text, bytes) else text.removeprefix("\ufeff")
    _check_depth(text)
    return json.loads(
        text,
        parse_constant=_CONSTANTS[nan],
        parse_float=_finite,
        parse_int=_bounded,
        object_pairs_hook=_with_unique_keys,
    )


def _check_depth(text: str) -> None:
    """Raises ValueError for brackets that are too deep. Brackets in strings don't count."""
    if text.count("[") + text.count("{") <= DEEPEST:
        return
    depth = 0
    for match in _BRACKETS.finditer(text):
        character = match[0][0]
        depth += (character in "[{") - (character in "]}")
        if depth > DEEPEST:
            raise ValueError(f"lists or objects more than {DEEPEST} levels deep")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a figure; expected a finite number or null")


def _none_for_nan(constant: str) -> None:
    if constant != "NaN":
        _refuse(constant)


_CONSTANTS: dict[str, Callable[[str], Any]] = {"refuse": _refuse, "none": _none_for_nan, "keep": float}


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:20]} is out of range")
    return value


def _bounded(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"an integer of {len(digits):,} characters; expected at most {LONGEST_NUMBER}")
    return int(digits)


def _with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice[:60]!r} occurs twice in one object")
    return value
