"""A row of the board and its own stages."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from harness.engine.stage import Stage
from harness.recipe.arms import Arm
from harness.recipe.evaluation import System
from harness.recipe.training import Lora, Point
from harness.training.checkpoint import CHECKPOINT, folder_at


class Round(NamedTuple):
    """Which of how many (`of`) rounds of a training. `earlier`: the keys of the trainings of those before, and of their
    `responses`."""

    number: int
    of: int
    earlier: tuple[str, ...]
    responses: tuple[str, ...]

    @property
    def is_last(self) -> bool:
        return self.number == self.of


@dataclass(frozen=True)
class PlannedRow:
    """A row of the board and its own stages. `policy`: the training of its model; None for the untrained policy and for
    systems. `adapter`: what its checkpoint holds; None: a whole model. `heldout`: None without training data. `start`:
    id of the fine-tuned row that its training starts from; `sft`: that row's stage. `arm`: its training; `matched`: the
    training whose budget it gets. `point`: which checkpoint of its training it is; None: the last one. `round`: of a
    recipe with several; `data`: of a later round, the stages of its data by name. `system`: the files of a row from
    files. `answers`, `verdicts`, `gold`: by benchmark."""

    id: str
    method: str
    policy: Stage | None = None
    adapter: Lora | None = None
    heldout: Stage | None = None
    start: str | None = None
    sft: Stage | None = None
    arm: Arm | None = None
    matched: Arm | None = None
    point: Point | None = None
    round: Round | None = None
    data: Mapping[str, Stage] = field(default_factory=dict)
    system: System | None = None
    answers: Mapping[str, Stage] = field(default_factory=dict)
    verdicts: Mapping[str, Stage] = field(default_factory=dict)
    gold: Mapping[str, Stage] = field(default_factory=dict)
    rewards: Stage | None = None
    """Its answers, scored by a known truth and its proxy."""
    kl: Stage | None = None
    """Its divergence from the policy before its training, along its answers."""

    @property
    def stages(self) -> list[Stage]:
        """The stages of this row alone."""
        trained = [stage for stage in (self.policy, self.heldout) if stage]
        judged = [*self.answers.values(), *self.verdicts.values(), *self.gold.values()]
        return [*trained, *judged, *(stage for stage in (self.rewards, self.kl) if stage)]

    def checkpoint(self, artifact: Path) -> Path:
        """The folder of its deployed policy. `artifact`: that of its training."""
        return folder_at(artifact, self.point.name if self.point else None) / CHECKPOINT
