"""The store looked after: what is broken is found and named, what nobody needs goes, and nothing else."""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.boards.entry import Entry
from harness.boards.read import stage_keys
from harness.engine.journal import Journal, content_key
from harness.engine.maintenance import find_damage, list_artifacts, unneeded
from harness.engine.store import ArtifactRecord, Store, stage_key, write_json, write_rows
from harness.errors import DataError
from harness.report.write import write_board
from harness.types import Completion, Response

ROOT = Path(__file__).parents[2]


def publish(store: Store, stage: str, inputs: dict[str, str], **params: int) -> str:
    key = stage_key(stage, 1, params, inputs)
    record = ArtifactRecord(
        key=key,
        stage=stage,
        version=1,
        params=params,
        inputs=inputs,
        files={},
        report={"rows": 2},
        made_by={},
        seconds=0,
    )
    with store.lock(key), store.building(key) as scratch:
        write_rows(scratch / "rows.jsonl", [Response(text=f"{stage} {i}" * 20, source="x") for i in range(2)])
        (scratch / "checkpoint").mkdir()
        (scratch / "checkpoint" / "weights").write_bytes(os.urandom(300))
        write_json(scratch / "report.json", {"b": 1})
        store.publish(scratch, record)
    return key


class Sample:
    """A store: seeds -> ranked -> train -> verdicts, a second training, and a journal."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self.seeds = publish(self.store, "seeds", {})
        self.ranked = publish(self.store, "ranked", {"seeds": self.seeds})
        self.train = publish(self.store, "train", {"ranked": self.ranked}, beta=1)
        self.other = publish(self.store, "train", {"ranked": self.ranked}, beta=2)
        self.verdicts = publish(self.store, "verdicts", {"answers": self.train})
        self.dataset = publish(self.store, "dataset", {"ranked": self.ranked})
        journal = Journal(self.store.pool / "samples-1.jsonl", Completion, column="sample")
        for i in range(6):
            journal.append([(content_key(i), Completion(text=f"t{i}", finish_reason="stop", tokens=i))])

    def board(self, folder: Path, **keys: str) -> Path:
        row = Entry(id="multi", method="mdpo_linear", provenance={"keys": keys})
        write_board(folder, folder.name, [row])
        return folder


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return Sample(tmp_path / "store")


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", "cache", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_an_untouched_store_has_no_fault(sample: Sample) -> None:
    assert list(find_damage(sample.store)) == []


def test_ls_says_who_needs_what(sample: Sample, tmp_path: Path) -> None:
    board = sample.board(tmp_path / "leaderboards" / "b", train=sample.train)
    found = {artifact.key: artifact for artifact in list_artifacts(sample.store, {board: stage_keys(board)})}
    assert found[sample.ranked].used_by == ("dataset", "train", "train")
    assert found[sample.train].boards == ("b",)
    assert found[sample.other].boards == found[sample.other].used_by == ()
    done = command("ls", "--store", str(sample.store.root), cwd=tmp_path)
    assert done.returncode == 0
    assert sample.train[:12] in done.stdout
    assert "6 artifacts" in done.stdout
    shown = json.loads(command("ls", "--json", "--store", str(sample.store.root), cwd=tmp_path).stdout)
    assert {a["key"] for a in shown["artifacts"]} == set(found)


def test_gc_keeps_what_a_board_rests_on_however_far_back(sample: Sample, tmp_path: Path) -> None:
    board = sample.board(tmp_path / "b", verdicts=sample.verdicts)
    (sample.store.root / "partial" / sample.other).mkdir(parents=True)
    (sample.store.artifacts / f".building-{sample.other}-dead").mkdir()
    dry = command("gc", "--dry-run", "--keep", str(board), "--store", str(sample.store.root), cwd=tmp_path)
    assert dry.returncode == 0, dry.stderr
    assert sample.store.find(sample.other) is not None
    done = command("gc", "--keep", str(board), "--store", str(sample.store.root), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {p.name for p in sample.store.artifacts.iterdir()} == {
        *(sample.seeds, sample.ranked, sample.train, sample.verdicts, sample.dataset)
    }
    assert (sample.store.root / "partial" / sample.other).exists()
    again = ("gc", "--partial", "--keep", str(board), "--store", str(sample.store.root))
    assert command(*again, cwd=tmp_path).returncode == 0
    assert not list((sample.store.root / "partial").iterdir())
    assert (sample.store.pool / "samples-1.jsonl").exists()
    assert list(find_damage(sample.store)) == []


def test_gc_does_nothing_while_a_run_uses_the_store(sample: Sample, tmp_path: Path) -> None:
    board = sample.board(tmp_path / "b", train=sample.train)
    with sample.store.lock(sample.verdicts):
        done = command("gc", "--keep", str(board), "--store", str(sample.store.root), cwd=tmp_path)
    assert done.returncode == 2
    assert "a run is using it" in done.stderr
    assert sample.store.find(sample.other) is not None


def test_gc_removes_nothing_for_a_board_without_keys(sample: Sample, tmp_path: Path) -> None:
    """Also beside one that has them, and of the same name."""
    bare = sample.board(tmp_path / "one" / "b")
    good = sample.board(tmp_path / "two" / "b", train=sample.train)
    for keep in ([bare], [good, bare]):
        with pytest.raises(DataError, match="this store has none of its artifacts"):
            unneeded(sample.store, {board: stage_keys(board) for board in keep})


def test_swapped_and_linked_artifacts_are_not_there(sample: Sample, tmp_path: Path) -> None:
    store = sample.store
    one, other, aside = store.artifacts / sample.train, store.artifacts / sample.other, tmp_path / "aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    assert store.find(sample.train) is store.find(sample.other) is None
    outside = tmp_path / "outside"
    (store.artifacts / sample.ranked / "checkpoint").rename(outside)
    (store.artifacts / sample.ranked / "checkpoint").symlink_to(outside)
    assert store.find(sample.ranked) is None


def test_a_store_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    done = command("verify", "--store", str(tmp_path / "none"), cwd=tmp_path)
    assert done.returncode == 2
    assert "there is no store" in done.stderr
    assert not (tmp_path / "none").exists()


def test_gc_removes_nothing_for_a_board_that_it_can_t_place(sample: Sample, tmp_path: Path) -> None:
    strange = sample.board(tmp_path / "strange", train="0" * 64)
    with pytest.raises(DataError, match="this store has none of its artifacts"):
        unneeded(sample.store, {strange: stage_keys(strange)})
    for arguments in (("--keep", str(tmp_path / "nowhere")), ()):
        done = command("gc", *arguments, "--store", str(sample.store.root), cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
    assert len(list(sample.store.artifacts.iterdir())) == 6


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
