"""Adapters whose forward pass rounds once: what is kept, and where PEFT's own forward pass remains."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from harness.models.lora import round_once

DTYPES = [torch.bfloat16, torch.float16]


class One(nn.Module):
    """A model of one linear layer, whose output is large beside what the adapter adds."""

    def __init__(self, *, bias: bool, conv1d: bool) -> None:
        from transformers.pytorch_utils import Conv1D

        super().__init__()
        torch.manual_seed(0)
        self.layer = Conv1D(96, 64) if conv1d else nn.Linear(64, 96, bias=bias)
        nn.init.normal_(self.layer.weight)
        if self.layer.bias is not None:
            nn.init.normal_(self.layer.bias, std=30.0)

    def forward(self, x: torch.Tensor) -> Any:
        return self.layer(x)


def adapted(dtype: torch.dtype, *, bias: bool = False, conv1d: bool = False, scale: float = 1e-3, **more: Any) -> Any:
    """A model with an adapter that adds little."""
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(
        One(bias=bias, conv1d=conv1d).to(dtype),
        LoraConfig(r=4, lora_alpha=6, target_modules=["layer"], fan_in_fan_out=conv1d, **more),
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=scale)
    return model


def inputs(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, 64, generator=torch.Generator().manual_seed(1))


def change(model: Any, x: torch.Tensor) -> torch.Tensor:
    """What the adapter changes in the output."""
    with torch.no_grad():
        output = model(x)
        with model.disable_adapter():
            return output.double() - model(x).double()


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("shape", [(4000,), (2, 2000)])
@pytest.mark.parametrize("layer", [{}, {"bias": True}, {"conv1d": True}])
@pytest.mark.parametrize("dtype", DTYPES)
def test_small_contributions_survive(dtype: torch.dtype, layer: Any, shape: Any, autocast: bool) -> None:
    theirs = adapted(dtype, scale=2e-3 if dtype == torch.bfloat16 else 2e-4, **layer)
    ours, exact = round_once(copy.deepcopy(theirs)), copy.deepcopy(theirs).float()
    x = inputs(*shape).to(dtype)
    wanted = change(exact, x.float())
    with torch.autocast("cpu", dtype, enabled=autocast):
        kept, lost = (float((change(model, x) * wanted).sum() / wanted.square().sum()) for model in (ours, theirs))
        assert torch.equal(_without(ours, x), _without(theirs, x))
    assert kept == pytest.approx(1, abs=0.1)
    assert lost < 0.8
    assert ours(x).shape == (*shape, 96)
    assert ours(x).dtype == dtype


def _without(model: Any, x: torch.Tensor) -> Any:
    with torch.no_grad(), model.disable_adapter():
        return model(x)


@pytest.mark.parametrize("layer", [{}, {"bias": True}, {"conv1d": True}])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_are_those_of_float32(layer: Any, checkpointing: bool) -> None:
    from torch.utils.checkpoint import checkpoint

    ours = round_once(adapted(torch.bfloat16, **layer))
    exact = copy.deepcopy(ours).float()
    gradients = []
    for model, dtype in ((ours, torch.bfloat16), (exact, torch.float32)):
        x = inputs(40).to(dtype).requires_grad_(True)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32):
            for _ in range(2):  # the second call may use what autocast has kept of the first
                y = checkpoint(model, x, use_reentrant=False) if checkpointing else model(x)
                y.float().square().sum().backward()
        named = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        assert {g.dtype for g in named.values()} == {torch.float32}
        gradients.append({"x": x.grad, **named})
    assert gradients[0].keys() == gradients[1].keys()
    assert len(gradients[0]) == 3
    for name, gradient in gradients[1].items():
        error = (gradients[0][name].float() - gradient).norm() / gradient.norm()
        assert error < 0.02, name


def test_dropout_drops() -> None:
    model = round_once(adapted(torch.bfloat16, scale=1.0, lora_dropout=0.5)).train()
    x = inputs(8).bfloat16()
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


def test_pefts_own_forward_pass_remains() -> None:
    """For float32, several active adapters, other variants, merged weights and layers with hooks."""
    x = inputs(16).bfloat16()
    cases = {
        "float32": adapted(torch.float32),
        "dora": adapted(torch.bfloat16, use_dora=True),
        "bias": adapted(torch.bfloat16, bias=True, lora_bias=True),
        "merged": adapted(torch.bfloat16),
        "two": adapted(torch.bfloat16),
        "hook": adapted(torch.bfloat16),
    }
    cases["merged"].merge_adapter()
    cases["two"].add_adapter("other", cases["two"].peft_config["default"])
    cases["two"].base_model.set_adapter(["default", "other"])
    calls: list[Any] = []
    cases["hook"].base_model.model.layer.base_layer.register_forward_pre_hook(lambda *args: calls.append(args))
    for name, model in cases.items():
        own = x.float() if name == "float32" else x
        with torch.no_grad():
            assert torch.equal(round_once(copy.deepcopy(model))(own), model(own)), name
    assert len(calls) == 2


def test_what_is_saved_and_merged_is_pefts() -> None:
    theirs = adapted(torch.bfloat16, scale=1.0)
    ours = round_once(copy.deepcopy(theirs))
    assert repr(ours) == repr(theirs)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    merged = [model.merge_and_unload().layer.weight for model in (copy.deepcopy(ours), theirs)]
    assert torch.equal(*merged)
