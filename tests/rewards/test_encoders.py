"""Encoders as reward models: without a chat template they read question and answer as two texts."""

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.components import build
from harness.errors import ModelError
from harness.protocols import Ready
from harness.types import Message
from tests.tiny import tiny_tokenizer

QUESTIONS = ["what is an apple ?", "what is it ? " * 20]
ANSWERS = ["an apple is it .", "no .", "it is , it is ! " * 20]


def encoder(folder: Path, kind: str) -> Path:
    """A tiny BERT (token types) or RoBERTa (none, and positions that begin behind the padding's), of 32 positions."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        PreTrainedTokenizerFast,
        RobertaConfig,
        RobertaForSequenceClassification,
    )

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = {w: i for i, w in enumerate([*special, "what", "is", "an", "apple", "it", "no", "?", ".", ",", "!"])}
    backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[CLS]", words["[CLS]"]), ("[SEP]", words["[SEP]"])]
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), special, strict=True))
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    if kind == "roberta":
        inputs.remove("token_type_ids")
    PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=inputs, **names).save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    size |= {"vocab_size": len(words), "max_position_embeddings": 32, "num_labels": 1, "pad_token_id": 0}
    if kind == "bert":
        BertForSequenceClassification(BertConfig(**size, initializer_range=0.3)).save_pretrained(folder)
    else:
        size |= {"type_vocab_size": 1}
        RobertaForSequenceClassification(RobertaConfig(**size, initializer_range=0.3)).save_pretrained(folder)
    return folder


def reward(folder: Path) -> Any:
    return build("reward", {"name": "sequence_classifier", "model": str(folder), "dtype": "float32"})


def ready(folder: Path) -> Ready:
    return Ready(folder, advance=lambda _: None, ask=lambda judge: pytest.fail("asks a judge"))


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_scores_are_those_of_the_pair(tmp_path: Path, kind: str) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = encoder(tmp_path / kind, kind)
    model = reward(folder)
    model.check()
    assert model.identity()["reads"] == "pairs"
    rows = [((Message(role="user", content=q),), a) for q in QUESTIONS for a in ANSWERS]
    own, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    window = 32 if kind == "bert" else 31
    with torch.no_grad():
        expected = [
            own(**tokenizer(q, a, truncation=True, max_length=window, return_tensors="pt")).logits.item()
            for q in QUESTIONS
            for a in ANSWERS
        ]
    assert model.score(rows, ready(tmp_path)) == pytest.approx(expected, abs=1e-5)


def test_several_turns_are_no_pair_and_a_system_message_is_part_of_the_question(tmp_path: Path) -> None:
    folder = encoder(tmp_path / "bert", "bert")
    model = reward(folder)
    asked = Message(role="user", content="what is it ?")
    long = (asked, Message(role="assistant", content="no"), asked)
    with pytest.raises(ModelError, match="1 of 2 conversations have several turns"):
        model.score([(long, "no"), ((asked,), "no")], ready(tmp_path))
    with pytest.raises(ModelError, match="1 of 1 conversations have several turns"):
        model.check_prompts([long], True)
    told = (Message(role="system", content="an apple ."), asked)
    model.check_prompts([told], True)
    with pytest.raises(ModelError, match=r"has no place for system messages, .* data\.system: fold"):
        model.check_prompts([told], False)
    joined = (Message(role="user", content="an apple . what is it ?"),)
    first, second = model.score([(told, "no"), (joined, "no")], ready(tmp_path))
    assert first == second


def test_a_deberta_is_read_as_its_own_tokenizer_pairs_texts(tmp_path: Path) -> None:
    """[CLS] and [SEP] are also its tokenizer's beginning and end of a text, as DeBERTa's are."""
    from transformers import AutoTokenizer, DebertaV2Config, DebertaV2ForSequenceClassification

    folder = encoder(tmp_path / "deberta", "bert")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.bos_token, tokenizer.eos_token = "[CLS]", "[SEP]"
    tokenizer.save_pretrained(folder)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    size |= {"vocab_size": len(tokenizer), "max_position_embeddings": 32, "num_labels": 1, "type_vocab_size": 0}
    torch.manual_seed(0)
    own = DebertaV2ForSequenceClassification(DebertaV2Config(**size, initializer_range=0.3)).eval()
    own.save_pretrained(folder)
    model = reward(folder)
    model.check()
    with torch.no_grad():
        expected = [own(**tokenizer(QUESTIONS[0], a, return_tensors="pt")).logits.item() for a in ANSWERS[:2]]
    rows = [((Message(role="user", content=QUESTIONS[0]),), a) for a in ANSWERS[:2]]
    assert model.score(rows, ready(tmp_path)) == pytest.approx(expected, abs=1e-5)


def test_an_encoder_whose_tokenizer_joins_no_texts_is_refused(tmp_path: Path) -> None:
    from transformers import ModernBertConfig, ModernBertForSequenceClassification

    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    tokens = tiny_tokenizer(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    ids = dict.fromkeys(("pad_token_id", "cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id"), 0)
    config = ModernBertConfig(**size, vocab_size=tokens, num_labels=1, **ids)
    ModernBertForSequenceClassification(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="joins no two texts and has no chat template"):
        reward(tmp_path).check()


def test_an_encoder_is_no_base_to_train(tmp_path: Path) -> None:
    folder = encoder(tmp_path / "bert", "bert")
    trained = build("reward", {"name": "trained", "base": str(folder), "dtype": "float32"})
    with pytest.raises(ModelError, match="is an encoder; expected a language model as the base"):
        trained.check()


def test_a_decoder_without_a_template_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    tokens = tiny_tokenizer(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    config = LlamaConfig(**size, vocab_size=tokens, num_labels=1, pad_token_id=tokens - 1)
    LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    reward(tmp_path).check()
    assert "has no chat template: it reads '### User:'" in caplog.text
