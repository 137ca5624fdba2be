"""The one opener of files from outside, and the one reader of JSON from outside."""

import gzip
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import files, outside
from harness.errors import DataError
from harness.outside import parse_json, read_file, read_text, unpacked


def fifo(path: Path) -> None:
    os.mkfifo(path)


def link_out(path: Path) -> None:
    (path.parent.parent / "secret").write_text("token")
    path.symlink_to(path.parent.parent / "secret")


def chain_out(path: Path) -> None:
    (path.parent.parent / "secret").write_text("token")
    (path.parent / "middle").symlink_to("../secret")
    path.symlink_to("middle")


UNREADABLE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "FIFO": (fifo, "a FIFO; expected a regular file"),
    "folder": (Path.mkdir, "a folder; expected a regular file"),
    "device": (lambda p: p.symlink_to("/dev/zero"), "expected a file of its own, not a link"),
    "link out": (link_out, "expected a file of its own, not a link"),
    "chain of links out": (chain_out, "expected a file of its own, not a link"),
    "link to itself": (lambda p: p.symlink_to(p.name), "Too many levels"),
    "dangling link": (lambda p: p.symlink_to("nothing"), "No such file"),
    "missing": (lambda p: None, "No such file"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_is_no_file_of_its_own_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    (tmp_path / "theirs").mkdir()
    path = tmp_path / "theirs" / "data.jsonl"
    make, expected = UNREADABLE[kind]
    make(path)
    with pytest.raises(OSError, match=expected):
        read_file(path)
    with pytest.raises(DataError, match=r"data\.jsonl can't be read"):
        files.read_bytes(path)


def test_devices_are_refused_by_name() -> None:
    for name in ("/dev/zero", "/dev/stdin", "/dev/null"):
        with pytest.raises(OSError, match="expected a regular file"):
            read_file(Path(name))


def test_links_within_a_folder_and_of_the_hub_s_cache_are_followed(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").symlink_to("a")
    assert read_text(tmp_path / "b") == "1"
    blobs, snapshot = tmp_path / "models--o--m" / "blobs", tmp_path / "models--o--m" / "snapshots" / "c0ffee"
    blobs.mkdir(parents=True)
    (snapshot / "sub").mkdir(parents=True)
    (blobs / "abc").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/abc")
    (snapshot / "sub" / "config.json").symlink_to("../../../blobs/abc")
    assert read_text(snapshot / "config.json") == read_text(snapshot / "sub" / "config.json") == "{}"
    (snapshot / "token").symlink_to("../../../a")
    with pytest.raises(OSError, match="not a link"):
        read_text(snapshot / "token")


def test_a_folder_that_is_a_link_is_followed_unless_the_root_is_named(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x").write_text("1")
    (tmp_path / "board").mkdir()
    (tmp_path / "board" / "data").symlink_to("../real")
    assert read_text(tmp_path / "board" / "data" / "x") == "1"
    with pytest.raises(OSError, match="leads out of"):
        read_text(tmp_path / "board" / "data" / "x", inside=tmp_path / "board")


def test_a_file_is_read_up_to_its_cap(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"a" * 100)
    assert len(read_file(tmp_path / "x", largest=100)) == 100
    with pytest.raises(ValueError, match="it has 100 bytes; expected at most 99"):
        read_file(tmp_path / "x", largest=99)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match="1,099,511,627,776 bytes"):
        read_file(tmp_path / "sparse")


def test_a_file_that_holds_more_than_it_says_is_no_larger() -> None:
    status = Path("/proc/self/status")  # by its size, it is empty
    if not status.exists():
        pytest.skip("no /proc")
    with pytest.raises(ValueError, match="it grew beyond 10 bytes"):
        read_file(status, largest=10)


def test_a_file_that_becomes_a_link_meanwhile_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, resolved = tmp_path / "x", os.path.realpath
    path.write_text("1")
    (tmp_path / "secret").write_text("token")

    def exchanged(name: Any) -> str:
        target = resolved(name)
        path.unlink()
        path.symlink_to("secret")
        return target

    with monkeypatch.context() as patched:
        patched.setattr(os.path, "realpath", exchanged)
        with pytest.raises(OSError, match="symbolic links"):
            outside.open_file(path)
    assert read_text(path) == "token"


def test_a_packed_file_unpacks_to_its_cap(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(bytes(1000)))
    assert len(read_file(tmp_path / "x.gz", largest=1000)) == 1000
    with pytest.raises(ValueError, match="it unpacks to more than 999 bytes"):
        read_file(tmp_path / "x.gz", largest=999)


def test_a_bomb_stops_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "FREELY_UNPACKED", 8 << 20)
    bomb = gzip.compress(bytes(64 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="it unpacks to more than 8,388,608 bytes"):
            unpacked(bomb, outside.LARGEST_DATA)
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()


def test_a_bomb_of_many_members_counts_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "FREELY_UNPACKED", 1 << 20)
    with pytest.raises(ValueError, match="unpacks to more than"):
        unpacked(gzip.compress(bytes(200_000)) * 20, outside.LARGEST_DATA)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.integers(0, 3))
def test_members_and_padding_unpack_as_gzip_does(members: list[bytes], padding: int) -> None:
    data = b"".join(map(gzip.compress, members)) + b"\0" * padding
    assert unpacked(data, outside.LARGEST_DATA) == gzip.decompress(data) == b"".join(members)


@given(st.binary(min_size=1, max_size=200), st.data())
def test_damaged_gzip_is_a_value_error(content: bytes, data: st.DataObject) -> None:
    packed = gzip.compress(content)
    cut = data.draw(st.integers(1, len(packed) - 1))
    with pytest.raises(ValueError, match="gzip data"):
        unpacked(packed[:cut], outside.LARGEST_DATA)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_byte_order_marks(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "x").write_bytes('{"a": "ä"}'.encode(encoding))
    assert read_text(tmp_path / "x") == '{"a": "ä"}'
    assert parse_json((tmp_path / "x").read_bytes()) == {"a": "ä"}
    assert files.read_json_lines(tmp_path / "x") == [{"a": "ä"}]


def test_text_in_another_encoding_is_an_error_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes('{"a": 1}\n{"a": "ä"}\n'.encode("latin-1"))
    with pytest.raises(ValueError, match="line 2 is not UTF-8"):
        read_text(tmp_path / "x")
    with pytest.raises(DataError, match="x, line 2: not UTF-8"):
        files.read_json_lines(tmp_path / "x")


REFUSED = {
    '{"a": 1, "a": 2}': "the key 'a' occurs twice",
    '[{"b": {"a": 1, "c": 2, "a": 1}}]': "the key 'a' occurs twice",
    "[NaN]": "NaN is not a figure",
    "[-Infinity]": "-Infinity is not a figure",
    "[1e999]": "out of range",
    "[-1e400]": "out of range",
    "[" + "9" * 41 + "]": "an integer of 41 characters",
    "[" * 101 + "]" * 101: "more than 100 levels deep",
    '{"a":' * 5000 + "1" + "}" * 5000: "more than 100 levels deep",
    "[" * 100_000: "more than 100 levels deep",
    "": "Expecting value",
    "{'a': 1}": "Expecting property name",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: str(text)[:20])
def test_json_that_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=REFUSED[text]):
        parse_json(text)


def test_json_that_only_looks_deep_or_large() -> None:
    for value in ("[" * 500 + '\\"' + "{" * 500, "9" * 5000):
        assert parse_json(json.dumps([value])) == [value]
    assert parse_json("[" * 100 + "]" * 100)
    assert parse_json("[" + "[]," * 500 + "[]]")
    assert parse_json("[NaN, 1e308, 340282366920938463463374607431768211455]", nan="none") == [None, 1e308, 2**128 - 1]
    with pytest.raises(ValueError, match="Infinity"):
        parse_json("[Infinity]", nan="none")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**100), 2**100)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(JSON)
def test_ordinary_json_is_read_as_by_the_standard_library(value: Any) -> None:
    text = json.dumps(value)
    assert parse_json(text) == json.loads(text) == value
