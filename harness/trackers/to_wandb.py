"""Weights & Biases: runs of the project WANDB_PROJECT, or `preference-harness`, grouped by recipe."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.trackers.tracked import TrackedRun

PROJECT = "preference-harness"
SETTINGS = {"silent": True, "console": "off", "init_timeout": 30.0, "finish_timeout": 60.0}
"""Nothing on the screen, and no long wait for a server; what the environment says comes first."""
STEP = "train/global_step"


class Wandb:
    """See `harness.trackers.curves.Backend`."""

    def open(self, run: TrackedRun, done: int) -> None:
        import wandb

        known = wandb.Settings.model_fields
        settings = {
            name: value
            for name, value in SETTINGS.items()
            if name in known and f"WANDB_{name.upper()}" not in os.environ
        }
        if "WANDB_DIR" not in os.environ:
            run.logs.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            dir=os.environ.get("WANDB_DIR", str(run.logs)),
            id=run.id,
            name=run.name[:128],
            group=run.group[:128],
            job_type=run.kind,
            tags=[tag[:64] for tag in run.tags],
            config=run.config,
            resume="allow",
            settings=wandb.Settings(**settings),
        )
        self._run.define_metric(STEP)
        self._run.define_metric("train/*", step_metric=STEP)

    def callback(self) -> Any:
        from transformers.integrations import WandbCallback

        class Opened(WandbCallback):  # type: ignore[misc]
            def setup(self, args: Any, state: Any, model: Any, **more: Any) -> None:
                self._initialized = True  # the run is open, and has its name, group and settings

        return Opened()

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))

    def summarise(self, run: TrackedRun, figures: Mapping[str, float], steps: Sequence[Mapping[str, Any]]) -> None:
        self.open(run, 0)
        folder = Path(self._run.dir).parent
        if self._run.offline:
            # `wandb sync` replaces a run by the last of its folders, so that one needs the curves too.
            for step in steps:
                values = {f"train/{name}": value for name, value in step.items() if name != "step"}
                self._run.log({**values, STEP: step["step"]})
        self._run.summary.update(dict(figures))
        offline = self._run.offline
        self.close(failed=False)
        if offline and steps:
            for older in folder.parent.glob(f"offline-run-*-{run.id}"):
                if older != folder:
                    (older / f"run-{run.id}.wandb.synced").touch()
