"""The kinds of stages: what all stages of one name have in common, and the order in which they run; and what a single
stage was made with."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class StageKind(NamedTuple):
    """Facts common to all stages of one name. `overhead`: fixed cost in seconds, measured on two cores with a model
    that has almost no weights. `uses_model`: it may run a model, and is given a GPU by default if the cluster has
    any. `leaf`: no row of a board depends on it. `title`: its name on a board; None if boards don't show it."""

    overhead: float = 0.05
    uses_model: bool = False
    leaf: bool = False
    title: str | None = None


STAGE_KINDS = {
    "seeds": StageKind(title="Seed pairs"),
    "prompts": StageKind(1.3, uses_model=True, title="New prompts"),
    "share": StageKind(title="New prompts used"),
    "responses": StageKind(0.1, uses_model=True, title="Responses"),
    "reward": StageKind(1.4, uses_model=True, title="Reward model"),
    "ranked": StageKind(0.1, uses_model=True, title="Ranked data"),
    "pairs": StageKind(title="Training data"),
    "replay": StageKind(title="Training data with earlier rounds"),
    "best_of_n": StageKind(uses_model=True, title="Reward against gold"),
    "agreement": StageKind(uses_model=True, title="Reward models compared"),
    "sft": StageKind(1.8, uses_model=True),
    "reference": StageKind(0.05, uses_model=True),
    "train": StageKind(1.8, uses_model=True),
    "heldout": StageKind(0.1, uses_model=True),
    "answers": StageKind(0.2, uses_model=True),
    "recorded_answers": StageKind(),
    "kl": StageKind(0.1, uses_model=True),
    "verdicts": StageKind(uses_model=True),
    "recorded_verdicts": StageKind(),
    "gold": StageKind(uses_model=True),
    "rewards": StageKind(uses_model=True),
    "report": StageKind(1.2, uses_model=True, leaf=True),
    "dataset": StageKind(leaf=True),
}
"""The kinds of stage by name, in the order in which they run as far as their inputs allow: an in-process judge is
loaded last."""


def phase(stage: str) -> int:
    """The position of a stage's kind in STAGE_KINDS; other kinds come last."""
    return list(STAGE_KINDS).index(stage) if stage in STAGE_KINDS else len(STAGE_KINDS)


_ABOUT = (
    "loss",
    "seeds",
    "sources",
    "generator",
    "reward",
    "judge",
    "benchmark",
    "questions",
    "policy",
    "model",
    "dtype",
)
"""The params that say what a stage is about, in the order in which they are shown."""


def about(params: Mapping[str, Any]) -> str:
    """What a stage was made with, in a few words: the names of its components and models."""
    parts = list(dict.fromkeys(text for field in _ABOUT if (text := _named(params.get(field)))))
    training = params.get("training")
    rate = training.get("learning_rate") if isinstance(training, dict) else None
    return ", ".join([*parts, *([f"learning rate {rate:g}"] if isinstance(rate, int | float) else [])])


def _named(value: Any) -> str:
    """The name of a component, section or model within params; empty where there is none."""
    match value:
        case str():
            return value.rstrip("/").rpartition("/")[2]  # of a folder, its name
        case list():
            return ", ".join(dict.fromkeys(filter(None, map(_named, value))))
        case {"generator": inner}:
            return _named(inner)
        case {"name": str(name), "model": str(model)}:
            return f"{name} {_named(model)}"
        case {"name": str() | list() as name} | {"model": str() as name}:
            return _named(name)
        case _:
            return ""
