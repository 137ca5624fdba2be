"""Stochastic rounding: unbiased, repeatable, and nothing is rounded that needn't be."""

from typing import Any

import pytest
import torch

from harness.training.rounding import round_stochastically, rounded_weights
from tests.training.models import tiny

DTYPES = [torch.bfloat16, torch.float16]


def rounded(weights: torch.Tensor, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    return round_stochastically(weights, dtype, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [1.0001, -1.0001, 0.9999, 3.14159, -7.3e-3, 6.01e-8])
def test_up_or_down_and_right_on_average(dtype: torch.dtype, value: float) -> None:
    value = float(torch.tensor(value))
    many = rounded(torch.full((400, 1000), value), dtype).double()
    down, up = (float(x) for x in (many.min(), many.max()))
    assert down <= value <= up
    assert len(many.unique()) <= 2
    share = (value - down) / (up - down)
    assert float(many.mean()) == pytest.approx(value, abs=5 * (up - down) * (share * (1 - share) / 4e5) ** 0.5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_value_of_the_grid_stays(dtype: torch.dtype) -> None:
    grid = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
    found = rounded(grid.float(), dtype)
    assert torch.equal(found.view(torch.int16)[~grid.isnan()], grid.view(torch.int16)[~grid.isnan()])
    assert found[grid.isnan()].isnan().all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_finite_stays_finite(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    beyond = torch.nextafter(torch.tensor(largest), torch.tensor(torch.inf)).repeat(1000)
    found = rounded(torch.cat([beyond, -beyond, torch.full((1000,), torch.finfo(torch.float32).max)]), dtype)
    assert set(found.unique().tolist()) == {largest, -largest}


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 5), (700, 1000)])
def test_any_shape_and_layout(shape: tuple[int, ...]) -> None:
    weights = torch.randn(shape)
    found = rounded(weights.mT if len(shape) > 1 else weights, torch.bfloat16)
    assert found.shape == (weights.mT.shape if len(shape) > 1 else shape)
    assert found.dtype == torch.bfloat16
    nearest = weights.mT if len(shape) > 1 else weights
    torch.testing.assert_close(found.float(), nearest, rtol=2**-7, atol=0)


def of_model(model: Any, seed: int = 0, **only: torch.Tensor) -> dict[str, torch.Tensor]:
    return rounded_weights(model, only or model.state_dict(), torch.bfloat16, seed)


def test_a_weights_numbers_depend_on_its_name_and_the_seed_alone() -> None:
    model = tiny("llama")
    state = model.state_dict()
    first = of_model(model)
    for names in (list(reversed(state)), list(state)[3:5]):
        again = rounded_weights(model, {name: state[name] for name in names}, torch.bfloat16, 0)
        assert all(torch.equal(again[name], first[name]) for name in names)
    other = of_model(model, seed=1)
    assert not torch.equal(other["model.layers.0.mlp.up_proj.weight"], first["model.layers.0.mlp.up_proj.weight"])
    layers = [first[f"model.layers.{i}.mlp.up_proj.weight"] for i in (0, 1)]
    same = torch.full((48, 32), 1.001)
    drawn = [
        rounded_weights(model, {f"model.layers.{i}.mlp.up_proj.weight": same}, torch.bfloat16, 0).popitem()[1]
        for i in (0, 1)
    ]
    assert layers[0].shape == same.shape
    assert not torch.equal(*drawn)


@pytest.mark.parametrize("tied", [False, True])
def test_tied_weights_are_rounded_once(tied: bool) -> None:
    model = tiny("llama", tie_word_embeddings=tied)
    for state in (model.state_dict(), {name: t.clone() for name, t in model.state_dict().items()}):
        found = rounded_weights(model, state, torch.bfloat16, 0)
        assert list(found["lm_head.weight"].shape) == [259, 32]
        assert (found["lm_head.weight"] is found["model.embed_tokens.weight"]) == tied


def test_other_dtypes_buffers_and_float32_modules_stay() -> None:
    model = tiny("llama")
    model.register_buffer("statistics", torch.tensor([1.0001]))
    model.register_buffer("count", torch.tensor([3]))
    model._keep_in_fp32_modules_strict = {"norm", "layers.*.input_layernorm"}
    found = of_model(model)
    kept = {name for name, weight in found.items() if weight.dtype != torch.bfloat16}
    assert kept == {
        "statistics",
        "count",
        "model.norm.weight",
        *(f"model.layers.{i}.input_layernorm.weight" for i in (0, 1)),
    }
    assert all(torch.equal(found[name], model.state_dict()[name]) for name in kept)
