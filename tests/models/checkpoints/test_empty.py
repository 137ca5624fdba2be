"""A model without values is like the one that is loaded, but for the values."""

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from harness.models.checkpoints.empty import without_values
from harness.models.load import load_causal_lm
from tests.training.models import tiny


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2"])
@pytest.mark.parametrize("tied", [True, False])
def test_it_has_shapes_ties_and_buffers(architecture: str, tied: bool, tiny_model: Path, tmp_path: Path) -> None:
    changes = {} if architecture == "gpt2" else {"tie_word_embeddings": tied}
    tiny(architecture, **changes).save_pretrained(tmp_path)
    loaded = load_causal_lm(str(tmp_path), None, "bfloat16")
    empty = without_values(AutoModelForCausalLM, AutoConfig.from_pretrained(tmp_path), torch.bfloat16)
    assert type(empty) is type(loaded)
    ours, theirs = (dict(m.named_parameters(remove_duplicate=False)) for m in (empty, loaded))
    assert {n: (w.shape, w.dtype) for n, w in ours.items()} == {n: (w.shape, w.dtype) for n, w in theirs.items()}
    assert len({w.data_ptr() for w in ours.values()}) == len({w.data_ptr() for w in theirs.values()})
    assert not any(w.is_meta for w in empty.parameters())
    buffers = dict(empty.named_buffers())
    assert buffers.keys() == dict(loaded.named_buffers()).keys()
    for name, buffer in loaded.named_non_persistent_buffers():
        torch.testing.assert_close(buffers[name], buffer)
