"""The vLLM generator, against a stand-in with the documented interface of `vllm.LLMEngine` and `SamplingParams`."""

import importlib.machinery
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

from harness.components import build
from harness.errors import ModelError
from harness.generators import vllm as module
from harness.models import chat
from harness.models.load import load_tokenizer
from harness.protocols import Sampled, SampleRequest
from harness.types import Message, Sampling

CHAT = (Message(role="user", content="u <|im_end|> v"),)


class SamplingParams:
    def __init__(self, **options: Any) -> None:
        self.options = options


class LLMEngine:
    """Ends a request after as many steps as its seed says, four at a time. It writes a few ids of the prompt, and the
    first that ends a turn."""

    made: ClassVar[list[dict[str, Any]]] = []
    last: ClassVar["LLMEngine"]

    @classmethod
    def from_engine_args(cls, options: dict[str, Any]) -> "LLMEngine":
        cls.made.append(options)
        cls.last = cls()
        return cls.last

    def __init__(self) -> None:
        self.waiting: dict[str, tuple[list[int], dict[str, Any]]] = {}
        self.left: dict[str, int] = {}
        self.asked: list[tuple[list[int], dict[str, Any]]] = []
        self.most = 0

    def add_request(self, request_id: str, prompt: dict[str, list[int]], params: SamplingParams) -> None:
        assert request_id not in self.waiting
        self.waiting[request_id] = prompt["prompt_token_ids"], params.options
        self.asked.append(self.waiting[request_id])
        self.most = max(self.most, len(self.waiting))
        self.left[request_id] = 1 + params.options["seed"] % 5

    def step(self) -> list[Any]:
        outputs = []
        for name in [*self.left][:4]:
            self.left[name] -= 1
            ids, options = self.waiting[name]
            written = [*ids[-3:], options["stop_token_ids"][0]]
            done = self.left[name] == 0
            if done:
                del self.left[name], self.waiting[name]
            outputs.append(
                SimpleNamespace(request_id=name, finished=done, outputs=[SimpleNamespace(token_ids=written)])
            )
        return outputs


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, params = ModuleType("vllm"), ModuleType("vllm.sampling_params")
    fake.__spec__ = importlib.machinery.ModuleSpec("vllm", None)
    fake.LLMEngine, fake.SamplingParams, fake.EngineArgs = LLMEngine, SamplingParams, dict  # type: ignore[attr-defined]
    params.RequestOutputKind = SimpleNamespace(FINAL_ONLY=2)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", fake)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", params)


def sampled(made: Any, requests: list[SampleRequest]) -> list[list[Sampled]]:
    batches: list[list[Sampled]] = []
    made.generate(requests, seed=0, arrived=batches.append)
    return batches


def test_it_reads_and_writes_our_tokens(vllm: None, tiny_model: Path) -> None:
    made = build("generator", {"name": "vllm", "model": str(tiny_model), "window": 200})
    tokenizer = load_tokenizer(str(tiny_model))
    text = Sampling(stop=("y",), max_new_tokens=9)
    requests = [SampleRequest(CHAT, Sampling(), (0, 1)), SampleRequest("xyz", text, (1,))]
    rows = {(r.request, r.sample): r.completion for batch in sampled(made, requests) for r in batch}
    assert set(rows) == {(0, 0), (0, 1), (1, 1)}
    ids = chat.encode_prompt(tokenizer, CHAT)
    asked = {(tuple(prompt), options["seed"]): options for prompt, options in LLMEngine.last.asked}
    assert Counter(prompt for prompt, _ in asked) == {tuple(ids): 2, tuple(tokenizer.encode("xyz")): 1}
    assert len({seed for _, seed in asked}) == 3
    assert rows[0, 0].text == tokenizer.decode(ids[-3:], skip_special_tokens=True)
    assert (rows[0, 0].tokens, rows[0, 0].finish_reason) == (4, "stop")
    assert rows[1, 1].text == "x", "it ends before the text that stops it"
    (stopped,) = (options for options in asked.values() if options["stop"])
    assert (stopped["stop"], stopped["max_tokens"], stopped["detokenize"]) == (["y"], 9, True)
    assert LLMEngine.made[-1]["trust_remote_code"] is False
    assert LLMEngine.made[-1]["max_model_len"] == 200


def test_samples_arrive_as_they_finish_and_the_queue_stays_full(
    vllm: None, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUED", 6)
    made = build("generator", {"name": "vllm", "model": str(tiny_model)})
    requests = [SampleRequest(f"text {i}", Sampling(), (0, 1)) for i in range(20)]
    batches = sampled(made, requests)
    assert len(batches) > 10
    assert max(map(len, batches)) <= 4
    assert LLMEngine.last.most == 6
    assert len({(r.request, r.sample) for batch in batches for r in batch}) == 40
    seeds = {tuple(prompt): options["seed"] for prompt, options in LLMEngine.last.asked if options}
    sampled(made, [SampleRequest("text 7", Sampling(), (1,))])
    ((prompt, options),) = LLMEngine.last.asked
    assert options["seed"] == seeds[tuple(prompt)], "whatever else is asked"


def test_a_prompt_that_fills_the_window_is_not_asked(vllm: None, tiny_model: Path) -> None:
    made = build("generator", {"name": "vllm", "model": str(tiny_model), "window": 16})
    ((row,),) = sampled(made, [SampleRequest("x" * 16, Sampling(), (0,))])
    assert (row.completion.text, row.completion.finish_reason) == ("", "length")
    assert LLMEngine.last.asked == []


def test_without_vllm_it_says_what_to_do(tiny_model: Path) -> None:
    if "vllm" in sys.modules:
        pytest.skip("vllm is installed")
    with pytest.raises(ModelError, match=r"needs the package vllm .* use {name: openai"):
        build("generator", {"name": "vllm", "model": str(tiny_model)}).check()
