"""A board's files spoilt without regard to what they mean: any JSON, any bytes, anything in the place of a file."""

import gzip
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

ODD: list[Any] = [
    *(None, True, "", "99.9", "NaN", [], {}, [[]], {"value": 99.9}, -1, 7, 99, 99.9, 1e300, -1e300, 10**39, 10**60),
    *(1e-300, "\x1b[2J\x1b]0;x\x07", "::error::forged", "a\nharness gate: pass", "\u202e", "\ud800", "x" * 100_000),
    *("../../x", "/etc/passwd", "a/b", "\0", [None] * 1000, {"": None}, 0, 0.5, -0.0, 2**63),
]
BARE = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-1e999",
    "9" * 5000,
    "[" * 3000 + "]" * 3000,
    '{"a":' * 900 + "1" + "}" * 900,
]


def edited(change: Callable[[Any, random.Random], str]) -> Callable[[Path, random.Random], str]:
    """A change of a file's JSON."""

    def edit(file: Path, rng: random.Random) -> str:
        data = json.loads(file.read_text(encoding="utf-8"))
        done = change(data, rng)
        file.write_text(json.dumps(data), encoding="utf-8")
        return done

    edit.__name__ = change.__name__
    return edit


# --- any JSON


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything within."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = [(value, key) for key in value]
    elif isinstance(value, list):
        items = [(value, i) for i in range(min(len(value), 20))]
    return items + [place for container, key in items for place in _places(container[key])]


@edited
def anything_odd(data: Any, rng: random.Random) -> str:
    container, key = rng.choice(_places(data))
    container[key] = rng.choice(ODD)
    return f"{key} {str(container[key])[:40]!r}"


@edited
def anything_removed(data: Any, rng: random.Random) -> str:
    container, key = rng.choice(_places(data))
    del container[key]
    return str(key)


@edited
def a_key_renamed(data: Any, rng: random.Random) -> str:
    container, key = rng.choice([place for place in _places(data) if isinstance(place[0], dict)])
    new = rng.choice(["", "x" * 50_000, "\x1b[31m", "alpaca_eval.win_rate", "a.b.c", "..", "__class__"])
    container[new] = container.pop(key)
    return f"{key} {new[:20]!r}"


@edited
def a_row_twice(data: Any, rng: random.Random) -> str:
    data["rows"].append(rng.choice(data["rows"]))
    return "twice"


def bare(file: Path, rng: random.Random) -> str:
    text = file.read_text(encoding="utf-8")
    at = rng.choice([i for i, c in enumerate(text) if c.isdigit() and text[i - 1] == " "])
    end = next(i for i in range(at, len(text)) if text[i] in ",\n]}")
    new = rng.choice(BARE)
    file.write_text(text[:at] + new + text[end:], encoding="utf-8")
    return new[:20]


def a_key_twice(file: Path, rng: random.Random) -> str:
    text = file.read_text(encoding="utf-8")
    at = rng.choice([i for i, c in enumerate(text) if c == "{"])
    file.write_text(text[: at + 1] + '"id": "x", "value": 99.9, "id": "y", ' + text[at + 1 :], encoding="utf-8")
    return str(at)


# --- bytes and files


def cut(file: Path, rng: random.Random) -> str:
    data = file.read_bytes()
    file.write_bytes(data[: rng.randrange(len(data))])
    return "cut"


def flipped(file: Path, rng: random.Random) -> str:
    data = bytearray(file.read_bytes())
    for _ in range(rng.choice([1, 3, 30])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(bytes(data))
    return "bits"


def rewritten(file: Path, rng: random.Random) -> str:
    text = file.read_text(encoding="utf-8")
    ways: dict[str, bytes] = {
        "BOM": b"\xef\xbb\xbf" + text.encode(),
        "UTF-16": text.encode("utf-16"),
        "UTF-16 without a mark": text.encode("utf-16-le"),
        "gzip": gzip.compress(text.encode()),
        "NULs": text.encode() + b"\0" * 100,
        "CRLF": text.replace("\n", "\r\n").encode(),
        "conflict": f"<<<<<<< HEAD\n{text}=======\n{text}>>>>>>> b\n".encode(),
        "LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "empty": b"",
        "null": b"null",
        "list": b"[]",
        "text": b'"board"',
        "twice": (text + text).encode(),
    }
    way = rng.choice(sorted(ways))
    file.write_bytes(ways[way])
    return way


def swapped(file: Path, rng: random.Random) -> str:
    """Two entries change places."""
    one, other = rng.sample(
        sorted((file.parent / "entries" if file.parent.name != "entries" else file.parent).glob("*.json")), k=2
    )
    first = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(first)
    return f"{one.name} {other.name}"


def replaced(file: Path, rng: random.Random) -> str:
    """Something else stands where the file was."""
    way = rng.choice(["FIFO", "folder", "device", "secret", "nowhere", "itself", "nothing", "large"])
    file.unlink()
    if way == "FIFO":
        os.mkfifo(file)
    elif way == "folder":
        file.mkdir()
    elif way == "large":
        with file.open("wb") as large:
            large.truncate(100 << 20)
    elif way != "nothing":
        targets = {"device": "/dev/zero", "secret": "/etc/passwd", "nowhere": "/none", "itself": str(file)}
        file.symlink_to(targets[way])
    return way


def the_entries(file: Path, rng: random.Random) -> str:
    """Something else stands where the folder of entries was."""
    board = file.parent.parent if file.parent.name == "entries" else file.parent
    way = rng.choice(["link", "file", "FIFO", "none"])
    kept = board / "elsewhere"
    shutil.move(board / "entries", kept)
    if way == "link":
        (board / "entries").symlink_to("/etc")
    elif way == "file":
        (board / "entries").write_text("{}")
    elif way == "FIFO":
        os.mkfifo(board / "entries")
    return way


JSON = [anything_odd, anything_odd, anything_removed, a_key_renamed, a_row_twice, bare, a_key_twice]
BYTES = [cut, flipped, rewritten]
FILES = [replaced, the_entries, swapped]
