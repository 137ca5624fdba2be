"""A model whose padding counts is refused: no figure of its log-probabilities would be right."""

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.errors import ModelError
from harness.logprobs.layout import check_padding
from harness.logprobs.score import score_rows
from harness.models.tokenizers import load_tokenizer
from harness.types import Message
from tests.training.models import tiny

KINDS = ["llama", "gemma2", "gpt2"]


def mixing(model: Any) -> Any:
    """The model with a layer that adds to every token what the whole batch holds, as a wrong mask does."""

    def mix(_module: Any, _args: Any, output: Any) -> Any:
        return output + output.mean(dim=(0, 1), keepdim=True)

    model.get_input_embeddings().register_forward_hook(mix)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_ordinary_models_pass(kind: str, dtype: torch.dtype) -> None:
    check_padding(tiny(kind).to(dtype))


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_whose_rows_see_each_other(kind: str) -> None:
    message = r"transformers [\d.]+ gives log-probabilities that differ by [\d.]+ nats per token when"
    with pytest.raises(ModelError, match=message):
        check_padding(mixing(tiny(kind)))


def test_a_short_window() -> None:
    check_padding(tiny("llama", max_position_embeddings=12))


def test_weights_without_a_number_are_not_called_a_fault_of_padding() -> None:
    model = tiny("llama")
    torch.nn.init.constant_(model.get_input_embeddings().weight, torch.nan)
    check_padding(model)


def test_nothing_is_scored(tiny_model: Path) -> None:
    rows = [((Message(role="user", content=prompt),), "yes") for prompt in ("Hi", "Is it?")]
    tokenizer, done = load_tokenizer(str(tiny_model)), list[int]()
    options = {"max_prompt_length": 64, "max_length": 96, "batch_size": 2}
    with pytest.raises(ModelError, match="nats per token"):
        score_rows(mixing(tiny("llama")), tokenizer, rows, **options, advance=done.append)
    assert done == []
