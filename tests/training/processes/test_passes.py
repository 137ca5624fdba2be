"""Passes over rows in several processes: the results are those of one, and killed processes leave whole batches."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness.augmentation.scorer import Scorer
from harness.components import build
from harness.errors import ModelError
from harness.recipe.launch import Accelerate, Launch
from harness.training.checkpoint import Weights
from harness.training.passes import LogpPass, log_probabilities
from harness.types import Message, Messages
from tests.augmentation.test_admission import saved
from tests.training.models import examples
from tests.training.runs import LENGTHS, train

ROOT = Path(__file__).parents[3]
TWO = Launch(accelerate=Accelerate(num_processes=2))
THREE = Launch(accelerate=Accelerate(num_processes=3))


def rows(prompts: int, responses: int = 3) -> tuple[tuple[Messages, str], ...]:
    return tuple(
        ((Message(role="user", content=f"question {i} " * (1 + i % 4)),), f"answer {j} " * (1 + (i + j) % 5))
        for i in range(prompts)
        for j in range(responses)
    )


def logp_pass(model: Path, count: int, **weights: Any) -> LogpPass:
    return LogpPass(
        rows=rows(count),
        weights=Weights(model=str(model), revision=None, dtype="float32", **weights),
        tokenizer=(str(model), None),
        **LENGTHS,
        batch_size=6,
    )


@pytest.mark.slow
@pytest.mark.usefixtures("together")
@pytest.mark.parametrize(("launch", "count"), [(TWO, 13), (THREE, 5)])
def test_log_probabilities_are_those_of_one_process(
    launch: Launch, count: int, tiny_model: Path, tmp_path: Path
) -> None:
    """To the last digit; two processes have uneven shares, and the third of three has none."""
    work, progress = logp_pass(tiny_model, count), list[int]()
    alone = log_probabilities(work, None, tmp_path / "one", lambda _n: None)
    together = log_probabilities(work, launch, tmp_path / "several", progress.append)
    assert together == alone
    assert len({row.logp for row in alone}) > count
    assert sum(progress) == len(work.rows)
    assert len(progress) > 1


@pytest.mark.slow
@pytest.mark.usefixtures("together")
def test_an_adapter_is_loaded_by_each(tiny_model: Path, tmp_path: Path) -> None:
    train(tiny_model, examples(4), tmp_path / "trained")
    work = logp_pass(tiny_model, 6, adapter=tmp_path / "trained" / "checkpoint")
    alone = log_probabilities(work, None, tmp_path / "one", lambda _n: None)
    assert log_probabilities(work, TWO, tmp_path / "two", lambda _n: None) == alone
    assert alone != log_probabilities(logp_pass(tiny_model, 6), None, tmp_path, lambda _n: None)


def test_one_batch_needs_no_processes(tiny_model: Path, tmp_path: Path) -> None:
    work = logp_pass(tiny_model, 2)
    assert len(log_probabilities(work, TWO, tmp_path / "two", lambda _n: None)) == 6
    assert not (tmp_path / "two").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("launchable")
def test_an_error_is_the_processes_own(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no-such"):
        log_probabilities(logp_pass(tmp_path / "no-such", 6), TWO, tmp_path / "two", lambda _n: None)


def rewards(kind: str, tiny_model: Path, folder: Path) -> Any:
    if kind == "implicit":
        train(tiny_model, examples(4), folder / "trained")
        return build(
            "reward",
            {
                "name": kind,
                "policy": str(folder / "trained" / "checkpoint"),
                "reference": str(tiny_model),
                "dtype": "float32",
                "batch_size": 4,
            },
        )
    model = saved("llama", folder / "rm", tiny_model)
    return build("reward", {"name": kind, "model": str(model), "dtype": "float32", "batch_size": 4})


def scorer(reward: Any, folder: Path, launch: Launch | None, advance: Any = lambda _n: None) -> Scorer:
    journals = folder / "journals"
    return Scorer(reward, folder, key="k" * 64, journals=journals, advance=advance, launch=launch)


@pytest.mark.slow
@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("kind", ["sequence_classifier", "implicit"])
def test_reward_scores_are_those_of_one_process(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    reward, progress = rewards(kind, tiny_model, tmp_path), list[int]()
    alone = scorer(reward, tmp_path / "one", None)(rows(11))
    assert scorer(reward, tmp_path / "two", TWO, progress.append)(rows(11)) == alone
    assert None not in alone
    assert sum(progress) == 33
    assert scorer(reward, tmp_path / "two", TWO, lambda n: progress.append(-n))(rows(11)) == alone, "from the journal"
    assert sum(progress) == 0


SCRIPT = """
import sys, time
from pathlib import Path
import torch
from harness.components import build
from harness.training.checkpoint import Weights
from tests.training.processes.test_passes import TWO, rows, scorer
torch.set_num_threads(1)
reward = build("reward", {"name": "sequence_classifier", "model": sys.argv[1], "dtype": "float32", "batch_size": 2})
scorer(reward, Path(sys.argv[2]), TWO)(rows(400))
"""


def processes_of(folder: Path) -> list[int]:
    """Live processes of a pass, by its folder in their command lines."""
    ids = []
    for entry in Path("/proc").iterdir():
        try:
            running = entry.name.isdigit() and (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
            if running and str(folder) in (entry / "cmdline").read_text():
                ids.append(int(entry.name))
        except OSError:
            continue
    return ids


@pytest.mark.slow
@pytest.mark.usefixtures("together")
def test_killed_it_leaves_whole_batches_and_no_process(tiny_model: Path, tmp_path: Path) -> None:
    model = saved("llama", tmp_path / "rm", tiny_model)
    folder = tmp_path / "killed"
    journal = folder / "journals" / "scores" / f"scores-{'k' * 16}.jsonl"
    parent = subprocess.Popen([sys.executable, "-c", SCRIPT, str(model), str(folder)], cwd=ROOT)
    deadline = time.monotonic() + 120
    while not (journal.exists() and journal.read_bytes().count(b"\n") > 4) and time.monotonic() < deadline:
        assert parent.poll() is None
        time.sleep(0.01)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 20
    while processes_of(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not processes_of(folder)
    kept = journal.read_bytes().count(b"\n")
    assert 4 < kept < 1200, "killed before its end"
    reward = build("reward", {"name": "sequence_classifier", "model": str(model), "dtype": "float32", "batch_size": 2})
    counted: list[int] = []
    again = scorer(reward, folder, TWO, counted.append)(rows(400))
    assert counted[0] >= kept - kept % 2
    assert again == scorer(reward, tmp_path / "whole", None)(rows(400))
