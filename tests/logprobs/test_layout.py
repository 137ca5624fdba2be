"""Which models and lengths get one row a response, and why."""

from typing import Any

import pytest
import torch

from harness.logprobs.layout import shared_prefix_obstacle
from tests.training.models import tiny

LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "factor": 8.0,
    "original_max_position_embeddings": 64,
    "short_factor": [1.0] * 4,
    "long_factor": [1.0, 2.0, 4.0, 8.0],
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
SHORT = [(11, [5, 9, 7, 3]), (20, [4, 4, 4, 4])]


def mamba() -> Any:
    from transformers import MambaConfig, MambaForCausalLM

    return MambaForCausalLM(MambaConfig(vocab_size=259, hidden_size=16, num_hidden_layers=1, state_size=4)).eval()


def without_prefix_attention(model: Any) -> Any:
    """A model whose layers fail with anything but an ordinary or a dense mask."""

    def refuse(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        mask = kwargs.get("attention_mask")
        if mask is not None and mask.dtype == torch.long and mask.dim() == 4:
            raise ValueError("no such mask")

    model.model.register_forward_pre_hook(refuse, with_kwargs=True)
    return model


def test_a_sliding_window_shorter_than_a_sequence() -> None:
    assert shared_prefix_obstacle(tiny("gemma2", sliding_window=16), SHORT) is None
    model = without_prefix_attention(tiny("gemma2", sliding_window=16))
    assert "sliding window of 16 tokens is shorter than" in str(shared_prefix_obstacle(model, SHORT))
    assert shared_prefix_obstacle(model, [(8, [5, 8])]) is None


def test_layers_that_take_no_mask() -> None:
    assert shared_prefix_obstacle(mamba(), SHORT) is not None


def test_flash_attention_takes_no_block_mask() -> None:
    model = tiny("llama")
    model.config._attn_implementation = "flash_attention_2"
    assert "flash_attention_2" in str(shared_prefix_obstacle(model, SHORT))


def test_short_prompts_with_long_responses_are_dearer_shared_under_a_dense_mask_only() -> None:
    lengths = [(5, [250] * 8)]
    assert shared_prefix_obstacle(tiny("llama"), lengths) is None
    model = without_prefix_attention(tiny("llama"))
    assert shared_prefix_obstacle(model, lengths) == "one row per response is cheaper at these lengths"


def test_no_dense_mask_is_wider_than_2048_tokens() -> None:
    lengths = [(1500, [10] * 60)]
    model = without_prefix_attention(tiny("llama", max_position_embeddings=4096))
    assert shared_prefix_obstacle(model, [(1500, [10] * 50)]) is None
    assert "the longest shared row has 2099 tokens" in str(shared_prefix_obstacle(model, lengths))
    assert shared_prefix_obstacle(tiny("llama", max_position_embeddings=4096), lengths) is None


@pytest.mark.parametrize(
    ("rope", "lengths", "fits"),
    [
        (LONGROPE, [(20, [5, 9]), (80, [4, 4])], True),
        (LONGROPE, [(60, [5, 4]), (61, [3, 5])], False),
        (DYNAMIC, [(500, [5, 9])], True),
        (DYNAMIC, [(508, [5, 9])], False),
    ],
)
def test_responses_that_need_other_rotary_factors_than_their_neighbours(
    rope: dict[str, Any], lengths: list[Any], fits: bool
) -> None:
    obstacle = shared_prefix_obstacle(tiny("llama", rope_parameters=rope), lengths)
    assert obstacle is None if fits else "rotary factors depend on the length" in obstacle


@pytest.mark.parametrize("leak", [True, False])
def test_a_trial_finds_branches_that_see_each_other(leak: bool) -> None:
    model = tiny("llama")

    def causal(_module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        mask = kwargs.get("attention_mask")
        if mask is not None and mask.dim() == 4 and leak:
            kwargs["attention_mask"] = mask.new_ones(mask.shape).tril()
        return args, kwargs

    model.model.register_forward_pre_hook(causal, with_kwargs=True)
    obstacle = shared_prefix_obstacle(model, SHORT)
    assert ("log-probabilities differ" in obstacle) if leak else obstacle is None
