"""The store keeps what was finished, and only that: after kills, under two runs at once, and against later changes."""

import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engine.store import Artifact, ArtifactRecord, Store, canonical_json, stage_key, write_json, write_rows
from harness.errors import StoreError
from harness.types import Message, Response

KEY = "a" * 64


def record(key: str = KEY) -> ArtifactRecord:
    return ArtifactRecord(
        key=key, stage="s", version=1, params={}, inputs={}, files={}, report={}, made_by={}, seconds=0.0
    )


def publish(store: Store, key: str = KEY) -> Artifact:
    with store.lock(key), store.building(key) as scratch:
        write_rows(scratch / "rows.jsonl", [Response(text="a\u2028b\n", source="x"), Response(text="", source="y")])
        write_json(scratch / "sub.json", {"b": 1, "a": [None]})
        return store.publish(scratch, record(key))


def test_what_is_published_is_found_and_read_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.find(KEY) is None
    publish(store)
    found = Store(tmp_path).find(KEY)
    assert found is not None
    assert [r.text for r in found.rows("rows.jsonl", Response)] == ["a\u2028b\n", ""]
    assert found.json("sub.json") == {"b": 1, "a": [None]}
    assert set(found.record.files) == {"rows.jsonl", "sub.json"}


def test_everything_is_on_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut an artifact is whole or not there: files, then the manifest, the folders, and the name."""
    store, calls = Store(tmp_path), []
    own_sync, own_replace = os.fsync, os.replace

    def sync(handle: int) -> None:
        calls.append(("sync", Path(os.readlink(f"/proc/self/fd/{handle}"))))
        own_sync(handle)

    def replace(source: Path, target: Path) -> None:
        calls.append(("name", Path(target)))
        own_replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    with store.lock(KEY), store.building(KEY) as scratch:
        for name in ("checkpoint/deep/weights", "checkpoint/config.json", "rows.jsonl"):
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / name).write_text("x")
        store.publish(scratch, record())
    calls = [(what, path) for what, path in calls if "locks" not in path.parts]
    assert calls == [
        *(("sync", scratch / name) for name in ("checkpoint/config.json", "checkpoint/deep/weights", "rows.jsonl")),
        ("sync", scratch / "artifact.json"),
        *(("sync", scratch / name) for name in ("checkpoint/deep", "checkpoint", "")),
        ("name", store.artifacts / KEY),
        ("sync", store.artifacts),
    ]


@pytest.mark.parametrize("umask", [0o002, 0o027, 0o077])
def test_the_umask_says_who_may_read_an_artifact(umask: int, tmp_path: Path) -> None:
    """Not the library that wrote a file: safetensors' are for their owner alone."""
    before = os.umask(umask)
    try:
        store = Store(tmp_path / "store")
        with store.lock(KEY), store.building(KEY) as scratch:
            (scratch / "checkpoint").mkdir(mode=0o700)
            (scratch / "checkpoint" / "model.safetensors").touch(mode=0o600)
            (scratch / "run.sh").touch(mode=0o700)
            artifact = store.publish(scratch, record())
    finally:
        os.umask(before)
    rights = {p.name: p.stat().st_mode & 0o777 for p in [artifact.folder, *artifact.folder.rglob("*")]}
    folder, file = 0o777 & ~umask, 0o666 & ~umask
    assert rights == {
        KEY: folder,
        "checkpoint": folder,
        "model.safetensors": file,
        "artifact.json": file,
        "run.sh": 0o700 | file,
    }


def test_a_stage_that_raises_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail() -> None:
        with store.building(KEY) as scratch:
            (scratch / "half").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert store.find(KEY) is None
    assert not list((tmp_path / "artifacts").iterdir())


def test_changed_content_is_refused_and_cut_content_is_not_there(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = publish(store).folder
    text = (folder / "sub.json").read_text()
    (folder / "sub.json").write_text(text.replace("1", "2"))
    found = store.find(KEY)
    assert found is not None
    with pytest.raises(StoreError, match=r"sub\.json"):
        found.json("sub.json")
    (folder / "sub.json").write_text(text[:-3])
    assert store.find(KEY) is None
    publish(store)
    again = store.find(KEY)
    assert again is not None
    assert again.json("sub.json")["b"] == 1


def test_a_folder_without_its_record_is_not_finished(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = publish(store).folder
    (folder / "artifact.json").write_text('{"key": "tor')
    assert store.find(KEY) is None


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="HARNESS_HOME"):
        Store(tmp_path / "file" / "store")


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_row_with_no_number_is_not_written(score: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_rows(tmp_path / "rows.jsonl", [Response(text="x", source="y", score=score)])
    assert not (tmp_path / "rows.jsonl").exists()


SLOW_BUILD = """
    import sys, time
    from pathlib import Path
    from harness.engine.store import Store, ArtifactRecord
    store, key = Store(Path(sys.argv[1])), sys.argv[2]
    with store.lock(key):
        if store.find(key) is None:
            with store.building(key) as scratch:
                (scratch / "part").write_text("1")
                print("building", flush=True)
                time.sleep(float(sys.argv[3]))
                store.publish(scratch, ArtifactRecord(key=key, stage="s", version=1, params={}, inputs={}, files={},
                                                      report={}, made_by={}, seconds=0.0))
"""


def builder(store: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(SLOW_BUILD), str(store), KEY, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def test_a_killed_build_is_not_there_and_its_lock_is_free(tmp_path: Path) -> None:
    process = builder(tmp_path, 60)
    assert process.stdout is not None
    assert process.stdout.readline() == "building\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    store = Store(tmp_path)
    assert store.find(KEY) is None
    lock = store.lock(KEY)
    assert lock.try_acquire()
    lock.release()
    publish(store)
    assert {p.name for p in (tmp_path / "artifacts").iterdir()} == {KEY}


def test_two_runs_build_once(tmp_path: Path) -> None:
    first = builder(tmp_path, 1)
    assert first.stdout is not None
    first.stdout.readline()
    started = time.monotonic()
    second = builder(tmp_path, 1)
    outputs = second.communicate(timeout=30)[0], first.communicate(timeout=30)[0]
    assert outputs == ("", "")
    assert (first.returncode, second.returncode) == (0, 0)
    assert time.monotonic() - started < 25
    assert Store(tmp_path).find(KEY) is not None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_keys_do_not_depend_on_the_order_of_fields(params: dict[str, object]) -> None:
    turned = dict(reversed(list(params.items())))
    assert stage_key("s", 1, params, {}) == stage_key("s", 1, turned, {})
    assert stage_key("s", 1, params, {}) != stage_key("s", 2, params, {})


@pytest.mark.parametrize("value", [math.nan, math.inf, {1, 2}, Message(role="user", content="x")])
def test_values_without_a_stable_form_are_refused(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        canonical_json({"value": value})
