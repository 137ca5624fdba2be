"""A plan's stages run in this process: what is there, what is broken, what doesn't fit."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.engine.execute import execute, threads, use_threads
from harness.engine.resources import Resources
from harness.engine.stage import Context, Stage
from harness.engine.store import Store
from harness.errors import ModelError
from tests.stages.scripted import Silent


def stage(name: str, body: Any, **inputs: Stage) -> Stage:
    return Stage(name, name, 1, {}, inputs, body)


def writes(ctx: Context) -> dict[str, Any]:
    (ctx.folder / "rows.jsonl").write_text("{}")
    (ctx.folder / "weights").write_bytes(b"w" * 17_000_000)
    return {"rows": 1}


def plan(*stages: Stage) -> Any:
    return SimpleNamespace(stages=list(stages))


def allocates(ctx: Context) -> dict[str, Any]:
    torch.empty(1 << 50)
    return {}


def exhausts(ctx: Context) -> dict[str, Any]:
    raise MemoryError


@pytest.mark.parametrize("body", [allocates, exhausts])
def test_what_doesn_t_fit_in_memory_is_said_and_what_is_finished_stays(body: Any, tmp_path: Path) -> None:
    first = stage("first", writes)
    with pytest.raises(ModelError, match="second: out of memory; finished work is kept"):
        execute(plan(first, stage("second", body, first=first)), Store(tmp_path), Silent())
    assert Store(tmp_path).find(first.key) is not None


def test_other_errors_are_what_they_are(tmp_path: Path) -> None:
    def wrong(ctx: Context) -> dict[str, Any]:
        raise RuntimeError("shapes")

    with pytest.raises(RuntimeError, match="shapes"):
        execute(plan(stage("x", wrong)), Store(tmp_path), Silent())


def test_a_large_file_is_looked_at_when_a_stage_needs_it(tmp_path: Path) -> None:
    """What nobody reads now is not hashed; what goes into a stage is, and is made again where it is broken."""
    store, ran = Store(tmp_path), []

    def counted(ctx: Context) -> dict[str, Any]:
        ran.append("first")
        return writes(ctx)

    first = stage("first", counted)
    execute(plan(first), store, Silent())
    weights = store.artifacts / first.key / "weights"
    weights.write_bytes(b"v" * 17_000_000)
    execute(plan(first), store, Silent())
    assert ran == ["first"]
    execute(plan(first, stage("second", lambda ctx: {}, first=first)), store, Silent())
    assert ran == ["first", "first"]
    assert weights.read_bytes()[:1] == b"w"
    assert (store.artifacts / f".corrupt-{first.key}" / "weights").exists()


def test_threads_are_the_declared_processors() -> None:
    before = torch.get_num_threads()
    assert threads(None) is None
    assert threads(Resources(cpus=1.5)) == 1
    use_threads(1)
    assert torch.get_num_threads() == 1
    use_threads(before)
    assert torch.get_num_threads() == before
