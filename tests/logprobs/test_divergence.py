"""The divergence of one model from another, against torch's own on the models' full logits."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from harness.logprobs import divergence
from harness.logprobs.divergence import TokenPair, response_divergences
from tests.training.models import tiny

PAIRS = [
    TokenPair([1, 2, 3], [5, 6, 7, 8, 9]),
    TokenPair([4], [9]),
    TokenPair([7, 7, 8, 30, 40, 2], [11, 12]),
    TokenPair([3, 2], list(range(20, 41))),
]


def plain(policy: Any, reference: Any, off: Callable[[], Any] = nullcontext) -> list[float]:
    """Each response alone, through the models' own forward, in float64 from their logits on. `off`: within it
    `reference` is the reference."""
    found = []
    for prompt, response in PAIRS:
        ids = torch.tensor([[*prompt, *response]])
        before = slice(len(prompt) - 1, -1)
        with torch.no_grad():
            p = Categorical(logits=policy(input_ids=ids).logits[0, before].double())
            with off():
                q = Categorical(logits=reference(input_ids=ids).logits[0, before].double())
        found.append(kl_divergence(p, q).sum().item())
    return found


def measured(policy: Any, reference: Any, batch_size: int = 3) -> tuple[list[float], list[int]]:
    done: list[int] = []
    found = response_divergences(policy, reference, PAIRS, pad_id=0, batch_size=batch_size, advance=done.append)
    return found, done


def moved(model: Any, by: float = 0.3) -> Any:
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(by * weight.std() * torch.randn_like(weight))
    return model


def with_lora(model: Any, **options: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(2)
    config = LoraConfig(
        r=4, task_type="CAUSAL_LM", init_lora_weights=False, **{"target_modules": "all-linear", **options}
    )
    return get_peft_model(model, config).eval()


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_of_a_whole_model_from_another_equals_torchs(architecture: str) -> None:
    reference, policy = tiny(architecture), moved(tiny(architecture))
    expected = plain(policy, reference)
    found, done = measured(policy, reference)
    assert done == [3, 1]
    assert min(expected) > 0.01
    assert found == pytest.approx(expected, rel=1e-4)
    assert measured(reference, policy)[0] != pytest.approx(expected, rel=0.01)  # it isn't symmetric


@pytest.mark.parametrize("options", [{}, {"target_modules": ["q_proj", "lm_head"]}, {"use_dora": True}])
def test_of_adapters_from_their_base_equals_torchs(options: dict[str, Any]) -> None:
    policy = with_lora(tiny("llama"), **options)
    expected = plain(policy, policy, policy.disable_adapter)
    assert min(expected) > 1e-4
    assert measured(policy, None)[0] == pytest.approx(expected, rel=1e-3)
    assert expected == pytest.approx(plain(policy, tiny("llama")), rel=1e-6)


def test_neither_the_batch_nor_the_tile_changes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, policy = tiny("llama"), moved(tiny("llama"))
    expected, _ = measured(policy, reference)
    largest: list[int] = []
    original = divergence._divergences

    def counted(logps: Any, others: Any) -> Any:
        largest.append(len(logps))
        return original(logps, others)

    monkeypatch.setattr(divergence, "_divergences", counted)
    monkeypatch.setattr(divergence, "tile_size", lambda device: 3 * divergence.IN_MEMORY * 300)
    assert measured(policy, reference, batch_size=1)[0] == pytest.approx(expected, rel=1e-4)
    assert max(largest) <= 4
    assert sum(largest) == sum(len(pair.response) for pair in PAIRS)


def test_a_model_does_not_diverge_from_itself_and_never_from_what_it_does_not_say() -> None:
    model = tiny("llama")
    assert measured(model, model)[0] == [0.0] * len(PAIRS)
    logps = torch.tensor([[0.5, 0.5, 0.0]]).log()
    others = torch.tensor([[0.25, 0.75, 0.0]]).log()
    expected = 0.5 * (torch.tensor(2.0).log() + torch.tensor(2 / 3).log())
    assert divergence._divergences(logps.clone(), others).item() == pytest.approx(expected.item())
    nothing = torch.tensor([[1.0, 0.0, 0.0]]).log()
    assert divergence._divergences(logps, nothing).item() == float("inf")


def test_it_estimates_the_divergence_of_whole_responses() -> None:
    """On responses of two tokens that the policy samples, its mean is the divergence over all pairs of tokens."""
    reference, policy = tiny("llama"), moved(tiny("llama"))

    def logps(model: Any, ids: list[list[int]]) -> Any:
        with torch.no_grad():
            return model(input_ids=torch.tensor(ids)).logits[:, -1].double().log_softmax(-1)

    first = [logps(model, [[1, 2]])[0] for model in (policy, reference)]
    second = [logps(model, [[1, 2, token] for token in range(len(first[0]))]) for model in (policy, reference)]
    p, q = (one[:, None] + two for one, two in zip(first, second, strict=True))
    exact = (p.exp() * (p - q)).sum().item()
    torch.manual_seed(0)
    drawn = torch.multinomial(first[0].exp(), 400, replacement=True).tolist()
    pairs = [TokenPair([1, 2], [token, 0]) for token in drawn]
    found = torch.tensor(
        response_divergences(policy, reference, pairs, pad_id=0, batch_size=400, advance=lambda n: None)
    )
    assert abs(found.mean().item() - exact) < 4 * found.std().item() / 20
