"""A quantised base: gradients are exact, training starts at its own reference."""

from pathlib import Path

import pytest
import torch

from harness.logprobs.head import evaluating, response_logps
from harness.logprobs.rows import FORWARD
from harness.losses.mdpo_linear import MdpoLinear
from harness.recipe.training import Lora
from harness.training.policy import load_policy
from harness.training.ranked.batch import collate
from tests.tiny import tiny_causal_lm
from tests.training.models import examples, random_group
from tests.training.runs import policy_of, train


def test_gradients_of_4_bits_are_those_of_the_weights_that_they_stand_for(tmp_path: Path) -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    folder = tiny_causal_lm(tmp_path / "model", hidden=128)
    policy = policy_of(folder)
    quantised, plain = load_policy(policy, Lora(r=4, bits=4), 0), load_policy(policy, Lora(r=4), 0)
    layers = dict(quantised.named_modules())
    for name, module in plain.named_modules():
        if name.endswith("base_layer"):
            weight = layers[name].weight
            module.weight.data = functional.dequantize_4bit(weight.data, weight.quant_state)
    batch = collate([random_group(1), random_group(2)], pad_id=258, shared=True)
    inputs = {name: batch[name] for name in FORWARD if name in batch}
    found = []
    for model in (quantised, plain):
        with torch.no_grad(), evaluating(model):
            response_logps(model, inputs)  # must leave no trace
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
        logps, _ = response_logps(model.train(), inputs)
        logps.sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found.append((logps.detach(), gradients))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-4)
    assert found[0][1].keys() == found[1][1].keys()
    for name, gradient in found[1][1].items():
        scale = max(1.0, gradient.abs().max().item())
        torch.testing.assert_close(found[0][1][name], gradient, rtol=1e-3, atol=1e-4 * scale, msg=name)


@pytest.mark.parametrize("bits", [4, pytest.param(8, marks=pytest.mark.slow)])
def test_qlora_starts_at_its_own_reference_and_learns(tmp_path: Path, bits: int) -> None:
    pytest.importorskip("bitsandbytes")
    model = tiny_causal_lm(tmp_path / "model", hidden=128)  # a block of 64 weights must fit into a row
    report, steps = train(
        model, examples(8), tmp_path / "run", MdpoLinear(beta=1.0), lora=Lora(r=4, bits=bits), epochs=10
    )
    assert steps[0]["loss"] == pytest.approx(0.6931, abs=0.02 if bits == 8 else 1e-4)
    assert report["last_loss"] < 0.9 * report["first_loss"]
    assert (tmp_path / "run" / "checkpoint" / "adapter_model.safetensors").exists()
