"""A stage's shards on two nodes of a cluster: both work, and what a lost node has not finished the other one does."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.engine.cluster.execute import execute_on_ray
from harness.engine.journal_line import journal_damage
from harness.engine.resources import Resources
from harness.engine.store import Artifact, Store
from harness.errors import HarnessError
from harness.servers.spending import Spending
from tests.cluster import TwoNodes, two_nodes
from tests.perf.sides.responses import Quiet, logged, run, stages

pytestmark = pytest.mark.slow
PROMPTS, N = 40, 2


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNodes]:
    with two_nodes(tmp_path_factory.mktemp("cluster")) as running:
        yield running


def on_ray(nodes: TwoNodes, folder: Path, delay: float, view: Quiet, **resources: Any) -> Artifact:
    plan, store = stages(folder, PROMPTS, N, delay), Store(folder / "store")
    given = {"responses": Resources(**resources)} if resources else {}
    done = execute_on_ray(SimpleNamespace(stages=plan), store, view, Spending(), nodes.address, given)
    return done.artifacts[plan[-1].key]


def assert_same(folder: Path, artifact: Artifact, expected: Artifact) -> None:
    """As in one process, and nothing is stored twice."""
    assert artifact.record.key == expected.record.key
    assert artifact.path("responses.jsonl").read_bytes() == expected.path("responses.jsonl").read_bytes()
    assert artifact.report == expected.report
    paths = sorted((folder / "store" / "journals" / "samples").glob("*.jsonl"))
    assert len(paths) > 2
    assert not [damage for path in paths for damage in journal_damage(path)]
    assert sum(path.read_bytes().count(b"\n") for path in paths) == PROMPTS * N


class KillsANode(Quiet):
    """Kills a node when a third of the samples are there."""

    def __init__(self, nodes: TwoNodes) -> None:
        self._nodes, self._left = nodes, PROMPTS * N // 3

    def advance(self, items: int) -> None:
        before, self._left = self._left, self._left - items
        if self._left <= 0 < before:
            self._nodes.kill_second_node()


def test_one_stage_uses_both_nodes_and_loses_nothing_with_one(nodes: TwoNodes, tmp_path: Path) -> None:
    expected = run(tmp_path / "here", PROMPTS, N)
    both = on_ray(nodes, tmp_path / "both", 0.3, Quiet())
    assert_same(tmp_path / "both", both, expected)
    written = Counter(node for node, _, _ in logged(tmp_path / "both"))
    assert len(written) == 2, written
    with pytest.raises(HarnessError, match=r"runtime.resources.responses: no node has 3 CPUs"):
        on_ray(nodes, tmp_path / "large", 0.0, Quiet(), cpus=3)
    killed = on_ray(nodes, tmp_path / "killed", 0.3, KillsANode(nodes), workers=2)
    assert_same(tmp_path / "killed", killed, expected)
    # In process, what the nodes have stored is found.
    assert_same(tmp_path / "both", run(tmp_path / "both", PROMPTS, N), expected)
    more = run(tmp_path / "both", PROMPTS, N + 1)
    assert more.report["sampled"] == PROMPTS * (N + 1)
    assert len(list(logged(tmp_path / "both"))) == PROMPTS * (N + 1)
