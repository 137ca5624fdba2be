"""Two machines on one store whose file system shows neither the other's flocks: real processes, each of which sees its
own flocks as free and has another kernel's id."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.engine.journal import Journal
from harness.engine.journal_line import journal_damage
from harness.engine.maintenance import find_damage
from harness.engine.store import Store
from harness.types import JudgeReply

pytestmark = pytest.mark.slow

MACHINE = """
import sys, time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from harness.engine import journal, lease, store

class NoFlock:
    def __init__(self, path): pass
    def acquire(self, timeout): pass
    def release(self): pass

name, folder = sys.argv[1], Path(sys.argv[2])
lease.FileLock = NoFlock
lease.kernel = lambda: f"kernel of {name}"
journal.Lease = store.Lease = partial(lease.Lease, patience=2.0)
from harness.engine.journal import Journal
from harness.types import JudgeReply
"""
APPENDS = """
journal = Journal(folder / "verdicts.jsonl", JudgeReply, column="reply")
print("up", flush=True)
sys.stdin.readline()
for i in range(int(sys.argv[3])):
    keys = [f"{name}-{i}", f"all-{i}", f"{name}-{i}-b"]
    journal.append([(key, JudgeReply(text=f"of {name} " * 40)) for key in keys], together=i % 2 == 0)
    print(i, flush=True)
"""
RUNS = """
from harness.engine.execute import execute
from harness.engine.stage import Stage
from tests.stages.scripted import Silent
from harness.engine.store import Store

def body(ctx):
    with (folder / "ran.log").open("a") as log:
        log.write(ctx.key + "\\n")
    time.sleep(0.05)
    (ctx.folder / "weights").write_bytes(b"w" * 100_000)
    return {}

stages = []
for i in range(12):
    inputs = {"before": stages[-1]} if i % 3 else {}
    stages.append(Stage(f"s{i}", "s", i, {}, inputs, body, exclusive=frozenset({f"part {i % 4}"})))
print("up", flush=True)
sys.stdin.readline()
done = execute(SimpleNamespace(stages=stages), Store(folder), Silent())
print(done.ran, flush=True)
"""


def machine(name: str, folder: Path, what: str, *arguments: str) -> "subprocess.Popen[str]":
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", MACHINE + what, name, str(folder), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def go(processes: list["subprocess.Popen[str]"]) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


def test_every_reply_of_two_machines_is_kept_once(tmp_path: Path) -> None:
    machines = [machine(name, tmp_path, APPENDS, "60") for name in ("one", "two")]
    go(machines)
    assert [m.communicate(timeout=120)[0].count("\n") for m in machines] == [60, 60]
    assert [m.returncode for m in machines] == [0, 0]
    path = tmp_path / "verdicts.jsonl"
    keys = [json.loads(line)["key"] for line in path.read_text().splitlines()]
    expected = {f"{name}-{i}{part}" for name in ("one", "two") for i in range(60) for part in ("", "-b")}
    assert sorted(keys) == sorted(expected | {f"all-{i}" for i in range(60)})
    assert not list(journal_damage(path))
    assert Journal(path, JudgeReply, column="reply").rows().keys() == set(keys)


def test_one_is_killed_at_any_time_and_the_other_goes_on(tmp_path: Path) -> None:
    rng = random.Random(0)
    for turn in range(5):
        folder = tmp_path / str(turn)
        folder.mkdir()
        dies, stays = (machine(name, folder, APPENDS, count) for name, count in (("one", "5000"), ("two", "60")))
        go([dies, stays])
        time.sleep(rng.uniform(0.05, 0.5))
        os.kill(dies.pid, signal.SIGKILL)
        reported = dies.communicate(timeout=30)[0].count("\n")
        assert stays.communicate(timeout=120)[0].count("\n") == 60
        rows = Journal(folder / "verdicts.jsonl", JudgeReply, column="reply").rows()
        expected = {f"one-{i}" for i in range(reported)} | {f"two-{i}" for i in range(60)}
        assert expected <= rows.keys()  # what append has returned from is there


def test_two_machines_run_a_plan_once(tmp_path: Path) -> None:
    machines = [machine(name, tmp_path, RUNS) for name in ("one", "two", "three")]
    go(machines)
    ran = [int(m.communicate(timeout=120)[0]) for m in machines]
    assert [m.returncode for m in machines] == [0, 0, 0]
    assert sum(ran) == 12
    log = (tmp_path / "ran.log").read_text().splitlines()
    assert len(log) == len(set(log)) == 12
    assert not list(find_damage(Store(tmp_path)))
