"""A reward model that was trained on labels of a known truth, as a proxy of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from harness.components import RewardField, identity, ready_alone
from harness.errors import DataError, ModelError
from harness.protocols import Judge, Ready, RewardModel
from harness.types import Advance, Ask, Messages, PreferencePair


class Proxy(RewardModel):
    """`learner` (`trained`, `features`), trained on the seed's first `pairs` training pairs whose two answers `gold`
    scores differently, with the one that `gold` prefers as chosen. The fewer pairs, the worse it knows the truth
    (2210.10760). Pairs that `gold` can't tell apart are passed over, and counted; if too few are left, all are taken.
    """

    gold: RewardField
    """The reward model that says which answer of a pair is the better one."""
    learner: RewardField
    """The reward model that is trained: `trained` or `features`."""
    pairs: int = Field(ge=1)
    """The number of pairs that it is trained on."""

    @model_validator(mode="after")
    def _learns_from_what_is_known(self) -> "Proxy":
        if not self.learner.is_trained or self.learner.parts:
            raise ValueError(f"learner: '{self.learner.name}' learns nothing from pairs; expected trained or features")
        if _learns(self.gold):
            raise ValueError(f"gold: '{self.gold.name}' is trained itself; expected a reward that is known before")
        return self

    @property
    def groupwise(self) -> bool:
        return self.learner.groupwise

    @property
    def is_trained(self) -> bool:
        return True

    @property
    def training_passes(self) -> float:
        return self.learner.training_passes

    @property
    def batch_rows(self) -> int | None:
        return self.learner.batch_rows

    def identity(self) -> dict[str, Any]:
        parts = {"gold": identity(self.gold), "learner": identity(self.learner)}
        return {"name": self.name, "pairs": self.pairs, **parts}

    def fit(self, pairs: Sequence[PreferencePair], folder: Path, *, seed: int, advance: Advance) -> dict[str, Any]:
        rows = [(pair.messages, text) for pair in pairs for text in (pair.chosen, pair.rejected)]
        scores = self.gold.score(rows, ready_alone(self.gold, folder, _no_judge))
        labelled: list[PreferencePair] = []
        passed_over = as_the_seed = 0
        for pair, chosen, rejected in zip(pairs, scores[::2], scores[1::2], strict=True):
            if len(labelled) == self.pairs:
                break
            if chosen is None or rejected is None or chosen == rejected:
                passed_over += 1
                continue
            as_the_seed += chosen > rejected
            turned = {"chosen": pair.rejected, "rejected": pair.chosen, "responses": ()}
            labelled.append(pair if chosen > rejected else pair.model_copy(update=turned))
        if not labelled:
            raise DataError(f"reward 'proxy': gold can't tell the answers of any of {len(pairs)} seed pairs apart")
        report = self.learner.fit(labelled, folder, seed=seed, advance=advance)
        own = {"labelled_pairs": len(labelled), "wanted_pairs": self.pairs, "passed_over": passed_over}
        return {**own, "labelled_as_the_seed": as_the_seed, **report}

    def score(self, rows: Sequence[tuple[Messages, str]], ready: Ready) -> list[float | None]:
        return self.learner.score(rows, ready)


def _learns(reward: RewardModel) -> bool:
    return reward.is_trained or any(map(_learns, reward.parts))


def _no_judge(judge: Judge) -> Ask:
    raise ModelError("reward 'proxy': its gold reward asks a judge, which it can't; use a reward model")
