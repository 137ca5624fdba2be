"""Tokenizers without padding or an end, and with tokens that the model has no embedding for."""

import shutil
from pathlib import Path

import pytest
import torch

from harness.errors import ModelError
from harness.models import chat
from harness.models import load as models
from tests.models.checkpoints.edits import edit_json, edit_weights

PLAIN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def without(model: Path, *names: str) -> None:
    edit_json(model, "tokenizer_config.json", **dict.fromkeys(names))


def resave(model: Path, tokens: list[str], *, special: bool, rows: int | None = None) -> None:
    """Add tokens to the tokenizer, and embeddings to the model if `rows` says so."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_tokens(tokens, special_tokens=special)
    tokenizer.save_pretrained(model)
    if rows is not None:
        edit_weights(model, lambda w: {**w, "model.embed_tokens.weight": torch.zeros(rows, 32)})
        edit_json(model, "config.json", vocab_size=rows)


def refused(model: Path, message: str) -> None:
    for action in (models.check, models.load_tokenizer):
        with pytest.raises(ModelError, match=message) as raised:
            action(str(model))
        assert "\n" not in str(raised.value)


def test_padding_is_the_end_if_there_is_none(model: Path) -> None:
    without(model, "pad_token")
    tokenizer = models.load_tokenizer(str(model))
    assert tokenizer.pad_token == "<|im_end|>"
    without(model, "pad_token", "eos_token")
    tokenizer = models.load_tokenizer(str(model))
    assert tokenizer.pad_token == "<|im_end|>"
    assert tokenizer.eos_token is None
    models.check(str(model))


def test_without_any_end_it_is_an_error(model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = PLAIN
    tokenizer.save_pretrained(model)
    without(model, "pad_token", "eos_token")
    refused(model, "neither an end-of-turn nor an end token")
    with_padding = AutoTokenizer.from_pretrained(model)
    with_padding.pad_token = "<|pad|>"
    with_padding.save_pretrained(model)
    with pytest.raises(ModelError, match="neither an end-of-turn nor an end token"):
        models.check(str(model))


def test_padding_without_an_embedding_is_replaced(model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(model)
    assert tokenizer.pad_token_id == 259
    assert models.load_tokenizer(str(model)).pad_token == "<|im_end|>"
    models.check(str(model))


def test_special_tokens_that_nothing_uses_may_lack_an_embedding(model: Path) -> None:
    resave(model, ["<image_soft_token>"], special=True)
    models.check(str(model))
    tokenizer = models.load_tokenizer(str(model))
    ids = chat.encode_response(tokenizer, "<image_soft_token>")
    assert max(ids) < 259


def test_tokens_of_texts_need_an_embedding(model: Path) -> None:
    resave(model, ["hello", "world"], special=False)
    refused(model, r"2 tokens of its tokenizer \(hello, world\) have no embedding, as the model has only 259")
    resave(model, [], special=False, rows=261)
    models.check(str(model))


def test_a_smaller_model_with_a_larger_vocabulary(model: Path) -> None:
    edit_weights(model, lambda w: {**w, "model.embed_tokens.weight": w["model.embed_tokens.weight"][:200].clone()})
    edit_json(model, "config.json", vocab_size=200, pad_token_id=None, bos_token_id=None, eos_token_id=None)
    refused(model, "56 tokens of its tokenizer .* have no embedding")


def test_tokens_of_the_template_need_an_embedding(model: Path) -> None:
    from transformers import AutoTokenizer

    resave(model, ["<turn>"], special=True)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = "<turn>" + PLAIN
    tokenizer.save_pretrained(model)
    refused(model, "a conversation contains <turn>, for which the model has no embedding")


def test_a_tokenizer_alone_may_be_loaded(model: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (model / name).unlink()
    assert models.load_tokenizer(str(model)).pad_token == "<|pad|>"


def test_padding_ids_outside_the_embeddings_in_the_configuration(model: Path) -> None:
    edit_json(model, "config.json", pad_token_id=259)
    with pytest.raises(ModelError, match=r"can't be loaded: .*embed") as raised:
        models.check(str(model))
    assert "\n" not in str(raised.value)
