"""Values that are computed again for backward: the same bits, and less memory."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.logprobs import lean
from harness.logprobs.head import response_logps
from harness.training.ranked.batch import collate
from tests.logprobs.test_score import GROUPS, with_lora
from tests.training.models import ARCHITECTURES, tiny


def saved_bytes(graph: Any, compute: Any) -> int:
    """What a forward keeps for backward, weights included."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    def pack(tensor: Tensor) -> Any:
        packed = graph.pack(tensor) if graph else tensor
        return note(packed) if isinstance(packed, Tensor) else packed

    with torch.autograd.graph.saved_tensors_hooks(pack, graph.unpack if graph else lambda tensor: tensor):
        compute().sum().backward()
    return sum(kept.values())


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_have_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, architecture: str, autocast: bool, lora: bool
) -> None:
    monkeypatch.setattr(lean, "SMALLEST", 1)
    model = with_lora(tiny(architecture)) if lora else tiny(architecture)
    batch = collate(GROUPS, 258, shared=False)

    def gradients() -> list[Tensor]:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logps, _ = response_logps(model, batch)
        (logps * torch.arange(len(logps))).sum().backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    lean_gradients = gradients()
    monkeypatch.setattr(lean, "SMALLEST", 2**40)
    for mine, plain in zip(lean_gradients, gradients(), strict=True):
        assert torch.equal(mine, plain)


@pytest.mark.parametrize(("autocast", "share"), [(False, 0.6), (True, 0.5)])
def test_a_gated_layer_with_a_norm_keeps_little(autocast: bool, share: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 128, requires_grad=True)
    scale = nn.Parameter(torch.randn(128))
    up, gate, down = nn.Linear(128, 256), nn.Linear(128, 256), nn.Linear(256, 128)

    def layer() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            normed = scale * (x * x.square().mean(-1, keepdim=True).rsqrt())
            return down(nn.functional.silu(gate(normed)) * up(normed)) + x

    plain = saved_bytes(None, layer)
    weights = sum(p.numel() * 4 for m in (up, gate, down) for p in [m.weight])
    slim = saved_bytes(lean._Graph(), layer)
    if not autocast:
        plain, slim = plain - weights, slim - weights
    assert slim < share * plain


def test_a_value_is_computed_once_for_all_its_users(monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[str] = []
    silu = lean.ACTIVATIONS["SiluBackward0"]
    monkeypatch.setitem(lean.ACTIVATIONS, "SiluBackward0", lambda node: (times.append("silu"), silu(node))[1])
    x = torch.randn(64, 128, requires_grad=True)
    matrices = [nn.Linear(128, 8) for _ in range(3)]
    with lean.lean_graph():
        activated = nn.functional.silu(x)
        total = sum(matrix(activated).sum() for matrix in matrices)
    assert times == []
    total.backward()
    assert times == ["silu"]
