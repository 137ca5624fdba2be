"""On a shared store the umask says who may read: whichever library wrote a file, and wherever it lies."""

import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy
import pytest
from safetensors.numpy import save_file

from harness.engine.execute import execute
from harness.engine.journal import Journal
from harness.engine.runs import running
from harness.engine.stage import Context, Stage
from harness.files import cache_root, download
from harness.types import Completion
from tests.engine.a_store import Sample
from tests.stages.scripted import Silent


@pytest.fixture(autouse=True, params=[0o027, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def wrong(root: Path, umask: int) -> list[str]:
    """What is below a folder with other rights than the umask's."""
    rights = {path: stat.S_IMODE(path.lstat().st_mode) for path in [root, *root.rglob("*")]}
    return [
        f"{path.relative_to(root)}: {mode:o}"
        for path, mode in rights.items()
        if mode != (0o777 if path.is_dir() else 0o666) & ~umask
    ]


def weights(ctx: Context) -> dict[str, int]:
    save_file({"weight": numpy.zeros(2)}, ctx.folder / "model.safetensors")
    Journal(ctx.store.journals / "judge" / "verdicts.jsonl", Completion).append(
        [("a" * 16, Completion(text="A", finish_reason="stop", tokens=1))]
    )
    return {"weights": 2}


def test_of_a_store_and_a_board(umask: int, tmp_path: Path) -> None:
    sample = Sample(tmp_path / "store")
    stage = Stage(id="train/dpo", name="train", version=1, params={}, inputs={}, body=weights)
    plan = type("Plan", (), {"stages": [stage]})()
    with running(sample.store, [stage.key]):
        artifact = execute(plan, sample.store, Silent()).artifacts[stage.key]
        assert wrong(tmp_path / "store", umask) == []
    assert (artifact.folder / "model.safetensors").is_file()
    board = sample.board(tmp_path / "boards" / "mine", train=sample.train)
    assert wrong(board, umask) == []


def test_of_a_download(umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "questions.jsonl").write_bytes(b"{}\n")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/questions.jsonl"
        for _ in range(2):
            assert download(url, hashlib.sha256(b"{}\n").hexdigest(), "x", "put it there") == b"{}\n"
        server.shutdown()
    assert [p.name for p in (cache_root() / "data" / "x").iterdir()] == ["questions.jsonl"]
    assert wrong(tmp_path / "home", umask) == []
