"""Trackio: a project for each recipe, or TRACKIO_PROJECT, and its runs grouped by recipe, in Trackio's own folder."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from harness.trackers.tracked import TrackedRun, plain


class Trackio:
    """See `harness.trackers.curves.Backend`."""

    def open(self, run: TrackedRun, done: int) -> None:
        import trackio

        project = os.environ.get("TRACKIO_PROJECT") or plain(run.group)
        config = {**run.config, "kind": run.kind, "tags": list(run.tags)}
        trackio.init(project=project, name=run.name, group=run.group, config=config, resume="allow", embed=False)

    def callback(self) -> Any:
        from transformers.integrations import TrackioCallback

        class Opened(TrackioCallback):  # type: ignore[misc]
            def setup(self, args: Any, state: Any, model: Any, **more: Any) -> None:
                self._initialized = True  # the run is open, and has its name, group and settings

            def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
                """Nothing: whoever has opened the run closes it."""

        return Opened()

    def close(self, failed: bool) -> None:
        import trackio

        trackio.finish()

    def summarise(self, run: TrackedRun, figures: Mapping[str, float], steps: Sequence[Mapping[str, Any]]) -> None:
        import trackio

        self.open(run, 0)
        try:
            trackio.log(dict(figures))
        finally:
            self.close(failed=False)
