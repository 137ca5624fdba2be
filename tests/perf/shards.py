"""Responses to a million prompts, killed and run again, and to some on two nodes: `python -m tests.perf.shards`.

First, 4 responses to each of a million prompts, by a stub that writes them at once, in a process that is killed
(SIGKILL) when half of them are stored, and then run again. Then, for 64 prompts, a stub that waits for a second a
prompt, on a local Ray cluster of two nodes with one processor each: with one worker, with two, and with two of which
one's node is killed in the middle.

The last line is one JSON object: `peak_mib_per_million` (MiB above the start of the process, at its peak, in the run
that isn't killed; per million prompts), `rows_lost` (prompts whose responses are missing, or not in the order of the
prompts), `rows_twice` (samples that are stored twice), `samples_redone` (that were written again after the kill; a
shard has at most `samples_a_shard`), `samples_a_second`, and of the two nodes `two_node_speedup`, `lost_on_two_nodes`
and `twice_on_two_nodes`. `--small`: 10,000 prompts, 16 on the nodes with a fifth of a second each.
"""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from harness.engine.cluster.execute import execute_on_ray
from harness.engine.resources import Resources
from harness.engine.shards.partition import LARGEST
from harness.engine.store import Artifact, Store
from harness.servers.spending import Spending
from harness.types import ResponseGroup
from tests.cluster import TwoNodes, two_nodes
from tests.perf._shared import ROOT, options, report
from tests.perf.sides.responses import Quiet, logged, pair, stages

N = 4
Figures = dict[str, float]


class Size(NamedTuple):
    """Prompts of the large stage; prompts on the nodes, and seconds for each of them."""

    prompts: int
    on_nodes: int
    delay: float


FULL, SMALL = Size(1_000_000, 64, 1.0), Size(10_000, 16, 0.2)


def started(folder: Path, prompts: int) -> "subprocess.Popen[str]":
    """The large stage, in a process of its own."""
    command = [sys.executable, "-m", "tests.perf.sides.responses", str(folder), str(prompts)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def stored(folder: Path) -> Iterator[bytes]:
    """The keys of all stored samples."""
    for path in sorted((folder / "store" / "journals" / "samples").glob("*.jsonl")):
        with path.open("rb") as file:
            for line in file:
                at = line.find(b'"key":"') + 7
                yield line[at : at + 16]


def written(folder: Path) -> int:
    """How many samples stubs have written so far: N for each line."""
    return N * sum(path.read_bytes().count(b"\n") for path in (folder / "log").glob("*.jsonl"))


def large(folder: Path, prompts: int) -> Figures:
    """The large stage, killed and run again."""
    first = started(folder, prompts)
    while written(folder) < N * prompts // 2:
        assert first.poll() is None, "the stage ended before it was killed"
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = started(folder, prompts)
    out, _ = second.communicate()
    assert second.returncode == 0
    figures = json.loads(out.splitlines()[-1])
    keys = np.fromiter((int(key, 16) for key in stored(folder)), dtype=np.uint64)
    return {
        "peak_mib_per_million": round((figures["peak"] - figures["before"]) / prompts * 1e6, 1),
        "peak_mib": round(figures["peak"] - figures["before"], 1),
        "rows_lost": prompts - figures["rows"] + figures["missing"],
        "rows_twice": len(keys) - len(np.unique(keys)),
        "samples_redone": written(folder) - N * prompts,
        "samples_a_shard": N * LARGEST,
        "samples_a_second": round(N * prompts / 2 / figures["seconds"]),
    }


class KillsANode(Quiet):
    """A view of a run: when so many samples have been written, a node is killed."""

    def __init__(self, nodes: TwoNodes, samples: int) -> None:
        self._nodes, self._left = nodes, samples

    def advance(self, items: int) -> None:
        before, self._left = self._left, self._left - items
        if self._left <= 0 < before:
            self._nodes.kill_second_node()


def on_nodes(nodes: TwoNodes, folder: Path, size: Size, workers: int, view: Quiet) -> Artifact:
    """The artifact of a stage on the cluster."""
    plan, store = stages(folder, size.on_nodes, N, size.delay), Store(folder / "store")
    resources = {"responses": Resources(workers=workers)}
    done = execute_on_ray(SimpleNamespace(stages=plan), store, view, Spending(), nodes.address, resources)
    return done.artifacts[plan[-1].key]


def counted(folder: Path, artifact: Artifact, prompts: int) -> tuple[int, int]:
    """(prompts without their responses, samples that are stored twice)"""
    rows = [row.id for row in artifact.stream("responses.jsonl", ResponseGroup) if len(row.responses) == N]
    wrong = sum(found != pair(i).id for i, found in enumerate(rows))
    return prompts - len(rows) + wrong, sum(count - 1 for count in Counter(stored(folder)).values())


def two(folder: Path, size: Size) -> Figures:
    """One stage on two nodes."""
    with two_nodes(folder / "home") as nodes:
        one = on_nodes(nodes, folder / "one", size, 1, Quiet())
        both = on_nodes(nodes, folder / "both", size, 2, Quiet())
        killed = on_nodes(nodes, folder / "killed", size, 2, KillsANode(nodes, N * size.on_nodes // 3))
    lost, twice = counted(folder / "killed", killed, size.on_nodes)
    return {
        "two_node_speedup": round(one.record.seconds / both.record.seconds, 2),
        "nodes_used": len({node for node, _, _ in logged(folder / "both")}),
        "lost_on_two_nodes": lost,
        "twice_on_two_nodes": twice,
    }


def main() -> None:
    parser = options(__doc__)
    size = SMALL if parser.parse_args().small else FULL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "large" / "log").mkdir(parents=True)
        figures: dict[str, Any] = large(folder / "large", size.prompts)
        print(json.dumps(figures), flush=True)
        report(figures | two(folder, size))


if __name__ == "__main__":
    main()
