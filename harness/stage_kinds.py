"""The kinds of stages: what all stages of one name have in common, and the order in which they run."""

from typing import NamedTuple


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
