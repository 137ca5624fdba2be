"""A real OpenAI-compatible server on this machine, `transformers serve` with SmolLM2, as a generator."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from harness.augmentation.pool import Pool
from harness.components import build
from harness.models import load as models
from harness.types import Message, Sampling

MODEL = "smollm2-135m-instruct"
PROMPTS = [(Message(role="user", content=text),) for text in ("Name three rivers.", "Say hi.", "What is two plus two?")]


@pytest.mark.soak
def test_the_pool_is_the_same_length_and_shape_as_in_process(tmp_path: Path) -> None:
    folder = models.local_path(MODEL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "transformers"), "serve", folder]
    process = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"])
    try:
        for _ in range(240):
            if process.poll() is not None:
                pytest.fail(f"transformers serve ended with code {process.returncode}")
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.5)
        served = build(
            "generator",
            {"name": "openai", "model": folder, "base_url": f"http://127.0.0.1:{port}/v1", "concurrency": 2},
        )
        in_process = build("generator", {"name": "hf", "model": MODEL, "dtype": "float32"})
        sampling = Sampling(temperature=0.8, max_new_tokens=12)
        pools = [
            Pool(made, tmp_path, seed=0, advance=lambda _: None).sample(PROMPTS, sampling, range(2))
            for made in (served, in_process)
        ]
    finally:
        process.terminate()
        process.wait(timeout=30)
    shapes = [[len(row) for row in pool] for pool in pools]
    assert shapes == [[2, 2, 2], [2, 2, 2]]
    for pool in pools:
        for completion in (c for row in pool for c in row):
            assert completion.text.strip()
            assert 0 < completion.tokens <= 12
            assert completion.finish_reason in ("stop", "length")
    lines = [len(path.read_text().splitlines()) for path in tmp_path.glob("*.jsonl")]
    assert lines == [6, 6]
