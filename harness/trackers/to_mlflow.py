"""MLflow: an experiment for each recipe (or MLFLOW_EXPERIMENT_NAME), at MLFLOW_TRACKING_URI or in the store's logs."""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from harness.children.start import in_environment
from harness.trackers.tracked import TrackedRun, flat

ID = "harness.id"
LONGEST = 500
"""Characters of a parameter: older servers take no more."""
BATCH = 100
"""Parameters in a request, of which MLflow takes no more."""
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""MLflow's own would hold a training up for minutes where its server is gone."""
OPENED = {"MLFLOW_RUN_ID": None, "MLFLOW_NESTED_RUN": None, "MLFLOW_MAX_LOG_PARAMS": "0"}
"""For transformers' callback: the run is open, and has its parameters."""


class Mlflow:
    """See `harness.trackers.curves.Backend`."""

    def open(self, run: TrackedRun, done: int) -> None:
        import mlflow

        stack = ExitStack()
        stack.enter_context(in_environment({**OPENED, **_patience()}))
        try:
            found, experiment = self._find(run)
            mlflow.start_run(
                run_id=found, experiment_id=experiment, run_name=run.name, tags=None if found else _tags(run)
            )
            if found is None:  # parameters can't be changed, and don't change
                parameters = [(name, str(value)[:LONGEST]) for name, value in flat(run.config).items()]
                for first in range(0, len(parameters), BATCH):
                    mlflow.log_params(dict(parameters[first : first + BATCH]))
        except BaseException:
            stack.close()
            raise
        self._stack = stack

    def _find(self, run: TrackedRun) -> tuple[str | None, str]:
        """(the run's id at MLflow, if it is there; that of its experiment)."""
        import mlflow

        local = None
        if "MLFLOW_TRACKING_URI" not in os.environ and not mlflow.is_tracking_uri_set():
            run.logs.mkdir(parents=True, exist_ok=True)
            mlflow.set_tracking_uri(f"sqlite:///{run.logs.resolve()}/mlflow.db")
            local = (run.logs / "mlflow").resolve().as_uri()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or run.group
        experiment = mlflow.get_experiment_by_name(name)
        if experiment is None:
            return None, str(mlflow.create_experiment(name, artifact_location=local))
        found = mlflow.search_runs(
            [experiment.experiment_id], f"tags.`{ID}` = '{run.id}'", max_results=1, output_format="list"
        )
        return (found[0].info.run_id if found else None), str(experiment.experiment_id)

    def callback(self) -> Any:
        from transformers.integrations import MLflowCallback

        return MLflowCallback()

    def close(self, failed: bool) -> None:
        import mlflow

        with self._stack:
            mlflow.end_run("FAILED" if failed else "FINISHED")

    def summarise(self, run: TrackedRun, figures: Mapping[str, float], steps: Sequence[Mapping[str, Any]]) -> None:
        import mlflow

        self.open(run, 0)
        try:
            mlflow.log_metrics(dict(figures))
        finally:
            self.close(failed=False)


def _patience() -> dict[str, str]:
    return {name: os.environ.get(name, value) for name, value in PATIENCE.items()}


def _tags(run: TrackedRun) -> dict[str, str]:
    return {ID: run.id, "recipe": run.group, "row": run.row, "kind": run.kind, "tags": ", ".join(run.tags)}
