"""Data stages on the built-in seed set, with a scripted generator and reward model."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from harness.engine.execute import execute
from harness.engine.stage import Stage
from harness.engine.store import Artifact, Store
from harness.pipeline.plan import make_plan
from harness.protocols import Arrived, Generator, Ready, RewardModel, Sampled, SampleRequest
from harness.recipe.recipe import Recipe
from harness.types import Completion, ResponseGroup


class Script(Generator):
    """Writes `text`: `{i}` is the place of the prompt in the call, `{k}` the number of the sample."""

    name: str = "script"
    text: str = "answer {k} of {i}"
    reason: str = "stop"

    def generate(self, requests: Sequence[SampleRequest], *, seed: int, arrived: Arrived) -> None:
        for i, request in enumerate(requests):
            for k in request.samples:
                text = Completion(text=self.text.format(i=i, k=k), finish_reason=self.reason, tokens=4)
                arrived([Sampled(i, k, text)])


class Shortest(RewardModel):
    """Prefers short texts; can't score those with '###' in them."""

    name: str = "shortest"

    def fit(self, pairs: Any, folder: Path, *, seed: int, advance: Any) -> dict[str, Any]:
        return {"pairs": len(pairs)}

    def score(self, rows: Sequence[tuple[Any, str]], ready: Ready) -> list[float | None]:
        return [None if "###" in text else -float(len(text)) for _, text in rows]


class Silent:
    """A reporter that shows nothing."""

    def start(self, what: str, total: int | None) -> None: ...
    def advance(self, items: int) -> None: ...
    def stage(self, stage: Stage, number: int, total: int) -> None: ...
    def done(self, stage: Stage, report: dict[str, Any], seconds: float) -> None: ...
    def waiting(self, stage: Stage) -> None: ...


SCRIPT = Script()


def recipe(generator: Generator | None = SCRIPT, prompts: dict[str, Any] | None = None, **responses: Any) -> Recipe:
    """Responses to 15 training and 5 held-out prompts, ranked by length."""
    data: dict[str, Any] = {
        "responses": {"generator": generator, "n": 4, **responses},
        "reward": Shortest(),
        "report": {"perplexity": False},
    }
    return _recipe(data | ({"prompts": prompts} if prompts else {}))


def own_pairs(**data: Any) -> Recipe:
    """A recipe that trains on the seed's own pairs."""
    return _recipe({"report": False, **data})


def _recipe(data: dict[str, Any]) -> Recipe:
    data = {"seeds": [{"name": "builtin", "limit": 20}], "holdout": 0.25, **data}
    methods = [{"id": "dpo", "loss": {"name": "dpo_best_worst"}}]
    return Recipe.model_validate({"name": "x", "policy": {"model": "a/b"}, "data": data, "methods": methods})


def run(recipe: Recipe, folder: Path) -> dict[str, Artifact]:
    """The artifacts of the data stages by name, with their store in `folder`."""
    plan = make_plan(recipe)
    stages = {name: stage for name, stage in plan.data.items() if not name.startswith("reference")}
    return dict(zip(stages, run_stages(list(stages.values()), folder), strict=True))


def run_stages(stages: Sequence[Stage], folder: Path) -> list[Artifact]:
    executed = execute(SimpleNamespace(stages=stages), Store(folder / "store"), Silent())
    return [executed.artifacts[stage.key] for stage in stages]


def groups(artifacts: dict[str, Artifact]) -> list[ResponseGroup]:
    return artifacts["responses"].rows("responses.jsonl", ResponseGroup)
