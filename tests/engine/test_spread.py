"""A stage's shards on two nodes of a cluster: both work, and what a lost node has not finished the other one does."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.engine.cluster.execute import execute_on_ray
from harness.engine.execute import execute
from harness.engine.journal_line import journal_damage
from harness.engine.resources import Resources
from harness.engine.stage import Context, Stage
from harness.engine.store import Artifact, Store
from harness.errors import HarnessError
from harness.pipeline.live.trackers import _within
from harness.pipeline.plan import make_plan
from harness.recipe.recipe import Recipe
from harness.servers.spending import Spending
from harness.trackers.curves import curves
from tests.cluster import TwoNodes, two_nodes
from tests.perf.sides.responses import Quiet, logged, run, stages
from tests.stages.spread import Echo
from tests.stages.spread import assert_same as assert_same_artifact
from tests.trackers.runs import tracked
from tests.trackers.test_tensorboard import curve

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


def recipe(model: Path) -> Recipe:
    policy = {"model": str(model), "dtype": "float32"}
    data = {
        "seeds": [{"name": "builtin"}],
        "holdout": 3,
        "train_limit": 5,
        "prompts": {"generator": Echo(), "count": 4, "min_words": 1, "languages": [], "max_attempts": 2},
        "responses": {"generator": Echo(), "n": 4},
        "reward": {"name": "length"},
        "report": False,
    }
    evaluation = {
        "judge": {"name": "reward_model", "reward": {"name": "length"}},
        "answers": {"max_new_tokens": 4},
        "benchmarks": [{"name": "alpaca_eval", "prompts": "builtin", "reference": "base", "limit": 8}],
    }
    methods = [{"id": "dpo", "loss": {"name": "dpo_best_worst"}}]
    given = {"name": "x", "policy": policy, "data": data, "methods": methods, "evaluation": evaluation}
    return Recipe.model_validate({**given, "runtime": {"score_batch_size": 1}})


SPREAD = ("prompts", "ranked", "reference", "answers/alpaca_eval/base")


def test_stages_on_two_nodes_leave_what_one_process_leaves(nodes: TwoNodes, tmp_path: Path, tiny_model: Path) -> None:
    """Those of the data, reference log-probabilities and answers, of a tiny model; in batches of one row each, in which
    a model rounds alike."""
    planned = {stage.id: stage for stage in make_plan(recipe(tiny_model)).stages}
    plan = [planned[name] for name in ("seeds", "reward", "prompts", "responses", *SPREAD[1:])]
    here = execute(SimpleNamespace(stages=plan), Store(tmp_path / "here"), Quiet())
    # Where several can run they do, each on a node. These wait for each other, and so have both.
    alone = [
        replace(s, exclusive=s.exclusive | {"all"}, spreads=s.spreads if s.id in SPREAD else "nothing") for s in plan
    ]
    there = execute_on_ray(
        SimpleNamespace(stages=alone), Store(tmp_path / "there"), Quiet(), Spending(), nodes.address, {}
    )
    for stage in plan:
        assert_same_artifact(here.artifacts[stage.key], there.artifacts[stage.key])
    names = [path.stem for path in (tmp_path / "there" / "journals").rglob("*-0*.jsonl")]
    assert {name.split("-")[0] for name in names} == {"samples", "scores"}  # those of shards


def draws(ctx: Context) -> dict[str, Any]:
    """A training's curve, of one point."""
    from transformers import TrainerControl, TrainerState, TrainingArguments

    with curves() as (callback,):
        arguments = TrainingArguments(str(ctx.folder / "out"), report_to="none", use_cpu=True)
        state, control = TrainerState(global_step=1), TrainerControl()
        callback.on_train_begin(arguments, state, control)
        callback.on_log(arguments, state, control, logs={"loss": 0.5})
    return {"told": os.environ.get("WANDB_PROJECT"), "key": os.environ.get("WANDB_API_KEY")}


def test_a_training_on_a_node_draws_its_curve(nodes: TwoNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.setenv("WANDB_PROJECT", "ours")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    run = tracked(tmp_path / "logs", "tensorboard")
    stage = Stage("train/x", "train", 1, {}, {}, _within(run, draws))
    there = execute_on_ray(
        SimpleNamespace(stages=[stage]), Store(tmp_path / "there"), Quiet(), Spending(), nodes.address, {}
    )
    assert there.artifacts[stage.key].report == {"told": "ours", "key": None}
    (folder,) = (tmp_path / "logs" / "tiny").iterdir()
    assert curve(folder, "train/loss") == [(1, 0.5)]


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
