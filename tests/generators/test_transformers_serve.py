"""A real OpenAI-compatible server on this machine that the harness starts: `transformers serve`, as a generator."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.augmentation.pool import Pool
from harness.components import build
from harness.serving.engine import Engine, Named
from harness.serving.pool import pool_of, stop_all
from harness.types import Message, Sampling

PROMPTS = [(Message(role="user", content=text),) for text in ("Name three rivers.", "Say hi.", "What is two plus two?")]


@pytest.mark.soak
@pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="needs transformers[serving]")
def test_the_pool_has_the_shape_of_one_in_process(tmp_path: Path, tiny_model: Path) -> None:
    engine = Engine(name="transformers", model=str(tiny_model), python=Path(sys.executable), options={"device": "cpu"})
    made: list[Any] = [
        build("generator", {"name": "openai", "engine": Named("e", engine), "concurrency": 2}),
        build("generator", {"name": "hf", "model": str(tiny_model), "dtype": "float32"}),
    ]
    sampling = Sampling(temperature=0.8, max_new_tokens=12)
    try:
        pools = [
            Pool(generator, tmp_path / "pool", seed=0, advance=lambda _: None).sample(PROMPTS, sampling, range(2))
            for generator in made
        ]
        log = pool_of(engine).replicas[0].log.read_text()
    finally:
        stop_all()
    assert [[len(row) for row in pool] for pool in pools] == [[2, 2, 2], [2, 2, 2]]
    for completion in (c for pool in pools for row in pool for c in row):
        assert 0 < completion.tokens <= 12
        assert completion.finish_reason in ("stop", "length")
    assert "serve" in log
