"""Prefix attention against a dense mask and against separate rows, and what doesn't change."""

import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.logprobs import attention
from harness.logprobs.head import response_logps
from harness.logprobs.inputs import padding_in_forward
from harness.logprobs.layout import shared_prefix_obstacle
from harness.logprobs.rows import BRANCHES, Batch, dense_mask, packed, pad, token_row
from harness.logprobs.segments import segments_of
from tests.logprobs.test_layout import DYNAMIC, LONGROPE
from tests.training.models import random_group, tiny


def random_batch(rng: random.Random) -> Batch:
    """Rows of one to three prompts, each with one to four responses, of unequal lengths."""

    def row() -> Any:
        prompts = [
            token_row([1] * rng.randint(1, 12), [[2] * rng.randint(1, 9) for _ in range(rng.randint(1, 4))])
            for _ in range(rng.randint(1, 3))
        ]
        return packed(prompts)

    return pad([row(), packed([token_row([1, 2], [[3], [4, 5]])]), *[row() for _ in range(rng.randint(0, 2))]], 0)


def under_a_dense_mask(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float, softcap: float | None, sinks: Tensor | None
) -> Tensor:
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = query @ key.transpose(2, 3) * scaling
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~mask, -1e30)
    if sinks is not None:
        scores = torch.cat([scores, sinks.view(1, -1, 1, 1).expand(*scores.shape[:-1], 1)], -1)
    probabilities = scores.softmax(-1)[..., : value.shape[2]]
    return (probabilities @ value).transpose(1, 2)


@pytest.mark.parametrize("queries", [3, 128])
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("has_sinks", [True, False])
def test_equals_a_dense_mask_in_value_and_gradient(
    monkeypatch: pytest.MonkeyPatch, queries: int, window: int | None, softcap: float | None, has_sinks: bool
) -> None:
    monkeypatch.setattr("harness.logprobs.segments.QUERIES", queries)
    rng = random.Random(queries + (window or 0))
    torch.manual_seed(0)
    for keys, groups in ((1, 3), (2, 2), (3, 1)):
        batch = random_batch(rng)
        segments, positions = batch["segments"], batch["position_ids"]
        mask = dense_mask(segments)
        if window:
            near = positions[:, :, None] - positions[:, None, :] < window
            mask = mask & near[:, None]
        count, width = segments.shape
        shapes = (count, keys * groups, width, 8), (count, keys, width, 8), (count, keys, width, 4)
        leaves = [torch.randn(shape, requires_grad=True) for shape in shapes]
        sinks = torch.randn(keys * groups, requires_grad=True) if has_sinks else None
        real = (segments >= 0)[:, :, None, None]
        expected = under_a_dense_mask(*leaves, mask, 0.7, softcap, sinks) * real
        options = {"scaling": 0.7, "softcap": softcap, "sliding_window": window, "s_aux": sinks}
        actual, _ = attention._prefix_or(None, nn.Module(), *leaves, segments[:, None, None], **options)
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
        weights = torch.randn_like(expected)
        wanted = leaves if sinks is None else [*leaves, sinks]
        for mine, theirs in zip(
            torch.autograd.grad((actual * weights).sum(), wanted),
            torch.autograd.grad((expected * weights).sum(), wanted),
            strict=True,
        ):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_segments_of_a_packed_row() -> None:
    row = packed([token_row([1, 2, 3], [[4, 5], [6]]), token_row([7], [[8, 9]]), token_row([1, 2], [[3]])])
    assert row.segments[-4:] == [BRANCHES + 1, BRANCHES + 1, 2 * BRANCHES, 2 * BRANCHES + 1]
    assert [tuple(segment) for segment in segments_of([*row.segments, -1, -1])] == [
        (0, 0, 0, 2),
        (0, 2, 2, 4),
        (0, 2, 4, 5),
        (5, 0, 5, 7),
        (7, 0, 7, 8),
        (7, 1, 8, 9),
    ]


@pytest.mark.parametrize(("architecture", "implementation"), [("llama", "sdpa"), ("gemma2", "eager")])
def test_other_masks_get_the_attention_of_before(architecture: str, implementation: str) -> None:
    model = tiny(architecture)
    model.set_attn_implementation(implementation)
    ids = torch.arange(60)[None] % 259
    mask = torch.ones(2, 30, dtype=torch.long)
    mask[1, :9] = 0
    options = {"attention_mask": mask, "max_new_tokens": 8, "do_sample": False, "output_scores": True}
    options["return_dict_in_generate"] = True
    before = model.generate(ids.view(2, 30), **options)
    assert shared_prefix_obstacle(model, [(11, [5, 9])]) is None
    assert attention.has_prefix_attention(model)
    after = model.generate(ids.view(2, 30), **options)
    assert after.sequences.tolist() == before.sequences.tolist()
    assert all(torch.equal(a, b) for a, b in zip(after.scores, before.scores, strict=True))
    assert "prefix" not in model.config.to_json_string()


@pytest.mark.parametrize("shared", [True, False])
def test_log_probabilities_of_a_row_do_not_depend_on_the_other_rows(shared: bool) -> None:
    model = tiny("llama")
    assert shared_prefix_obstacle(model, [(11, [5, 9])]) is None
    groups = [random_group(k, prompt, lengths) for k, (prompt, lengths) in enumerate([(3, (5, 30)), (40, (2, 7, 9))])]
    rows = [
        token_row(g.prompt, responses)
        for g in groups
        for responses in ([g.responses] if shared else [[r] for r in g.responses])
    ]
    together, lengths = response_logps(model, pad(rows, 258))
    alone = torch.cat([response_logps(model, pad([row], 258))[0] for row in rows])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    assert lengths.tolist() == [5, 30, 2, 7, 9]


@pytest.mark.parametrize(("architecture", "rope"), [("phi3", LONGROPE), ("llama", LONGROPE), ("llama", DYNAMIC)])
def test_rotary_factors_are_those_of_a_sequence_by_itself(architecture: str, rope: dict[str, Any]) -> None:
    model = tiny(architecture, max_position_embeddings=64, rope_parameters=rope, original_max_position_embeddings=64)
    rows = [token_row(list(range(1, 1 + n)), [[7, 8, 9]]) for n in (10, 90, 62, 80, 63, 11)]
    alone = torch.cat([response_logps(model, pad([row], 258))[0] for row in reversed(rows)]).flip(0)
    together, _ = response_logps(model, pad(rows, 258))
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    for row, logp in zip(rows, alone, strict=True):
        fresh = tiny(
            architecture, max_position_embeddings=64, rope_parameters=rope, original_max_position_embeddings=64
        )
        logps = fresh(input_ids=torch.tensor([row.input_ids])).logits[0].log_softmax(-1)
        expected = sum(logps[-3 + k, token] for k, token in enumerate((7, 8, 9)))
        torch.testing.assert_close(logp, expected, rtol=1e-5, atol=1e-4)


def test_rotary_factors_of_branches_are_those_of_their_longest() -> None:
    """The longest branch of the first row has one position more than the short factors are for."""
    model = tiny("llama", max_position_embeddings=64, rope_parameters=LONGROPE)
    original = LONGROPE["original_max_position_embeddings"]
    rows = [token_row(list(range(1, prompt + 1)), [[7, 8, 9, 4], [5, 6, 7, 3]]) for prompt in (original - 2, 10)]
    alone = torch.cat([response_logps(model, pad([row], 258))[0] for row in rows])
    together, _ = response_logps(model, pad(rows, 258))
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_unequal_prompts_go_into_one_row_without_padding() -> None:
    model = tiny("llama")
    groups = [random_group(k, prompt, lengths) for k, (prompt, lengths) in enumerate([(3, (5, 30)), (40, (2, 7, 9))])]
    batch = pad([token_row(g.prompt, g.responses) for g in groups], 258)
    expected, _ = response_logps(model, batch)
    assert padding_in_forward(model, batch) == 2 * 57 - (2 + 35) - (39 + 18)
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0, -1.0])
    wanted = torch.autograd.grad((expected * weights).sum(), list(model.parameters()))

    assert shared_prefix_obstacle(model, [(len(g.prompt), list(map(len, g.responses))) for g in groups]) is None
    shapes: list[torch.Size] = []
    model.model.embed_tokens.register_forward_pre_hook(lambda _module, args: shapes.append(args[0].shape))
    packed_logps, lengths = response_logps(model, batch)
    assert shapes == [(1, 2 + 35 + 39 + 18)]
    assert padding_in_forward(model, batch) == 0
    assert lengths.tolist() == [5, 30, 2, 7, 9]
    torch.testing.assert_close(packed_logps, expected, rtol=1e-5, atol=1e-5)
    gradients = torch.autograd.grad((packed_logps * weights).sum(), list(model.parameters()))
    for mine, theirs in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5 * max(1.0, theirs.abs().max().item()))


@pytest.mark.parametrize("autocast", [False, True])
def test_checkpointing_gives_the_same_gradients(autocast: bool) -> None:
    model = tiny("qwen2").train()
    group = random_group(1, 11, (5, 9, 30))
    assert shared_prefix_obstacle(model, [(11, [5, 9, 30])]) is None
    batch = pad([token_row(group.prompt, group.responses)], 258)

    def gradients() -> list[Tensor]:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logps, _ = response_logps(model, batch)
        (logps * torch.tensor([1.0, -2.0, 0.5])).sum().backward()
        return [p.grad for p in model.parameters()]

    kept = gradients()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    for mine, plain in zip(gradients(), kept, strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_in_bfloat16_it_is_as_close_to_float32_as_the_dense_mask(architecture: str) -> None:
    model = tiny(architecture, initializer_range=0.05)
    model.set_attn_implementation("eager" if architecture == "gemma2" else "sdpa")
    group = random_group(1, 30, (20, 30))
    batch = pad([token_row(group.prompt, group.responses)], 258)
    exact, _ = response_logps(model, batch)
    half = model.bfloat16()
    dense, _ = response_logps(half, batch)
    assert shared_prefix_obstacle(half, [(30, [20, 30])]) is None
    prefix, _ = response_logps(half, batch)
    assert attention.has_prefix_attention(half)
    assert (prefix - exact).abs().max() < 2 * (dense - exact).abs().max() + 0.02
