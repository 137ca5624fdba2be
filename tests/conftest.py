"""Fixtures for the whole suite: no network, no telemetry, two threads, a cache folder of its own, and the same examples
from Hypothesis in every run."""

import gc
import itertools
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # nothing is compiled; bitsandbytes only prepares for it, for seconds
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # dozens of commands would compile the package anew
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a worker a core; their threads would only stand in each other's way

import pytest
from hypothesis import settings
from hypothesis.internal.conjecture import providers

from tests.stand_ins import record_processor
from tests.tiny import tiny_causal_lm

settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, deadline=None, print_blob=True)
# Reproducible unless `HYPOTHESIS_PROFILE=explore` asks for new examples in every run.
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
if settings.default.derandomize:
    # Hypothesis also draws constants from the modules that happen to be imported, and so from the order of the tests.
    providers._get_local_constants = lambda: providers._local_constants


def pytest_configure() -> None:
    """What the variable above has already done in this process."""
    sys.dont_write_bytecode = False


def pytest_collection_finish() -> None:
    """What imports and collection have made stays until the end: no collection of garbage looks at it again. Training
    collects garbage at its end, which would otherwise take a third of the time of its tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random Llama with a byte-level ChatML tokenizer."""
    return tiny_causal_lm(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture(scope="session")
def wordy_tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with word pieces, so that what it samples looks like (nonsensical) prompts, and with a window
    that judge prompts fit into."""
    seeds = (Path(__file__).parents[1] / "harness" / "assets" / "seeds.jsonl").read_text().splitlines()
    words = [text for line in seeds for text in json.loads(line).values()]
    return tiny_causal_lm(tmp_path_factory.mktemp("wordy-tiny-model"), window=8192, words=words)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data beside the project; tests that need it are skipped where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real data in {folder}, which is not part of the project")
    return folder


@pytest.fixture(scope="session")
def _caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """New folders."""
    parent = tmp_path_factory.mktemp("harness-homes")
    return (parent / str(i) for i in itertools.count())


@pytest.fixture(autouse=True)
def _own_cache(_caches: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder for each test, in which `dtype: auto` is float32 without a measurement."""
    monkeypatch.setenv("HARNESS_HOME", str(next(_caches)))
    record_processor(good=False)
