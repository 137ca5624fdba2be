"""Measures of variety against sacrebleu, hand-counted cases and the loss of transformers' own model."""

import math
import random
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.augmentation.diversity import (
    SAMPLE,
    compared,
    distinct,
    duplicates,
    lengths,
    sample_self_bleu,
    self_bleu,
    shares,
)
from harness.augmentation.perplexity import perplexity, text_likelihoods
from harness.models import load as models

TEXTS = ["the cat sat on the mat", "a dog ran in the park", "the cat sat on a hat today", "stars are far away from us"]


def test_self_bleu_is_sacrebleus_of_each_against_the_others() -> None:
    from sacrebleu import sentence_bleu

    scores = [sentence_bleu(t, [o for o in TEXTS if o != t]).score for t in TEXTS]
    assert self_bleu(TEXTS) == pytest.approx(sum(scores) / 4)
    assert self_bleu(["one and the same text"] * 5) == pytest.approx(100)
    assert self_bleu(TEXTS[:1]) is None
    assert self_bleu(TEXTS * 20, seed=1) == pytest.approx(100)  # each has a duplicate among those drawn


def test_datasets_of_any_size_are_measured_on_as_many_texts() -> None:
    rng = random.Random(0)
    texts = [" ".join(rng.choices(string.ascii_lowercase, k=6)) for _ in range(400)]
    few, many = sample_self_bleu(texts[:SAMPLE], 0), sample_self_bleu(texts, 0)
    assert few == self_bleu(texts[:SAMPLE], 0)
    assert few is not None
    assert many == pytest.approx(few, abs=2.5)  # as varied, however many there are
    assert sample_self_bleu(texts[: SAMPLE - 1], 0) is None


def test_distinct_counts_n_grams() -> None:
    assert distinct(["a b a b", "a c"], 1) == 3 / 6
    assert distinct(["a b a b", "a c"], 2) == 3 / 4
    assert distinct(["a b a b", "a c"], 1, tokens=4) == 2 / 4
    assert distinct(["a"], 2) is None
    assert distinct([], 1) is None


@given(st.lists(st.text("abc ", min_size=1, max_size=20), min_size=1, max_size=8), st.randoms())
def test_distinct_does_not_mind_the_order_of_texts(texts: list[str], rng: random.Random) -> None:
    value = distinct(texts, 2)
    shuffled = list(texts)
    rng.shuffle(shuffled)
    assert distinct(shuffled, 2) == value
    assert value is None or 0 < value <= 1
    assert 0 <= (duplicates(texts) or 0) < 1


def test_lengths_and_duplicates() -> None:
    words = lengths(["a b", "a b c d", "x"])
    assert words is not None
    assert words["mean"] == pytest.approx(7 / 3)
    assert (words["median"], words["p5"], words["p95"]) == (2, 1, 4)
    assert duplicates(["A b.", "a b", "c"]) == pytest.approx(1 / 3)
    assert lengths([]) is None
    assert duplicates([]) is None


def test_groups_are_compared_at_equal_numbers() -> None:
    measures = compared({"many": TEXTS * 10, "few": TEXTS[:3], "none": []}, most=100, seed=0)
    assert {name: (row["texts"], row["compared"]) for name, row in measures.items()} == {
        "many": (40, 3),
        "few": (3, 3),
        "none": (0, 0),
    }
    assert measures["none"]["self_bleu"] is None
    again = compared({"many": TEXTS * 10, "few": TEXTS[:3], "none": []}, most=100, seed=0)
    assert again == measures


def test_the_mix_grows_to_all_new_prompts() -> None:
    new = [f"tell me about number {i} and why it matters" for i in range(10)]
    rows = shares(TEXTS, new, most=50, seed=0)
    assert [row["per_seed_prompt"] for row in rows] == [0, 0.25, 0.5, 1, 2, 2.5]
    assert [row["texts"] for row in rows] == [4, 5, 6, 8, 12, 14]
    assert {row["compared"] for row in rows} == {4}
    assert shares(TEXTS, [], 50, 0) == []


def test_perplexity_is_the_models_own_loss(tiny_model: Path) -> None:
    import torch

    model, tokenizer = models.load_causal_lm(str(tiny_model), dtype="float32"), models.load_tokenizer(str(tiny_model))
    done: list[int] = []
    options: dict[str, Any] = {"max_tokens": 64, "batch_size": 3, "advance": done.append}
    likelihoods = text_likelihoods(model, tokenizer, [*TEXTS, "", "z" * 500], **options)
    assert sum(done) == 6
    for text, one in zip([*TEXTS, "", "z" * 500], likelihoods, strict=True):
        ids = torch.tensor([([tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)])[:64]])
        assert one.tokens == ids.shape[1] - 1
        if one.tokens:
            with torch.no_grad():
                loss = float(model(input_ids=ids, labels=ids).loss)
            assert -one.logp / one.tokens == pytest.approx(loss, abs=1e-4)
    figures = perplexity(likelihoods)
    assert figures is not None
    assert figures["texts"] == 5
    total = sum(x.logp for x in likelihoods) / sum(x.tokens for x in likelihoods)
    assert figures["corpus"] == pytest.approx(math.exp(-total))
    assert perplexity([]) is None


@pytest.fixture(scope="module")
def embedder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A sentence embedding model on the spot: the tiny model's states, averaged."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    words = Transformer(str(tiny_model))
    pooling = Pooling(words.get_word_embedding_dimension())
    folder = tmp_path_factory.mktemp("embedder") / "model"
    SentenceTransformer(modules=[words, pooling], device="cpu").save(str(folder))
    return str(folder)


def test_the_spread_of_embeddings_is_the_mean_cosine_distance_of_pairs(embedder: str) -> None:
    from scipy.spatial.distance import pdist

    from harness.models import embedding

    model = embedding.load(embedder)
    expected = pdist(model.encode(TEXTS), "cosine").mean()
    assert embedding.spread(model, TEXTS) == pytest.approx(expected, abs=1e-5)
    assert embedding.spread(model, TEXTS[:1] * 3) == pytest.approx(0, abs=1e-6)
    assert embedding.spread(model, TEXTS[:1]) is None
    assert embedding.resolved(None) is None
    assert embedding.resolved("owner/model") == "owner/model"


def test_a_missing_embedding_model_is_an_error(tmp_path: Path) -> None:
    from harness.errors import ModelError
    from harness.models import embedding

    with pytest.raises(ModelError, match="can't be loaded"):
        embedding.load(str(tmp_path))
