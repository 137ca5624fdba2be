"""The pool of samples: killed and resumed it is the same, and nothing is written twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.augmentation.pool import Pool
from harness.errors import ModelError
from harness.protocols import Arrived, Generator, Sampled, SampleRequest
from harness.types import Completion, Message, Sampling
from tests.fake_server import FakeServer, completion

ROOT = Path(__file__).parents[2]
SAMPLING = Sampling(temperature=1.0, max_new_tokens=12)
PROMPTS = [(Message(role="user", content=f"question {i} " + "and so on " * (i % 7)),) for i in range(24)]


class Writer(Generator):
    """Counts requests. Leaves out the first `lose` samples, and hands over the first `repeat` twice."""

    name: str = "writer"
    lose: int = 0
    repeat: int = 0

    def generate(self, requests: Sequence[SampleRequest], *, seed: int, arrived: Arrived) -> None:
        places = [(i, k) for i, request in enumerate(requests) for k in request.samples]
        asked.extend(places)
        rows = [Sampled(i, k, Completion(text=f"{k}", finish_reason="stop", tokens=1)) for i, k in places]
        arrived(rows[self.lose :])
        arrived(rows[: self.repeat])


asked: list[Any] = []


def sample(generator: Any, folder: Path, samples: range, seed: int = 0) -> list[list[Completion]]:
    return Pool(generator, folder, seed=seed, advance=lambda _: None).sample(PROMPTS, SAMPLING, samples)


def test_the_pool_grows(tmp_path: Path) -> None:
    asked.clear()
    two = sample(Writer(), tmp_path, range(2))
    assert len(asked) == 48
    four = sample(Writer(), tmp_path, range(4))
    assert len(asked) == 96
    assert [row[:2] for row in four] == two
    assert sample(Writer(), tmp_path, range(2)) == two
    assert len(asked) == 96
    sample(Writer(), tmp_path, range(1), seed=1)
    assert len(asked) == 120


@pytest.mark.parametrize(
    ("fault", "message"), [("lose", "has left out 3 samples"), ("repeat", "given 3 samples twice")]
)
def test_a_generator_that_loses_or_repeats_is_an_error(fault: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        sample(Writer(**{fault: 3}), tmp_path, range(2))


SCRIPT = """
import os, signal, sys, time
from pathlib import Path
import torch, transformers
from harness.components import build
from harness.augmentation.pool import Pool
from tests.augmentation.test_pool import PROMPTS, SAMPLING
generator = build("generator", eval(sys.argv[2]))
for delay in map(float, sys.argv[3:]):
    pid = os.fork()
    if not pid:
        pool = Pool(generator, Path(sys.argv[1]), seed=0, advance=lambda n: time.sleep(0.01))
        pool.sample(PROMPTS, SAMPLING, range(3))
        os._exit(0)
    if delay >= 0:
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def run(folder: Path, fields: dict[str, Any], *delays: float) -> list[int]:
    """Samples in processes one after the other, each killed so many seconds after it began (-1: left to finish);
    returns their exit codes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(folder), repr(fields), *map(str, delays)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=300)
    return [int(line) for line in done.stdout.split()]


def rows(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert max(Counter(line["key"] for line in lines).values()) == 1
    return {line["key"]: line["sample"] for line in lines}


@pytest.mark.soak
@pytest.mark.slow
def test_killed_at_twenty_points_the_pool_in_process_is_the_same(tmp_path: Path, tiny_model: Path) -> None:
    fields = {"name": "hf", "model": str(tiny_model), "dtype": "float32", "batch_size": 6}
    start = time.monotonic()
    assert run(tmp_path / "whole", fields, -1) == [0]
    seconds = time.monotonic() - start
    assert run(tmp_path / "again", fields, -1) == [0]
    whole = rows(tmp_path / "whole")
    assert len(whole) == 72
    rng = random.Random(0)
    codes = run(tmp_path / "cut", fields, *(rng.uniform(0, min(seconds, 1.5)) for _ in range(20)), -1)
    assert codes.count(-signal.SIGKILL) >= 5  # the later ones find everything finished
    assert codes[-1] == 0
    assert rows(tmp_path / "cut") == whole
    (one,), (other,) = (tuple((tmp_path / name).glob("*.jsonl")) for name in ("whole", "cut"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.soak
def test_killed_at_twenty_points_no_finished_sample_is_asked_of_a_server_twice(tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> Any:
        return completion(f"{body['messages'][-1]['content'][:12]} {body['seed']}")

    with FakeServer(answer, delay=0.05).running() as server:
        fields = {"name": "openai", "model": "m", "base_url": server.url, "concurrency": 4}
        assert run(tmp_path / "whole", fields, -1) == [0]
        whole = rows(tmp_path / "whole")
        before = len(server.requests)
        rng = random.Random(1)
        for _ in range(4):
            finished = rows(tmp_path / "cut") if list((tmp_path / "cut").glob("*.jsonl")) else {}
            at = len(server.requests)
            run(tmp_path / "cut", fields, *(rng.uniform(0.1, 0.5) for _ in range(5)))
            texts = {sample["text"] for sample in finished.values()}
            new = [f"{b['messages'][-1]['content'][:12]} {b['seed']}" for b in server.requests[at:]]
            assert not texts & set(new)
        assert run(tmp_path / "cut", fields, -1) == [0]
        # Requests under way when the process was killed are sent again: at most 4 per kill.
        assert len(server.requests) - before <= 72 + 20 * 4
    assert rows(tmp_path / "cut") == whole
