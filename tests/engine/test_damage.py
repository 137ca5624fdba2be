"""What is broken in a store is found and named, and goes when told."""

import json
import os
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.engine.maintenance import find_damage
from harness.engine.store import Store
from tests.engine.a_store import Sample, command


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return Sample(tmp_path / "store")


def test_verify_names_what_is_broken_and_removes_it_when_told(sample: Sample, tmp_path: Path) -> None:
    weights = sample.store.artifacts / sample.train / "checkpoint" / "weights"
    weights.write_bytes(b"x" * 300)
    done = command("verify", "--store", str(sample.store.root), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"{weights}: has changed since it was written; --delete removes the artifact" in done.stderr
    assert command("verify", "--delete", "--store", str(sample.store.root), cwd=tmp_path).returncode == 0
    assert sample.store.find(sample.train) is None
    assert command("verify", "--store", str(sample.store.root), cwd=tmp_path).returncode == 0


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def a_socket(path: Path) -> None:
    os.chdir(path.parent)  # a socket's address is short
    socket.socket(socket.AF_UNIX).bind(path.name)


def a_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("kind", [a_fifo, a_link, a_socket, a_folder])
@pytest.mark.parametrize(
    "place", ["artifacts/x", "artifacts/{}/x", "artifacts/{}/checkpoint/x", "journals/x.jsonl", "journals/samples/x"]
)
def test_verify_sees_what_is_no_file(
    kind: Callable[[Path], None], place: str, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sample.store.root)
    path = sample.store.root / place.format(sample.train)
    kind(path)
    named = [(fault.path, fault.text) for fault in find_damage(sample.store)]
    assert [p == path or p.parent == path for p, _ in named] == [True]
    assert sample.store.find(sample.ranked) is not None


@pytest.mark.parametrize("kind", [a_fifo, a_link, a_folder])
def test_a_manifest_that_is_no_file_is_no_artifact(kind: Callable[[Path], None], sample: Sample) -> None:
    (sample.store.artifacts / sample.train / "artifact.json").unlink()
    kind(sample.store.artifacts / sample.train / "artifact.json")
    assert sample.store.find(sample.train) is None
    assert len(list(find_damage(sample.store))) == 1


def test_verify_names_torn_and_changed_lines(sample: Sample, tmp_path: Path) -> None:
    path = sample.store.pool / "samples-1.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"t1", b"t7")
    lines[3] = lines[3][:40] + b"\n"
    path.write_bytes(b"".join(lines)[:-9])
    done = command("verify", "--store", str(sample.store.root), cwd=tmp_path)
    assert done.returncode == 2
    told = done.stderr.splitlines()
    assert len(told) == 3
    assert "line 2 doesn't have the content that its checksum was computed from" in told[0]
    assert "line 4 is not a whole JSON object: it was cut short or changed; it is left out" in told[1]
    assert "--delete moves it to samples-1.jsonl.damaged" in told[1]
    assert "line 6 is not a whole JSON object" in told[2]
    done = command("verify", "--delete", "--store", str(sample.store.root), cwd=tmp_path)
    assert done.returncode == 0
    assert "moved" in done.stderr
    assert path.read_bytes() == lines[0] + lines[2] + lines[4]
    assert path.with_name("samples-1.jsonl.damaged").read_bytes() == lines[1] + lines[3] + lines[5][:-9]
    assert command("verify", "--store", str(sample.store.root), cwd=tmp_path).returncode == 0


# --- fuzz

Damage = Callable[[random.Random, Path], None]


def files(root: Path) -> list[Path]:
    return sorted(p for folder in ("artifacts", "journals") for p in (root / folder).rglob("*") if p.is_file())


def flipped(draw: random.Random, root: Path) -> None:
    path = draw.choice([p for p in files(root) if not p.name.endswith(".lock")])
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def cut(draw: random.Random, root: Path) -> None:
    path = draw.choice([p for p in files(root) if "artifacts" in p.parts])
    data = path.read_bytes()
    path.write_bytes(data[: draw.randrange(len(data) - 1)])


def removed(draw: random.Random, root: Path) -> None:
    draw.choice([p for p in files(root) if "artifacts" in p.parts]).unlink()


def added(draw: random.Random, root: Path) -> None:
    (draw.choice(sorted((root / "artifacts").iterdir())) / draw.choice(["more", "x.tmp"])).write_text("?")


def swapped(draw: random.Random, root: Path) -> None:
    one, other = draw.sample([p for p in files(root) if p.name in ("rows.jsonl", "weights")], 2)
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes() + b"!")
    other.write_bytes(kept + b"!")


def linked(draw: random.Random, root: Path) -> None:
    path = draw.choice([p for p in files(root) if p.name == "weights"])
    path.unlink()
    path.symlink_to("/etc/hostname")


def edited(draw: random.Random, root: Path) -> None:
    path = draw.choice([p for p in files(root) if p.name == "artifact.json"])
    record = json.loads(path.read_text())
    field = draw.choice(["key", "stage", "version", "params", "inputs", "files", "report", "seconds"])
    record[field] = draw.choice(
        [None, [], {"a": 1}, "x", -1, 1e300, float("nan"), {"rows.jsonl": {"sha256": "0", "bytes": 1}}]
    )
    path.write_text(json.dumps(record))


def replaced(draw: random.Random, root: Path) -> None:
    path = draw.choice([p for p in files(root) if p.name == "artifact.json"])
    path.write_bytes(draw.choice([b"", b"\xff\xfe", b"[" * 20000, b"null", b"{}", b'{"key": NaN}', os.urandom(200)]))


def a_folder_for_a_file(draw: random.Random, root: Path) -> None:
    path = draw.choice([p for p in files(root) if "artifacts" in p.parts])
    path.unlink()
    path.mkdir()


def a_broken_line(draw: random.Random, root: Path) -> None:
    path = root / "journals" / "samples" / "samples-1.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    odd = [
        b"{}\n",
        b"null\n",
        b"\xff\n",
        b'{"key": 3, "sample": {}}\n',
        b"[" * 9999 + b"\n",
        lines[0],
        b'{"key": "k"}\n',
    ]
    lines.insert(draw.randrange(1, len(lines)), draw.choice(odd))
    path.write_bytes(b"".join(lines))


DAMAGES: list[Damage] = [
    *(flipped, cut, removed, added, swapped, linked, edited, replaced, a_folder_for_a_file, a_broken_line),
]


@pytest.mark.slow
def test_two_hundred_damages(sample: Sample, tmp_path: Path) -> None:
    """Each is found, and told in lines that name what they are about; nothing is followed or raised."""
    missed = []
    for seed in range(200):
        root = tmp_path / "damaged"
        shutil.copytree(sample.store.root, root)
        draw = random.Random(seed)
        damage = draw.choice(DAMAGES)
        before = {p: p.read_bytes() for p in files(root)}
        damage(draw, root)
        after = {p: p.read_bytes() for p in files(root) if p.is_file()}
        found = list(find_damage(Store(root)))
        for fault in found:
            assert str(fault.path).startswith(str(root))
            assert fault.text
            assert "\n" not in fault.text
        if not found and before != after:
            missed.append((seed, damage.__name__))
        if seed % 40 == 0:
            done = command("verify", "--store", str(root), cwd=tmp_path)
            assert done.returncode == (2 if found else 0)
            assert "Traceback" not in done.stderr
            assert len(done.stderr.splitlines()) == len(found)
        shutil.rmtree(root)
    assert not missed
