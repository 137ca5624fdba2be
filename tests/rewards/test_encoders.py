"""Encoders as reward models: without a chat template they read question and answer as two texts."""

from pathlib import Path

import pytest
import torch

from harness.components import build
from harness.errors import ModelError
from harness.protocols import Ready
from harness.types import Message

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


def reward(folder: Path):
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


def test_several_messages_are_no_pair(tmp_path: Path) -> None:
    folder = encoder(tmp_path / "bert", "bert")
    long = (Message(role="system", content="x"), Message(role="user", content="what"))
    rows = [(long, "no"), ((Message(role="user", content="what"),), "no")]
    with pytest.raises(ModelError, match="1 of 2 conversations have several messages"):
        reward(folder).score(rows, ready(tmp_path))
