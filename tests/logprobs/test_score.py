import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from harness.logprobs.head import response_logps
from harness.logprobs.layout import shared_prefix_obstacle
from harness.logprobs.score import score_rows
from harness.logprobs.tiles import Head, tile_of, tiled_logps
from harness.models import chat
from harness.models import load as models
from harness.training.ranked.batch import Group, collate, lengths_of
from harness.types import Message
from tests.training.models import ARCHITECTURES, random_group, tiny

GROUPS = [random_group(1), random_group(2, prompt=4, lengths=(3, 12)), random_group(3, prompt=1, lengths=(2, 2, 6))]
WEIGHTS = torch.tensor([1.0, -0.5, 2.0, 0.3, -1.0, 0.7, 0.1, 1.3, -2.0])


def plain_logps(model: Any, groups: list[Group]) -> Tensor:
    """Each response alone through the model's own forward, log-softmax over its full logits."""
    found = []
    for group in groups:
        for response in group.responses:
            ids = torch.tensor([[*group.prompt, *response]])
            logps = model(input_ids=ids).logits[0].log_softmax(dim=-1)
            start = len(group.prompt)
            found.append(sum(logps[start + i - 1, token] for i, token in enumerate(response)))
    return torch.stack(found)


def gradients(model: Any, logps: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    (logps * WEIGHTS).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def with_lora(model: Any, **options: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False, **options)
    return get_peft_model(model, config)


def assert_exact(model: Any, *, shared: bool = False, tile: int = 2 * 259) -> None:
    batch = collate(GROUPS, pad_id=258, shared=shared)
    expected = plain_logps(model, GROUPS)
    found, lengths = response_logps(model, batch, tile=tile)
    assert lengths.tolist() == [len(r) for g in GROUPS for r in g.responses]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    wanted, had = gradients(model, expected), gradients(model, found)
    assert wanted.keys() == had.keys()
    for name, gradient in wanted.items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(had[name], gradient, rtol=1e-4, atol=1e-5 * max(1.0, scale), msg=name)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_equals_plain_logits_in_value_and_gradient(architecture: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="harness.logprobs.head"):
        assert_exact(tiny(architecture))
    assert "full logits" not in caplog.text


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_equals_plain_logits_with_lora(architecture: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="harness.logprobs.head"):
        assert_exact(with_lora(tiny(architecture)))
    assert "full logits" not in caplog.text


@pytest.mark.parametrize(
    ("architecture", "attention"),
    [(a, "sdpa") for a in ARCHITECTURES if a != "gemma2"] + [("gemma2", "eager"), ("llama", "eager")],
)
def test_shared_prefix_equals_separate_forwards(architecture: str, attention: str) -> None:
    model = tiny(architecture)
    model.set_attn_implementation(attention)
    assert shared_prefix_obstacle(model, [lengths_of(group) for group in GROUPS]) is None
    assert_exact(model, shared=True)


def test_shared_prefix_equals_separate_forwards_with_lora() -> None:
    assert_exact(with_lora(tiny("qwen2")), shared=True)


def test_equals_plain_logits_with_tied_embeddings() -> None:
    assert_exact(tiny("llama", tie_word_embeddings=True))
    assert_exact(with_lora(tiny("llama", tie_word_embeddings=True)))


@pytest.mark.parametrize("tile", [1, 259 * 5, 2**24])
def test_tiles_change_nothing(tile: int) -> None:
    assert_exact(tiny("llama"), tile=tile)
    assert_exact(with_lora(tiny("llama")), tile=tile)


class LogitRows(TorchDispatchMode):
    """Notes how many rows of logits every operation returns, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, tuple | list) else (found,):
            if isinstance(tensor, Tensor) and tensor.dim() > 1 and tensor.shape[-1] == 259 and tensor.shape[0] != 32:
                self.rows.append(tensor.shape[:-1].numel())  # 32: the transposed weight
        return found


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("architecture", ["llama", "granite"])  # a plain head, and one that scales
def test_logits_of_all_tokens_are_never_held(architecture: str, lora: bool) -> None:
    model = with_lora(tiny(architecture)) if lora else tiny(architecture)
    response_logps(model, collate(GROUPS, 258, shared=False), tile=1)  # the one-time check of the head
    with LogitRows() as seen:
        response_logps(model, collate(GROUPS, 258, shared=False), tile=4 * 259)[0].sum().backward()
    assert max(seen.rows) == 4
    assert len(seen.rows) >= 47 / 4


def test_a_model_that_changes_its_logits_falls_back_with_a_reason(caplog: pytest.LogCaptureFixture) -> None:
    model = tiny("llama")

    def shifted(_module: Any, _inputs: Any, output: Any) -> Any:
        output.logits = output.logits * 1.5
        return output

    model.register_forward_hook(shifted)
    with caplog.at_level(logging.WARNING, logger="harness.logprobs.head"):
        assert_exact(model)
    assert "more than a projection" in caplog.text


def test_score_rows_keeps_the_order_and_needs_no_gradient(tiny_model: Path) -> None:
    model = models.load_causal_lm(str(tiny_model), dtype="float32").train()
    tokenizer = models.load_tokenizer(str(tiny_model))
    texts = ["short", "a much longer answer than the others", "", "middling", "x" * 90]
    rows = [((Message(role="user", content=f"prompt {i}"),), text) for i, text in enumerate(texts)]
    lengths = {"max_prompt_length": 64, "max_length": 100}
    done: list[int] = []
    scored = score_rows(model, tokenizer, rows, **lengths, batch_size=2, advance=done.append)
    assert done == [2, 2, 1]
    assert model.training
    for (messages, text), found in zip(rows, scored, strict=True):
        encoded = chat.encode(tokenizer, messages, text, **lengths)
        group = Group("g", encoded.prompt, (encoded.response,), (0.0,), (0.0,))
        assert found.logp == pytest.approx(plain_logps(model, [group]).item(), rel=1e-5)
        assert (found.tokens, found.truncated) == (len(encoded.response), encoded.truncated)
    assert [s.truncated for s in scored] == [False, False, False, False, True]


@pytest.mark.parametrize("batch_size", [1, 3, 4, 16])
def test_score_rows_shares_the_prompt_of_neighbours(tiny_model: Path, batch_size: int) -> None:
    model = models.load_causal_lm(str(tiny_model), dtype="float32")
    tokenizer = models.load_tokenizer(str(tiny_model))
    prompts = [(Message(role="user", content=f"prompt {'long ' * i}"),) for i in range(3)]
    rows = [(prompts[k // 3], f"answer {'x' * (7 * k % 11)}") for k in range(8)]
    options = {"max_prompt_length": 64, "max_length": 128}
    done: list[int] = []
    together = score_rows(model, tokenizer, rows, **options, batch_size=batch_size, advance=done.append)
    alone = [score_rows(model, tokenizer, [r], **options, batch_size=1, advance=done.append)[0] for r in rows]
    assert sum(done) == 16
    assert max(done) <= batch_size
    assert [t.logp for t in together] == pytest.approx([a.logp for a in alone], rel=1e-5)
    assert [t.tokens for t in together] == [a.tokens for a in alone]


def test_bfloat16_sums_in_float32() -> None:
    model = tiny("llama", initializer_range=0.05)
    batch = collate(GROUPS, 258, shared=False)
    exact, _ = response_logps(model, batch)
    rounded, _ = response_logps(model.bfloat16(), batch)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=1e-2, atol=0.05)


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("tile", [7 * 259, 2**24])
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_a_half_precision_head_equals_plain_logits(
    monkeypatch: pytest.MonkeyPatch, weights: torch.dtype, tile: int, trained: bool
) -> None:
    monkeypatch.setattr("harness.logprobs.tiles.VOCABULARY", 100)
    torch.manual_seed(0)
    projection = torch.nn.Linear(32, 259, bias=False, dtype=weights).requires_grad_(trained)
    hidden = torch.randn(20, 32, dtype=weights, requires_grad=True)
    targets, slopes = torch.randint(259, (20,)), torch.randn(20)
    leaves = [hidden, projection.weight] if trained else [hidden]
    with torch.autocast("cpu", torch.bfloat16, enabled=weights == torch.float32):
        found = tiled_logps(Head(projection, projection, 259, 1.0, None), hidden, targets, tile)
        expected = projection(hidden).float().log_softmax(-1)[range(20), targets]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    mine = torch.autograd.grad((found * slopes).sum(), leaves, retain_graph=True)
    again = torch.autograd.grad((found * slopes).sum(), leaves)
    for one, two, plain in zip(mine, again, torch.autograd.grad((expected * slopes).sum(), leaves), strict=True):
        assert one.dtype == plain.dtype
        torch.testing.assert_close(one, plain, rtol=2e-2, atol=1e-2 * plain.abs().max().item())
        torch.testing.assert_close(two, one, rtol=1e-2, atol=1e-3 * plain.abs().max().item())


@pytest.mark.parametrize(
    ("gigabytes", "largest", "expected"),
    [(80, 2**28, 2**28), (24, 2**28, 2**26), (24, 2**26, 2**26), (2, 2**26, 2**22)],
)
def test_tiles_grow_with_memory_up_to_a_bound(gigabytes: int, largest: int, expected: int) -> None:
    assert tile_of(gigabytes * 10**9, largest) == expected
