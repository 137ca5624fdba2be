"""A small benchmark with references of its own."""

from pathlib import Path

import pytest

from harness.benchmarks.alpaca_eval.benchmark import AlpacaEval
from tests.benchmarks.alpaca_eval.helpers import benchmark, prompts_file


@pytest.fixture
def three(tmp_path: Path) -> AlpacaEval:
    rows = [{"instruction": f"Do thing {i}.", "output": f"Reference {i}.", "generator": "g"} for i in range(3)]
    return benchmark(prompts=str(prompts_file(tmp_path, rows)), reference="file")
