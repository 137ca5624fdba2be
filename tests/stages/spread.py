"""The workers of a stage without a cluster: each shard is done by what would be sent to another process."""

import pickle
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.engine.execute import StagePosition, run_stage
from harness.engine.shards.spool import Shard
from harness.engine.stage import Context, Stage, Work
from harness.engine.store import Artifact, Store
from harness.protocols import Arrived, Generator, Sampled, SampleRequest
from harness.servers.spending import Spending
from harness.types import Completion
from tests.stages.scripted import Silent


class Echo(Generator):
    """Writes words of the prompt, which they and the number of the sample decide."""

    name: str = "echo"

    def generate(self, requests: Sequence[SampleRequest], *, seed: int, arrived: Arrived) -> None:
        for i, request in enumerate(requests):
            parts = [request.prompt] if isinstance(request.prompt, str) else [m.content for m in request.prompt]
            words = " ".join(parts).split()
            for k in request.samples:
                drawn = random.Random(f"{k} {words}")
                text = " ".join(drawn.choices(words, k=drawn.randint(3, 9)))
                arrived([Sampled(i, k, Completion(text=text, finish_reason="stop", tokens=4))])


class Two:
    """A `harness.engine.stage.Workers` that counts the shards that it does."""

    count = 2

    def __init__(self) -> None:
        self.done: list[str] = []

    def do(self, ctx: Context, work: Work, shards: Sequence[Shard], *, more: bool) -> list[Any]:
        sent = pickle.loads(pickle.dumps(work))
        self.done += [shard.bits for shard in shards]
        return [sent(ctx.of(shard), shard) for shard in reversed(shards)][::-1]


def run_spread(stages: Sequence[Stage], folder: Path, workers: Two | None) -> list[Artifact]:
    """The artifacts of stages. `workers`: who does the shards of those that are spread; None: this process."""
    store, done, spending = Store(folder), dict[str, Artifact](), Spending()
    for number, stage in enumerate(stages, 1):
        inputs = {role: done[needed.key] for role, needed in stage.inputs.items()}
        given = None if stage.spreads == "nothing" else workers
        position = StagePosition(number, len(stages))
        done[stage.key], _ = run_stage(stage, inputs, store, Silent(), spending, position, given)
    return [done[stage.key] for stage in stages]


def assert_same(one: Artifact, other: Artifact) -> None:
    """The same bytes, and the same report."""
    names = sorted(path.name for path in one.folder.iterdir() if path.name != "artifact.json")
    assert names == sorted(path.name for path in other.folder.iterdir() if path.name != "artifact.json")
    for name in names:
        assert one.path(name).read_bytes() == other.path(name).read_bytes(), name
    assert one.report == other.report
