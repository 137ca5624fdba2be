"""TensorBoard: files in the store, `logs/RECIPE/ROW-KEY`, and the board's figures with the settings under HPARAMS."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.trackers.tracked import TrackedRun, flat, plain


def folder_of(run: TrackedRun) -> Path:
    """The run's folder; TensorBoard names the run by its path below `--logdir`."""
    return run.logs / plain(run.group) / run.name


class Tensorboard:
    """See `harness.trackers.curves.Backend`."""

    def open(self, run: TrackedRun, done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = folder_of(run)
        # Of an interrupted training, the steps that are about to be done again are drawn once.
        self._writer = SummaryWriter(str(folder), purge_step=done + 1 if folder.exists() else None)
        self._writer.add_text("config", f"```\n{json.dumps(run.config, indent=1, default=str)}\n```")

    def callback(self) -> Any:
        from transformers.integrations import TensorBoardCallback

        return TensorBoardCallback(self._writer)

    def close(self, failed: bool) -> None:
        self._writer.close()

    def summarise(self, run: TrackedRun, figures: Mapping[str, float], steps: Sequence[Mapping[str, Any]]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = folder_of(run) / "board"
        shutil.rmtree(folder, ignore_errors=True)  # the figures of an earlier board
        settings = {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in flat(run.config).items()}
        with SummaryWriter(str(folder)) as writer:
            writer.add_hparams(settings, dict(figures), run_name=".")
