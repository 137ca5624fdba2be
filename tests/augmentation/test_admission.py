"""The admission test: its figures against scipy and brute force, and that a broken reward model is refused."""

import math
from collections.abc import Sequence
from itertools import combinations, pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.augmentation.admission import agreement, batch_invariance, growth_with_n, pair_figures
from harness.components import build
from harness.errors import ModelError
from harness.models import load as models
from harness.protocols import Ready, RewardModel
from harness.types import Message, Messages

ROWS = [((Message(role="user", content="question " * (1 + i % 5)),), "word " * (1 + 7 * i)) for i in range(20)]


def ready(folder: Path) -> Ready:
    return Ready(folder, advance=lambda _: None, ask=lambda judge: pytest.fail("asks a judge"))


def saved(kind: str, folder: Path, tiny_model: Path, dtype: torch.dtype = torch.float32) -> Path:
    """A random sequence classifier with one output, and the tiny model's tokenizer."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    tokenizer = models.load_tokenizer(str(tiny_model))
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = AutoConfig.for_model(
        kind,
        **sizes,
        vocab_size=len(tokenizer),
        max_position_embeddings=1024,
        pad_token_id=tokenizer.pad_token_id,
        num_labels=1,
        initializer_range=0.5,
    )
    torch.manual_seed(1)
    AutoModelForSequenceClassification.from_config(config).to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["llama", "bert"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_sound_model_is_admitted(kind: str, dtype: str, tiny_model: Path, tmp_path: Path) -> None:
    folder = saved(kind, tmp_path / "rm", tiny_model)
    reward = build("reward", {"name": "sequence_classifier", "model": str(folder), "dtype": dtype})
    invariance = batch_invariance(reward, ready(tmp_path), ROWS)
    assert invariance["applies"]
    assert invariance["responses"] == 16
    assert invariance["largest_difference"] <= 1e-3


@pytest.fixture
def maskless(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Folder of a BERT classifier whose forward drops the attention mask."""
    from transformers import BertForSequenceClassification

    forward = BertForSequenceClassification.forward

    def without_mask(self: Any, *args: Any, **options: Any) -> Any:
        return forward(self, *args, **{k: v for k, v in options.items() if k != "attention_mask"})

    monkeypatch.setattr(BertForSequenceClassification, "forward", without_mask)
    return str(saved("bert", tmp_path / "rm", tiny_model))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_that_reads_padding_is_refused_with_the_reason(dtype: str, maskless: str, tmp_path: Path) -> None:
    reward = build("reward", {"name": "sequence_classifier", "model": maskless, "dtype": dtype})
    with pytest.raises(
        ModelError, match=r"one response .* alone and .* reads padding as text.*attention mask"
    ) as raised:
        batch_invariance(reward, ready(tmp_path), ROWS)
    assert len(str(raised.value).splitlines()) == 1


EQUAL = [(ROWS[0][0], letter * 30) for letter in "abcdefgh"]


@pytest.mark.parametrize(("rows", "max_length"), [(EQUAL, 2048), (ROWS[8:], 64), ([], 2048)])
def test_padding_is_tested_whatever_the_rows(rows: Any, max_length: int, maskless: str, tmp_path: Path) -> None:
    """Rows of one length, rows that are all cut at one length, and none."""
    fields = {"name": "sequence_classifier", "model": maskless, "dtype": "float32", "max_length": max_length}
    with pytest.raises(ModelError, match="reads padding as text"):
        batch_invariance(build("reward", fields), ready(tmp_path), rows)


class OwnPadding(RewardModel):
    """Pads on `side`, and takes the score at the place of each row's last token as if it padded on the right."""

    name: str = "own"
    model: str
    side: str
    batch_size: int = 4

    def score(self, rows: Sequence[tuple[Messages, str]], ready: Ready) -> list[float | None]:
        from transformers import AutoModelForSequenceClassification

        tokenizer = models.load_tokenizer(self.model)
        tokenizer.padding_side = self.side
        model = AutoModelForSequenceClassification.from_pretrained(self.model).eval()
        scores: list[float | None] = []
        for start in range(0, len(rows), self.batch_size):
            texts = [messages[-1].content + text for messages, text in rows[start : start + self.batch_size]]
            batch = tokenizer(texts, padding=True, return_tensors="pt")
            with torch.no_grad():
                hidden = model.model(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
            last = batch["attention_mask"].sum(-1) - 1
            scores += model.score(hidden[torch.arange(len(last)), last])[:, 0].tolist()
        return scores


def test_padding_on_the_wrong_side_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = str(saved("llama", tmp_path / "rm", tiny_model))
    invariance = batch_invariance(OwnPadding(model=folder, side="right"), ready(tmp_path), ROWS)
    assert invariance["largest_difference"] <= 1e-3
    with pytest.raises(ModelError, match=r"'own' gives one response .* padding side"):
        batch_invariance(OwnPadding(model=folder, side="left"), ready(tmp_path), ROWS)


class NoNumber(RewardModel):
    """Has no finite score for short responses, in batches or alone."""

    name: str = "no-number"
    among: bool
    batch_size: int = 1

    def score(self, rows: Sequence[tuple[Messages, str]], ready: Ready) -> list[float | None]:
        fails = (self.batch_size > 1) == self.among
        return [None if fails and len(text) < 9 else 1.0 for _, text in rows]


def test_a_score_only_alone_or_only_in_a_batch_is_refused() -> None:
    with pytest.raises(ModelError, match=r"gives one response 1\.0000 alone and no finite score beside"):
        batch_invariance(NoNumber(among=True), ready(Path()), ROWS)
    with pytest.raises(ModelError, match=r"gives one response no finite score alone and 1\.0000 beside"):
        batch_invariance(NoNumber(among=False), ready(Path()), ROWS)


def test_models_that_score_one_by_one_are_not_tested() -> None:
    assert batch_invariance(build("reward", {"name": "length"}), ready(Path()), ROWS) == {"applies": False}


def test_figures_of_pairs() -> None:
    from scipy.stats import spearmanr

    pairs = [("aaaa", "b"), ("a", "bbb"), ("aa", "bb"), ("aaaaa", "bb"), ("a", "bb")]
    scores: list[tuple[float | None, float | None]] = [(2.0, 1.0), (1.0, 3.0), (1.0, 1.0), (0.5, None), (4.0, 2.0)]
    figures = pair_figures(pairs, scores)
    assert figures["accuracy"]["value"] == (1 + 0 + 0.5 + 1) / 4
    assert (figures["accuracy"]["n"], figures["accuracy"]["n_invalid"]) == (4, 1)
    assert (figures["ties"], figures["not_scored"]) == (1, 1)
    points = [(2, 4), (1, 1), (1, 1), (3, 3), (1, 2), (1, 2), (0.5, 5), (4, 1), (2, 2)]
    expected = spearmanr([a for a, _ in points], [b for _, b in points]).statistic
    assert figures["length_correlation"]["value"] == pytest.approx(expected)
    assert figures["longer_preferred"]["value"] == pytest.approx((1 + 1 + 0) / 3)
    length = build("reward", {"name": "length"})
    rows = [((), text) for pair in pairs for text in pair]
    by_length = length.score(rows, ready(Path()))  # type: ignore[attr-defined]
    perfect = pair_figures(pairs, list(zip(by_length[::2], by_length[1::2], strict=True)))
    assert perfect["length_correlation"]["value"] == pytest.approx(1)
    assert perfect["longer_preferred"]["value"] == 1


scores_of = st.lists(st.lists(st.floats(-5, 5), min_size=4, max_size=4), min_size=1, max_size=6)


@given(scores_of)
def test_growth_with_n_is_the_mean_over_all_subsets(groups: list[list[float]]) -> None:
    growth = growth_with_n(groups)
    assert [row["n"] for row in growth] == [1, 2, 3, 4]
    for row in growth:
        subsets = [[list(c) for c in combinations(g, row["n"])] for g in groups]
        best = mean(mean(max(c) for c in some) - mean(g) for some, g in zip(subsets, groups, strict=True))
        spread = mean(mean(max(c) - min(c) for c in some) for some in subsets)
        assert row["best"] == pytest.approx(best, abs=1e-9)
        assert row["spread"] == pytest.approx(spread, abs=1e-9)
    assert growth[0]["best"] == pytest.approx(0, abs=1e-9)
    assert all(a["best"] <= b["best"] + 1e-9 for a, b in pairwise(growth))


def test_growth_leaves_out_what_is_not_whole() -> None:
    assert growth_with_n([[1.0, 2.0], [1.0, None], [3.0]])[0]["prompts"] == 1
    assert growth_with_n([]) == growth_with_n([[None, None]]) == growth_with_n([[1.0]]) == []
    assert growth_with_n([[1.0, 1.0]])[1]["best_sd"] is None


def test_agreement_is_the_mean_of_kendalls_tau() -> None:
    from scipy.stats import kendalltau

    one = [[1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 4.0, 3.0], [1.0, 1.0, 1.0, 1.0]]
    other = [[1.0, 3.0, 2.0, 4.0], [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]]
    tau = agreement(one, other)
    taus = [kendalltau(a, b).statistic for a, b in zip(one[:2], other[:2], strict=True)]
    assert tau.value == pytest.approx(mean(taus))
    assert (tau.n, tau.n_invalid) == (2, 1)
    assert agreement([[None, 1.0]], [[2.0, 1.0]]).n_invalid == 1
    assert not math.isnan(tau.value or 0.0)
