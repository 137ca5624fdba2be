"""Thoughts while decoding: special tokens that mark them are kept, and a budget closes them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.models import load as models
from harness.models.batching import Job
from harness.models.decode import padded, slots
from harness.models.decoding import decode_all
from harness.models.templates.thoughts import parted
from harness.types import Completion, Sampling

THOUGHT = "<think>\nHm, let me see. "
WHOLE = f"{THOUGHT}\n</think>\n\nAn apple, of course."
END = "<|im_end|>"


@pytest.fixture(scope="module", params=["special", "added", "spelt"])
def tokenizer(request: pytest.FixtureRequest, tiny_model: Path) -> Any:
    """Markers as special tokens (Magistral), as added tokens (Qwen 3), and as plain text."""
    made = models.load_tokenizer(str(tiny_model))
    tags = ["<think>", "</think>"]
    if request.param == "special":
        made.add_special_tokens({"additional_special_tokens": tags})
    elif request.param == "added":
        made.add_tokens(tags)
    return made


class Script:
    """Draws one text, token by token, from where the row is; then goes on with dots."""

    def __init__(self, ids: list[int], dot: int) -> None:
        self.ids, self.dot, self.drawn = ids, dot, 0

    def __call__(self, _sampler: Any, logits: torch.Tensor) -> torch.Tensor:
        token = self.ids[self.drawn] if self.drawn < len(self.ids) else self.dot
        self.drawn += 1
        return torch.full((len(logits),), token)


@pytest.fixture(params=["slots", "padded"])
def in_slots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """And then batch by batch."""
    monkeypatch.setattr("harness.models.decoding.decodes_in_slots", lambda _: request.param == "slots")


def write(
    tokenizer: Any, tiny_model: Path, text: str, monkeypatch: pytest.MonkeyPatch, prompt: str = "x\n", **sampling: Any
) -> Completion:
    """What is written when the model would write `text`, and dots after it."""
    model = models.load_causal_lm(str(tiny_model), dtype="float32")
    model.resize_token_embeddings(len(tokenizer))
    script = Script(tokenizer.encode(text, add_special_tokens=False), tokenizer.encode(".")[0])
    for module in (slots, padded):
        monkeypatch.setattr(module.Sampler, "pick", lambda self, logits: script(self, logits))
    job = Job(tokenizer.encode(prompt, add_special_tokens=False), Sampling(temperature=0, **sampling))
    ((completion,),) = decode_all(model, tokenizer, [job], seed=0, batch_size=None, advance=lambda _: None)
    return completion


def tokens(tokenizer: Any, text: str) -> int:
    return len(tokenizer.encode(text, add_special_tokens=False))


@pytest.mark.usefixtures("in_slots")
def test_a_thought_keeps_its_markers(tokenizer: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = write(tokenizer, tiny_model, WHOLE + END, monkeypatch, max_new_tokens=200)
    assert (done.text, done.finish_reason, done.opened, done.closed) == (WHOLE, "stop", False, False)


@pytest.mark.usefixtures("in_slots")
def test_a_thought_within_its_budget_costs_the_answer_nothing(
    tokenizer: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer has all of its tokens, however long the thought was."""
    done = write(tokenizer, tiny_model, WHOLE, monkeypatch, max_new_tokens=30, max_thinking_tokens=100)
    assert (done.finish_reason, done.closed) == ("length", False)
    before, _, after = done.text.partition("</think>")
    assert f"{before}</think>" == f"{THOUGHT}\n</think>"
    assert tokens(tokenizer, after) == 30


@pytest.mark.usefixtures("in_slots")
def test_a_thought_that_goes_on_is_closed(tokenizer: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = write(tokenizer, tiny_model, THOUGHT, monkeypatch, max_new_tokens=12, max_thinking_tokens=60)
    thought, _, answer = done.text.partition("\n</think>\n\n")
    assert (done.closed, done.finish_reason) == (True, "length")
    assert thought.startswith(THOUGHT)
    assert tokens(tokenizer, thought) == 60
    assert answer == "." * 12
    assert parted(done.text).answer == answer


@pytest.mark.usefixtures("in_slots")
@pytest.mark.parametrize("budget", [0, 20])
def test_a_thought_that_the_prompt_has_opened(
    budget: int, tokenizer: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = write(tokenizer, tiny_model, "", monkeypatch, "x\n<think>\n", max_new_tokens=5, max_thinking_tokens=budget)
    assert (done.opened, done.closed) == (True, True)
    assert done.text == "." * budget + "\n</think>\n\n" + "." * 5
    without = write(tokenizer, tiny_model, "", monkeypatch, "x\n<think>\n", max_new_tokens=5)
    assert (without.text, without.opened, without.closed) == ("." * 5, True, False)


@pytest.mark.usefixtures("in_slots")
def test_a_model_that_does_not_think_has_the_tokens_of_its_answer(
    tokenizer: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = write(tokenizer, tiny_model, "An apple", monkeypatch, max_new_tokens=12, max_thinking_tokens=40)
    assert (done.text, done.tokens, done.finish_reason) == ("An apple....", 12, "length")


@pytest.mark.usefixtures("in_slots")
def test_the_answer_has_its_room_in_a_short_window(
    tokenizer: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.models.decoding.context_window", lambda _: 80)
    done = write(tokenizer, tiny_model, THOUGHT, monkeypatch, max_new_tokens=20, max_thinking_tokens=500)
    assert done.closed
    assert parted(done.text).answer == "." * 20


def test_a_budget_changes_no_sample_of_a_model_that_does_not_think(tiny_model: Path) -> None:
    """To the token, at temperature 1."""
    model, tokenizer = models.load_causal_lm(str(tiny_model), dtype="float32"), models.load_tokenizer(str(tiny_model))
    texts = []
    for most in (None, 50):
        sampling = Sampling(max_new_tokens=15, max_thinking_tokens=most)
        jobs = [Job([5, 6, 7 + i], sampling, (0, 1)) for i in range(6)]
        texts.append(decode_all(model, tokenizer, jobs, seed=0, batch_size=None, advance=lambda _: None))
    assert texts[0] == texts[1]
