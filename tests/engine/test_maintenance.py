"""The store looked after: who needs what, what nobody needs goes, and nothing else."""

import json
from pathlib import Path

import pytest

from harness.boards.read import stage_ids, stage_keys
from harness.engine.maintenance import find_damage, list_artifacts, unneeded
from harness.engine.runs import note_names
from harness.errors import DataError
from tests.engine.a_store import Sample, command, publish


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return Sample(tmp_path / "store")


def test_an_untouched_store_has_no_fault(sample: Sample) -> None:
    assert list(find_damage(sample.store)) == []


def test_ls_says_who_needs_what(sample: Sample, tmp_path: Path) -> None:
    board = sample.board(tmp_path / "leaderboards" / "b", train=sample.train)
    found = {artifact.key: artifact for artifact in list_artifacts(sample.store, {board: stage_ids(board)})}
    assert found[sample.ranked].used_by == ("dataset", "train", "train")
    assert found[sample.train].boards == ("b",)
    assert found[sample.other].boards == found[sample.other].used_by == ()
    done = command("ls", "--store", str(sample.store.root), cwd=tmp_path)
    assert done.returncode == 0
    assert sample.train[:12] in done.stdout
    assert "6 artifacts" in done.stdout
    shown = json.loads(command("ls", "--json", "--store", str(sample.store.root), cwd=tmp_path).stdout)
    assert {a["key"] for a in shown["artifacts"]} == set(found)


def test_ls_says_what_each_artifact_is(sample: Sample, tmp_path: Path) -> None:
    """By the names that runs gave; else by a board's; and what it was made with where nothing names it."""
    sample.board(tmp_path / "leaderboards" / "b", **{"train/dpo": sample.train, "ranked": sample.ranked})
    note_names(sample.store, "first", {sample.train: "train/dpo [rate-1]", "0" * 64: "gone"})
    note_names(sample.store, "first", {sample.other: "train/dpo [rate-2]"})  # a later run of it, edited
    note_names(sample.store, "sec/ond", {sample.train: "train/dpo"})
    names = sample.store.root / "names"
    assert "gone" not in (names / "first.json").read_text()
    (names / "damaged.json").write_text("{")
    params = {"loss": {"name": "nca"}, "policy": {"model": "/models/tiny"}, "training": {"learning_rate": 0.001}}
    unnamed = publish(sample.store, "train", {"ranked": sample.ranked}, **params)
    shown = json.loads(command("ls", "--json", "--store", str(sample.store.root), cwd=tmp_path).stdout)
    found = {a["key"]: (a["names"], a["about"]) for a in shown["artifacts"]}
    assert found[sample.train] == (["train/dpo [rate-1] of first", "train/dpo of sec/ond"], "")
    assert found[sample.other] == (["train/dpo [rate-2] of first"], "")
    assert found[sample.ranked] == (["ranked of b"], "")
    assert found[unnamed] == ([], "nca, tiny, learning rate 0.001")
    lines = command("ls", "--store", str(sample.store.root), cwd=tmp_path).stdout.splitlines()
    assert max(map(len, lines[:-1])) <= 80
    assert [line.split()[0] for line in lines if "[rate-" in line] == [sample.train[:12], sample.other[:12]]
    assert [line[37:].strip() for line in lines if "nca" in line] == ["train: nca, tiny, learning rate 0.001"]


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
