"""The vLLM generator, against a stand-in with the documented interface of `vllm.LLM` and `SamplingParams`."""

import importlib.machinery
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

from harness.components import build
from harness.errors import ModelError
from harness.protocols import Sampled, SampleRequest
from harness.types import Message, Sampling


class SamplingParams:
    def __init__(self, *, n: int, temperature: float, top_p: float, max_tokens: int, stop: Any, seed: int) -> None:
        self.n, self.temperature, self.max_tokens, self.stop, self.seed = n, temperature, max_tokens, stop, seed


class LLM:
    """Keeps what it was made with."""

    made: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, model: str, **options: Any) -> None:
        self.made.append({"model": model, **options})

    def _run(self, prompts: list[Any], params: list[SamplingParams]) -> list[Any]:
        return [
            SimpleNamespace(outputs=[SimpleNamespace(text=f"{p!r} {s.seed}", token_ids=[1, 2], finish_reason="length")])
            for p, s in zip(prompts, params, strict=True)
        ]

    def generate(self, prompts: list[str], sampling_params: list[SamplingParams], *, use_tqdm: bool) -> list[Any]:
        assert all(isinstance(p, str) for p in prompts)
        return self._run(prompts, sampling_params)

    def chat(self, messages: list[Any], sampling_params: list[SamplingParams], *, use_tqdm: bool) -> list[Any]:
        assert all(m["role"] for p in messages for m in p)
        return self._run(messages, sampling_params)


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("vllm")
    module.__spec__ = importlib.machinery.ModuleSpec("vllm", None)
    module.LLM, module.SamplingParams = LLM, SamplingParams  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)


def test_samples_have_seeds_of_their_own(vllm: None, tiny_model: Path) -> None:
    made = build("generator", {"name": "vllm", "model": str(tiny_model)})
    chat = (Message(role="user", content="u"),)
    rows: list[Sampled] = []
    requests = [SampleRequest(chat, Sampling(), (0, 1)), SampleRequest("text", Sampling(), (1,))]
    made.generate(requests, seed=0, arrived=rows.extend)  # type: ignore[attr-defined]
    texts = {(r.request, r.sample): r.completion.text for r in rows}
    assert set(texts) == {(0, 0), (0, 1), (1, 1)}
    assert len(set(texts.values())) == 3
    again: list[Sampled] = []
    made.generate([SampleRequest(chat, Sampling(), (1,))], seed=0, arrived=again.extend)  # type: ignore[attr-defined]
    assert again[0].completion.text == texts[0, 1]
    assert LLM.made[0]["trust_remote_code"] is False


def test_without_vllm_it_says_what_to_do(tiny_model: Path) -> None:
    if "vllm" in sys.modules:
        pytest.skip("vllm is installed")
    with pytest.raises(ModelError, match=r"needs the package vllm .* use {name: openai"):
        build("generator", {"name": "vllm", "model": str(tiny_model)}).check()
