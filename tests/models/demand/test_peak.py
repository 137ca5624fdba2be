"""The memory that a plan says a training takes is about what one takes in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.models.demand.devices import device
from harness.models.demand.training import Training
from tests.tiny import tiny_causal_lm

SCRIPT = """
import sys
from pathlib import Path
import torch
from tests.training.models import example
from tests.training.runs import LORA, train
torch.set_num_threads(1)
data = [example("q" * 300 + str(i), ("a" * 300, 1.0), ("b" * 300, 0.0), ("c" * 300, 2.0)) for i in range(4)]
train(
    Path(sys.argv[1]), data, Path(sys.argv[2]), micro=1, lora=LORA, batch_size=2, max_prompt_length=400,
    max_length=800)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap was measured")
def test_the_predicted_peak_is_about_the_measured_one(tmp_path: Path) -> None:
    model = tiny_causal_lm(tmp_path / "model", hidden=768)
    folder = tmp_path / "run"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(model), str(folder)]
    subprocess.run(command, env=environment, check=True, timeout=300, capture_output=True)
    lines = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    predicted = Training(str(model), 1, 4 * 310, dtype="float32", rank=4).memory(device())
    assert predicted is not None
    assert predicted / 1e9 == pytest.approx(max(line["peak_memory_gb"] for line in lines), rel=0.35)


ASKED = "from harness.training.ranked.metrics import peak_memory_gigabytes as peak\nprint(peak())"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's count is inherited on Linux")
def test_a_large_parent_is_not_counted() -> None:
    outer = (
        f"import subprocess, sys\nheld = bytearray(b'x') * (3 << 30)\nsubprocess.run([sys.executable, '-c', {ASKED!r}])"
    )
    done = subprocess.run([sys.executable, "-c", outer], capture_output=True, text=True, check=True, timeout=120)
    assert 0.05 < float(done.stdout) < 2
