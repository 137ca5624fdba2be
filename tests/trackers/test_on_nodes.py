"""Trainings on the nodes of a cluster draw where this process adds the final figures, with keys of their own."""

import logging

import pytest

from harness.trackers.tracked import about_nodes, settings


def test_nodes_are_told_where_runs_go_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sent = {"WANDB_PROJECT": "p", "MLFLOW_EXPERIMENT_NAME": "e", "TRACKIO_SPACE_ID": "o/s"}
    kept = {"WANDB_API_KEY": "k" * 40, "MLFLOW_TRACKING_TOKEN": "t" * 40, "WANDB_SERVICE": "2-1-tcp-0"}
    address = {"MLFLOW_TRACKING_URI": "https://me:password@tracking.test"}
    for name, value in {**sent, **kept, **address}.items():
        monkeypatch.setenv(name, value)
    with caplog.at_level(logging.WARNING, logger="harness"):
        found = settings()
    assert {name: found.get(name) for name in {**sent, **kept, **address}} == {
        **sent,
        **dict.fromkeys([*kept, *address]),
    }
    (line,) = caplog.messages
    assert "MLFLOW_TRACKING_URI" in line
    assert "password" not in line


def test_a_tracker_that_keeps_runs_on_each_machine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRACKIO_DIR", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    assert about_nodes(("tensorboard", "wandb", "mlflow")) is None
    assert "TRACKIO_DIR" in (about_nodes(("trackio",)) or "")
    monkeypatch.setenv("TRACKIO_DIR", "/shared/trackio")
    assert about_nodes(("trackio",)) is None
