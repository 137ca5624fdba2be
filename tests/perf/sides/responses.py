"""A stage of responses to any number of prompts, by a stub: `python -m tests.perf.sides.responses FOLDER PROMPTS` runs
it, and prints as its last line what the process has needed. Its store is in the folder.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from harness.engine.execute import execute
from harness.engine.stage import Context, Stage
from harness.engine.store import Artifact, Store, write_rows
from harness.protocols import Arrived, Generator, Sampled, SampleRequest
from harness.recipe.data import Data, ResponseGeneration
from harness.recipe.sizes import Sizes
from harness.stages.responses import responses_stage
from harness.types import Completion, Message, PreferencePair, ResponseGroup, prompt_id

AT_ONCE = 64
"""Prompts that the stub answers at a time."""
WORDS = "a stub's response of some hundred letters, which says nothing but is as long as many a short one is, "


class Stub(Generator):
    """Writes texts at once, or after `delay` seconds for each prompt, as one that waits for a server. Adds a line for
    each prompt to a file of its process in `log`: on which node, which samples."""

    is_served: ClassVar[bool] = True
    unkeyed: ClassVar[frozenset[str]] = frozenset({"log", "delay"})

    name: str = "stub"
    log: str
    delay: float = 0.0

    def generate(self, requests: Sequence[SampleRequest], *, seed: int, arrived: Arrived) -> None:
        node = _node()
        for start in range(0, len(requests), AT_ONCE if not self.delay else 1):
            part = requests[start : start + (AT_ONCE if not self.delay else 1)]
            time.sleep(self.delay * len(part))
            with (Path(self.log) / f"{os.getpid()}.jsonl").open("a") as file:
                file.writelines(f"{json.dumps([node, _text(r), list(r.samples)])}\n" for r in part)
            arrived([Sampled(start + i, k, _written(r, k)) for i, r in enumerate(part) for k in r.samples])


class Quiet:
    """Shows nothing of a run."""

    def start(self, what: str, total: int | None) -> None: ...
    def advance(self, items: int) -> None: ...
    def stage(self, stage: Stage, number: int, total: int) -> None: ...
    def done(self, stage: Stage, report: dict[str, Any], seconds: float) -> None: ...
    def waiting(self, stage: Stage) -> None: ...
    def part(self, stage: Stage, node: str) -> "Quiet":
        return self


def _node() -> str:
    if "ray" not in sys.modules:
        return ""
    import ray

    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""


def _text(request: SampleRequest) -> str:
    assert not isinstance(request.prompt, str)
    return request.prompt[-1].content


def _written(request: SampleRequest, sample: int) -> Completion:
    text = f"Response {sample} to {_text(request)}: {WORDS * 3}"
    return Completion(text=text, finish_reason="stop", tokens=80)


def pair(number: int) -> PreferencePair:
    """A seed pair."""
    messages = (
        Message(role="user", content=f"prompt number {number}, " + "in which somebody asks for something " * 4),
    )
    return PreferencePair(id=prompt_id(messages), messages=messages, chosen="yes", rejected="no", source="stub")


def stages(folder: Path, prompts: int, n: int = 4, delay: float = 0.0) -> list[Stage]:
    """Seeds and responses."""
    (folder / "log").mkdir(parents=True, exist_ok=True)
    config = ResponseGeneration.model_validate(
        {"generator": Stub(log=str(folder / "log"), delay=delay), "n": n, "seed_responses": False}
    )

    def body(ctx: Context) -> dict[str, Any]:
        write_rows(ctx.folder / "train.jsonl", map(pair, range(prompts)))
        write_rows(ctx.folder / "heldout.jsonl", [])
        return {"train": prompts, "heldout": 0}

    seeds = Stage("seeds", "seeds", 1, {"prompts": prompts, "seeds": [{"name": "stub"}]}, {}, body)
    return [seeds, responses_stage(config, seeds, None, 0, Sizes(Data.model_construct()))]


def run(folder: Path, prompts: int, n: int = 4) -> Artifact:
    """The artifact of responses, computed in this process."""
    plan = stages(folder, prompts, n)
    done = execute(SimpleNamespace(stages=plan), Store(folder / "store"), Quiet())
    return done.artifacts[plan[-1].key]


def logged(folder: Path) -> Iterator[tuple[str, str, int]]:
    """(node, prompt, sample) of all that stubs have written."""
    for path in (folder / "log").glob("*.jsonl"):
        for line in path.read_text().splitlines():
            node, text, samples = json.loads(line)
            yield from ((node, text, k) for k in samples)


def peak() -> float:
    """MiB that this process has needed at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(folder: Path, prompts: int) -> None:
    import datasets  # noqa: F401  what a run loads before its first stage
    import transformers  # noqa: F401

    before, began = peak(), time.monotonic()
    print("started", flush=True)
    artifact = run(folder, prompts)
    figures = {"before": before, "peak": peak(), "seconds": time.monotonic() - began}
    rows = artifact.stream("responses.jsonl", ResponseGroup)
    figures["missing"] = sum(
        row.id != pair(number).id or len({r.text for r in row.responses}) != 4 for number, row in enumerate(rows)
    )
    print(json.dumps(figures | {"rows": artifact.report["prompts"]}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
