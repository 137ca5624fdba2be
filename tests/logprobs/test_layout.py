"""Which models and lengths get one row a response, and why."""

from typing import Any

import pytest

from harness.logprobs.layout import shared_prefix_obstacle
from tests.training.models import tiny

SHORT = [(11, [5, 9, 7, 3]), (20, [4, 4, 4, 4])]


def mamba() -> Any:
    from transformers import MambaConfig, MambaForCausalLM

    return MambaForCausalLM(MambaConfig(vocab_size=259, hidden_size=16, num_hidden_layers=1, state_size=4)).eval()


def test_a_sliding_window_shorter_than_a_sequence() -> None:
    model = tiny("gemma2", sliding_window=16)
    assert "sliding window of 16 tokens is shorter than" in str(shared_prefix_obstacle(model, SHORT))
    assert shared_prefix_obstacle(model, [(8, [5, 8])]) is None


def test_layers_that_take_no_mask() -> None:
    assert shared_prefix_obstacle(mamba(), SHORT) is not None


def test_flash_attention_takes_no_block_mask() -> None:
    model = tiny("llama")
    model.config._attn_implementation = "flash_attention_2"
    assert "flash_attention_2" in str(shared_prefix_obstacle(model, SHORT))


def test_short_prompts_with_long_responses_are_dearer_shared() -> None:
    model = tiny("llama")
    assert shared_prefix_obstacle(model, [(5, [20_000] * 8)]) == "one row per response is cheaper at these lengths"


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
