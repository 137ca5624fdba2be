"""FastChat itself, and the benchmark with the official data."""

from pathlib import Path
from types import ModuleType

import pytest

from harness.benchmarks.mt_bench.benchmark import MtBench
from tests.benchmarks.mt_bench.helpers import benchmark


@pytest.fixture(scope="session")
def fastchat() -> ModuleType:
    """FastChat's own code; importing it takes several seconds."""
    from fastchat.llm_judge import common

    return common


@pytest.fixture
def official(shared_data: Path) -> MtBench:
    return benchmark(data_dir=str(shared_data / "mt_bench"))


@pytest.fixture
def two() -> MtBench:
    return benchmark(questions="builtin", limit=2)
