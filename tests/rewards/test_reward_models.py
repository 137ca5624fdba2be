"""Reward models: what is trained orders unseen pairs, and a score depends on its own row alone."""

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.components import build
from harness.errors import ModelError
from harness.models.classifier import classifier_scores
from harness.protocols import Ready
from harness.types import Message, PreferencePair
from tests.rewards.pairs import pairs
from tests.stand_ins import record_processor


def accuracy(scores: list[float | None]) -> float:
    wins = [a > b for a, b in zip(scores[::2], scores[1::2], strict=True) if a is not None and b is not None]
    return sum(wins) / len(wins)


def ready(folder: Path) -> Ready:
    return Ready(folder, advance=lambda _: None, ask=lambda judge: pytest.fail("asks a judge"))


def rows(seeds: list[PreferencePair]) -> list[tuple[tuple[Message, ...], str]]:
    return [(p.messages, text) for p in seeds for text in (p.chosen, p.rejected)]


@pytest.fixture(scope="module")
def trained(wordy_tiny_model: Path, tmp_path_factory: pytest.TempPathFactory):
    fields = {"base": str(wordy_tiny_model), "dtype": "float32", "epochs": 6, "learning_rate": 5e-3}
    reward = build("reward", {"name": "trained", **fields})
    folder = tmp_path_factory.mktemp("reward")
    steps: list[int] = []
    report = reward.fit(pairs(64, 0), folder, seed=0, advance=steps.append)
    return reward, folder, report, steps


def test_training_learns_the_preference(trained) -> None:
    reward, folder, report, steps = trained
    assert report["last_loss"] < 0.5 < report["first_loss"]
    assert report["steps"] == sum(steps) == 6 * 8
    assert accuracy(reward.score(rows(pairs(40, 1)), ready(folder))) >= 0.9


def test_scores_depend_on_neither_batch_nor_order(trained) -> None:
    reward, folder, _, _ = trained
    given = rows(pairs(10, 2))
    whole = reward.score(given, ready(folder))
    single = reward.model_copy(update={"score_batch_size": 1}).score(given, ready(folder))
    turned = reward.score(given[::-1], ready(folder))[::-1]
    assert whole == pytest.approx(single, abs=1e-4)
    assert whole == pytest.approx(turned, abs=1e-4)


@pytest.mark.slow
def test_training_again_gives_the_same_scores(trained, tmp_path: Path) -> None:
    reward, folder, _, _ = trained
    other = reward.model_copy(update={"score_batch_size": 3})
    other.fit(pairs(64, 0), tmp_path, seed=0, advance=lambda _: None)
    given = rows(pairs(6, 3))
    assert other.score(given, ready(tmp_path)) == pytest.approx(reward.score(given, ready(folder)), abs=1e-4)
    assert reward.identity() == other.identity()
    assert reward.identity() != reward.model_copy(update={"micro_batch_size": 4}).identity()


def save_classifier(model: Path, folder: Path, labels: int) -> Path:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_pretrained(model, num_labels=labels).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return folder


def test_a_ready_made_classifier_scores_like_a_plain_forward(wordy_tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = save_classifier(wordy_tiny_model, tmp_path / "rm", 1)
    reward = build("reward", {"name": "sequence_classifier", "model": str(folder), "dtype": "float32"})
    given = rows(pairs(5, 4))
    assert reward.fit(pairs(2, 0), tmp_path, seed=0, advance=lambda _: None) == {}
    ours = reward.score(given, ready(tmp_path))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    for (messages, text), score in zip(given, ours, strict=True):
        chat = [m.model_dump() for m in messages] + [{"role": "assistant", "content": text}]
        ids = tokenizer(
            tokenizer.apply_chat_template(chat, tokenize=False).removesuffix("\n"), add_special_tokens=False
        )
        with torch.no_grad():
            assert model(torch.tensor([ids["input_ids"]])).logits.item() == pytest.approx(score, abs=1e-5)


def test_the_outputs_of_a_classifier_with_several_are_weighted(wordy_tiny_model: Path, tmp_path: Path) -> None:
    folder = save_classifier(wordy_tiny_model, tmp_path / "rm", 3)
    fields = {"name": "sequence_classifier", "model": str(folder), "dtype": "float32"}
    given = rows(pairs(4, 0))

    def scores(outputs: dict[str, float]) -> list[float | None]:
        return build("reward", fields | {"outputs": outputs}).score(given, ready(tmp_path))

    each = [scores({str(k): 1.0}) for k in range(3)]
    expected = [2 * a - 0.5 * c for a, _, c in zip(*each, strict=True)]
    assert scores({"LABEL_0": 2.0, "2": -0.5}) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ModelError, match=r"3 outputs \(LABEL_0, LABEL_1, LABEL_2\); expected one, or weights"):
        scores({})
    with pytest.raises(
        ModelError,
        match=r"model .*rm has no output 'LABEL_9'; expected a label or a number below 3; did you",
    ):
        scores({"LABEL_9": 1.0})
    one, other = (build("reward", fields | {"outputs": {"0": w}}).identity() for w in (1, 2))
    assert one != other


def test_the_whole_model_is_trained_without_adapters(wordy_tiny_model: Path, tmp_path: Path) -> None:
    fields = {"base": str(wordy_tiny_model), "dtype": "float32", "epochs": 4, "learning_rate": 3e-3, "lora": False}
    reward = build("reward", {"name": "trained", **fields})
    report = reward.fit(pairs(64, 0), tmp_path, seed=0, advance=lambda _: None)
    assert report["last_loss"] < 0.5
    assert not list(tmp_path.rglob("adapter_config.json"))
    given = rows(pairs(40, 1))
    scores = reward.score(given, ready(tmp_path))
    assert accuracy(scores) >= 0.9
    single = reward.model_copy(update={"score_batch_size": 1}).score(given, ready(tmp_path))
    assert scores == pytest.approx(single, abs=1e-3)
    assert reward.identity() != build("reward", {"name": "trained", **fields, "lora": True}).identity()


@pytest.mark.parametrize("lora", [True, False])
def test_a_training_of_one_step_learns(lora: bool, wordy_tiny_model: Path, tmp_path: Path) -> None:
    gaps = []
    for rate in (3e-3, 1e-12):  # the head is random, but the same in both
        fields = {"base": str(wordy_tiny_model), "dtype": "float32", "epochs": 1, "learning_rate": rate, "lora": lora}
        reward, folder = build("reward", {"name": "trained", **fields}), tmp_path / str(rate)
        assert reward.fit(pairs(8, 0), folder, seed=0, advance=lambda _: None)["steps"] == 1
        scores = reward.score(rows(pairs(8, 0)), ready(folder))
        gaps.append(sum(a - b for a, b in zip(scores[::2], scores[1::2], strict=True)))
    assert gaps[0] > gaps[1] + 1e-3


def test_the_dtype_of_products_is_in_the_identity_of_whole_models_alone(wordy_tiny_model: Path) -> None:
    def products(good: bool, **fields: Any) -> str | None:
        record_processor(good=good)
        reward = build("reward", {"name": "trained", "base": str(wordy_tiny_model), **fields})
        return reward.identity().get("products")

    assert products(True, dtype="bfloat16", lora=False) == "bfloat16"
    assert products(False, dtype="bfloat16", lora=False) is None
    assert products(True, dtype="bfloat16") is products(True, dtype="float32", lora=False) is None


@pytest.mark.parametrize("lora", [True, False])
def test_half_precision_rounds_nothing_that_was_learnt(lora: bool, wordy_tiny_model: Path, tmp_path: Path) -> None:
    """Weights are trained and saved in float32, and scores are computed with a base in float32."""
    from safetensors.torch import load_file

    from harness.models import load as models

    fields = {"base": str(wordy_tiny_model), "dtype": "bfloat16", "epochs": 2, "learning_rate": 1e-3, "lora": lora}
    reward: Any = build("reward", {"name": "trained", **fields})
    reward.fit(pairs(16, 0), tmp_path, seed=0, advance=lambda _: None)
    (file,) = (tmp_path / "reward-model").glob("*.safetensors")
    saved = load_file(file)
    assert {t.dtype for t in saved.values()} == {torch.float32}
    assert all(not torch.equal(t, t.bfloat16().float()) for name, t in saved.items() if "score" in name)
    if lora:
        base = models.load_sequence_classifier(str(wordy_tiny_model), None, "float32", num_labels=1)
        exact = models.with_adapter(base, tmp_path / "reward-model")
    else:
        exact = models.load_sequence_classifier(str(tmp_path / "reward-model"), None, "float32")
    given = rows(pairs(6, 1))
    plain = {"max_length": 1024, "batch_size": 4, "advance": lambda _: None}
    scores = classifier_scores(exact, reward._tokenizer(), given, **plain)
    assert reward.score(given, ready(tmp_path)) == pytest.approx(scores, abs=1e-5)


def test_what_is_not_finite_is_not_scored(wordy_tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = save_classifier(wordy_tiny_model, tmp_path / "rm", 1)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    model.score.weight.data.fill_(float("nan"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    scores = classifier_scores(model, tokenizer, rows(pairs(1, 0)), max_length=64, batch_size=2, advance=lambda _: None)
    assert scores == [None, None]


def test_training_uses_one_of_several_accelerators(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trainer would split batches of that many times the size over all of them."""
    from transformers import TrainingArguments

    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: self._n_gpu or 2))
    reward: Any = build("reward", {"name": "trained", "base": str(tiny_model), "dtype": "float32"})
    config = reward._config(tmp_path, 0)
    assert (config.n_gpu, config.train_batch_size) == (1, reward.micro_batch_size)
