"""Trainings as runs of trackers."""

from pathlib import Path
from typing import Any

from harness.recipe.trl_loss import TrlLoss
from harness.rewards.trained import Trained
from harness.trackers.tracked import TrackedRun, tracking
from harness.training.trl.dpo import train_with_trl
from harness.training.trl.sft import fine_tune
from harness.types import Message, PreferencePair
from tests.training.models import examples
from tests.training.runs import LENGTHS, LORA, Training, policy_of, train

KEY = "0123456789abcdef" * 4


def tracked(logs: Path, *trackers: str, row: str = "multi-dpo", key: str = KEY, kind: str = "train") -> TrackedRun:
    config = {"loss": {"name": "mdpo_linear", "beta": 0.1}, "training": {"lora": {"r": 4}, "modules": ["q", "k"]}}
    return TrackedRun(
        trackers=trackers, key=key, group="tiny", row=row, kind=kind, tags=("N=4",), config=config, logs=logs
    )


def train_each(model: Path, folder: Path, *trackers: str) -> dict[str, TrackedRun]:
    """One training of each kind, of two steps, by name."""
    kinds = {"ranked": "train", "trl": "train", "sft": "sft", "reward": "reward"}
    runs = {
        name: tracked(folder / "logs", *trackers, row=name, key=KEY.replace("0", str(i)), kind=kind)
        for i, (name, kind) in enumerate(kinds.items())
    }
    common: dict[str, Any] = {"seed": 3, "micro_batch_size": 2, "advance": lambda _n: None}
    training = Training.model_validate({"batch_size": 4, "lora": LORA, **LENGTHS})
    for name in ("trl", "sft", "reward"):
        (folder / name).mkdir()
    with tracking(runs["ranked"]):
        train(model, examples(8), folder / "ranked")
    with tracking(runs["trl"]):
        loss = TrlLoss.model_validate({"name": "sigmoid"})
        train_with_trl(policy_of(model), examples(8), loss, training, folder=folder / "trl", **common)
    with tracking(runs["sft"]):
        fine_tune(policy_of(model), examples(8), training, folder=folder / "sft", **common)
    with tracking(runs["reward"]):
        reward = Trained(name="trained", base=str(model), dtype="float32", epochs=1, batch_size=4)
        asked = (Message(role="user", content="Yes?"),)
        pairs = [
            PreferencePair(id=str(i), source="ours", messages=asked, chosen="yes", rejected="no" * i)
            for i in range(1, 9)
        ]
        reward.fit(pairs, folder / "reward", seed=3, advance=lambda _n: None)
    return runs
