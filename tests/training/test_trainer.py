"""Training on ranked examples: it learns, it repeats, its checkpoints load, and its budget and its faults are told."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import PrivateAttr

from harness.errors import DataError, ModelError
from harness.logprobs.score import score_rows
from harness.losses.dpo_best_worst import DpoBestWorst
from harness.losses.mdpo_linear import MdpoLinear
from harness.models import chat
from harness.models import load as models
from harness.protocols import Loss, RankedLogps
from harness.recipe.policy import Policy
from harness.recipe.training import Lora, Training
from harness.training.budget import Budget
from harness.training.policy import autocast_dtype
from harness.training.ranked.trainer import train_policy
from tests.stand_ins import record_processor
from tests.training.models import example, examples
from tests.training.runs import (
    LENGTHS,
    LORA,
    UNEVEN,
    assert_same_weights,
    loaded_outside,
    reference_of,
    train,
    untimed,
    weights,
)


@pytest.mark.parametrize("lora", [LORA, None])
def test_learns_and_reports(tiny_model: Path, tmp_path: Path, lora: Lora | None) -> None:
    data = examples(8)
    report, steps = train(tiny_model, data, tmp_path / "run", MdpoLinear(beta=1.0), lora=lora, epochs=10)
    assert report["steps"] == len(steps) == 20
    assert steps[0]["loss"] == pytest.approx(math.log(2), rel=1e-4)
    assert steps[0]["margin_mean"] == pytest.approx(0, abs=1e-3)
    assert report["first_loss"] == pytest.approx(sum(s["loss"] for s in steps[:5]) / 5)
    assert report["last_loss"] == pytest.approx(sum(s["loss"] for s in steps[-5:]) / 5)
    assert report["last_loss"] < 0.9 * report["first_loss"]
    assert steps[-1]["pair_accuracy"] > 0.7
    assert steps[-1]["margin_mean"] > 0.5
    assert report["tokens"] == sum(s["tokens"] for s in steps)
    assert report["examples"] == 8
    ranks = steps[-1]["log_ratio_by_rank"]
    assert ranks[0] > ranks[-1]
    assert [len(steps[-1][f"{name}_by_rank"]) for name in ("log_ratio", "logp", "length")] == [4, 4, 4]


@pytest.mark.parametrize("lora", [LORA, None])
def test_checkpoint_loads_in_transformers_and_equals_what_was_trained(
    tiny_model: Path, tmp_path: Path, lora: Lora | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    from harness.training.ranked import trainer

    data = examples(4)
    kept: list[Any] = []
    load = trainer.load_policy
    monkeypatch.setattr(trainer, "load_policy", lambda *args: kept.append(load(*args)) or kept[0])
    train(tiny_model, data, tmp_path / "run", lora=lora, epochs=4)
    checkpoint = tmp_path / "run" / "checkpoint"
    assert (checkpoint / "adapter_config.json").exists() == (lora is not None)
    if lora is None:
        assert json.loads((checkpoint / "config.json").read_text())["use_cache"] is True
    loaded = loaded_outside(checkpoint, tiny_model)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    rows = [(e.messages, r.text) for e in data for r in e.responses]
    options = {**LENGTHS, "batch_size": 8, "advance": lambda _n: None}
    trained, found = (score_rows(m, tokenizer, rows, **options) for m in (kept[0], loaded))
    assert [f.logp for f in found] == pytest.approx([t.logp for t in trained], rel=1e-5)
    base = [logp for logps in reference_of(tiny_model, data).values() for logp in logps]
    assert max(abs(f.logp - b) for f, b in zip(found, base, strict=True)) > 0.5
    through_harness = models.load_causal_lm(str(checkpoint), dtype="float32")
    assert [f.logp for f in score_rows(through_harness, tokenizer, rows, **options)] == pytest.approx(
        [t.logp for t in trained], rel=1e-5
    )


def test_micro_batch_size_never_changes_the_trajectory(tiny_model: Path, tmp_path: Path) -> None:
    data = [
        *examples(6),
        example("short", ("aaa", 1.0), ("1", 0.0)),
        example("three", ("e", 2.0), ("ee", 1.0), ("0", 0.0)),
    ]
    data.append(example("tied", ("a", 1.0), ("b", 1.0)))  # in no batch, so that it can't weigh on a mean
    data += [example("odd", ("aa", 1.0), ("11", 0.0))]  # nine examples count: the last step of an epoch is a short one
    runs = {}
    for micro in (1, 2, 3, 4):
        runs[micro] = train(tiny_model, data, tmp_path / str(micro), micro=micro, epochs=3)
    assert [runs[m][0]["micro_batch_size"] for m in (1, 2, 3, 4)] == [1, 2, 2, 4]
    expected = runs[4][1]
    assert runs[4][0]["tied_examples"] == 1
    assert len(expected) == 9
    for micro in (1, 2):
        for ours, theirs in zip(runs[micro][1], expected, strict=True):
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
            assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)
        assert_same_weights(tmp_path / str(micro), tmp_path / "4", atol=2e-4)


def test_same_seed_same_weights_other_seed_other_order(tiny_model: Path, tmp_path: Path) -> None:
    data = examples(8)
    _, one = train(tiny_model, data, tmp_path / "one", epochs=2)
    _, two = train(tiny_model, data, tmp_path / "two", epochs=2)
    _, other = train(tiny_model, data, tmp_path / "other", epochs=2, seed=4)
    assert untimed(one) == untimed(two)
    assert_same_weights(tmp_path / "one", tmp_path / "two", atol=0)
    assert [s["logp_by_rank"] for s in one] != [s["logp_by_rank"] for s in other]


def test_full_fine_tuning_of_a_half_precision_policy_keeps_float32_weights(tiny_model: Path, tmp_path: Path) -> None:
    train(tiny_model, examples(4), tmp_path / "run", lora=None)
    assert {t.dtype for t in weights(tmp_path / "run").values()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
def test_lora_on_a_half_precision_policy(tiny_model: Path, tmp_path: Path, checkpointing: bool) -> None:
    data, folder = examples(8), tmp_path / "run"
    folder.mkdir()
    fields = {"learning_rate": 5e-3, "batch_size": 4, "lora": LORA, "epochs": 10, **LENGTHS}
    report = train_policy(
        Policy(model=str(tiny_model), dtype="bfloat16"),
        data,
        reference_of(tiny_model, data, "bfloat16"),
        MdpoLinear(beta=1.0),
        Training.model_validate(fields | {"gradient_checkpointing": checkpointing}),
        folder=folder,
        seed=3,
        micro_batch_size=2,
        advance=lambda _n: None,
    )
    first = json.loads((folder / "steps.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(math.log(2), abs=0.02)
    assert report["last_loss"] < 0.9 * report["first_loss"]
    assert {t.dtype for t in weights(folder).values()} == {torch.float32}


@pytest.mark.parametrize("lora", [LORA, None])
def test_gradient_checkpointing_changes_nothing(tiny_model: Path, tmp_path: Path, lora: Lora | None) -> None:
    options: dict[str, Any] = {"epochs": 2, "lora": lora}
    _, plain = train(tiny_model, UNEVEN, tmp_path / "plain", **options)
    report, saved = train(tiny_model, UNEVEN, tmp_path / "saved", gradient_checkpointing=True, **options)
    assert report["rows"] == "one a prompt, shared prefix"
    for name in ("loss", "grad_norm"):
        assert [s[name] for s in saved] == pytest.approx([s[name] for s in plain], rel=1e-5)
    assert_same_weights(tmp_path / "plain", tmp_path / "saved", atol=1e-6)


@pytest.mark.parametrize("shared", [True, False])
def test_counts_prompts_and_the_tokens_of_rows(
    tiny_model: Path, tmp_path: Path, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.training.ranked import trainer

    if not shared:
        monkeypatch.setattr(trainer, "shared_prefix_obstacle", lambda *_: "told not to")
    data = examples(6)
    tokenizer = models.load_tokenizer(str(tiny_model))
    tokens = 0
    for e in data:
        encoded = [chat.encode(tokenizer, e.messages, r.text, **LENGTHS) for r in e.responses]
        prompts = 1 if shared else len(encoded)
        tokens += prompts * (len(encoded[0].prompt) - 1) + sum(len(found.response) for found in encoded)
    report, _ = train(tiny_model, data, tmp_path / "run", epochs=2)
    assert report["prompts_seen"] == 12
    assert report["forward_tokens"] == 2 * tokens


@pytest.mark.slow
def test_a_budget_ends_training_and_the_learning_rate_together(tiny_model: Path, tmp_path: Path) -> None:
    data = examples(9)  # three steps a pass: of four prompts, four, and one
    report, steps = train(tiny_model, data, tmp_path / "own", epochs=2)
    assert (report["steps"], report["prompts_seen"]) == (6, 18)
    for unit, amount in (("steps", 6), ("prompts", 18), ("tokens", report["forward_tokens"])):
        again, same = train(tiny_model, data, tmp_path / unit, epochs=5, budget=Budget(unit, amount))
        assert untimed(same) == untimed(steps)
        assert again["forward_tokens"] == report["forward_tokens"]
        assert_same_weights(tmp_path / unit, tmp_path / "own", atol=0)
    cut, short = train(tiny_model, data, tmp_path / "cut", epochs=5, budget=Budget("prompts", 12))
    assert (cut["steps"], cut["prompts_seen"]) == (4, 13)
    assert short[-1]["learning_rate"] == pytest.approx(5e-3 / 4)


def test_all_tied_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="in each, all scores are tied"):
        train(tiny_model, [example("x", ("a", 1.0), ("b", 1.0))], tmp_path / "run")


class Exploding(Loss):
    """A loss that stops being a number at a step (of one forward of four prompts each)."""

    name: str = "exploding"
    step: int
    _calls: int = PrivateAttr(0)

    def __call__(self, batch: RankedLogps) -> tuple[torch.Tensor, torch.Tensor]:
        losses, valid = DpoBestWorst()(batch)
        self._calls += len(losses) == 4
        return (losses * math.nan if self._calls == self.step else losses), valid


def test_a_loss_that_is_no_number_keeps_the_last_good_weights(tiny_model: Path, tmp_path: Path) -> None:
    options = {"micro": 4, "epochs": 5, "lr_scheduler": "constant_with_warmup"}
    _, whole = train(tiny_model, examples(4), tmp_path / "whole", DpoBestWorst(), **options)
    train(tiny_model, examples(4), tmp_path / "two", DpoBestWorst(), **options | {"epochs": 2})
    report, steps = train(tiny_model, examples(4), tmp_path / "run", Exploding(step=3), **options)
    assert report["stopped"].startswith("training step 3: the loss is not finite on examples p")
    assert report["stopped"].endswith("the weights of step 2 were kept")
    assert report["steps"] == len(steps) == 2
    assert [s["loss"] for s in steps] == [s["loss"] for s in whole[:2]]
    assert_same_weights(tmp_path / "run", tmp_path / "two", atol=0)


def test_a_first_step_that_is_no_number_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"training step 1: the loss is not finite .* lower learning_rate"):
        train(tiny_model, examples(4), tmp_path / "run", Exploding(step=1), micro=4)
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_unknown_target_modules_are_named(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"target_modules \['nowhere'\]"):
        train(tiny_model, examples(2), tmp_path / "run", lora=Lora(target_modules=("nowhere",)))


def test_shared_rows_train_as_separate_rows(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.training.ranked import trainer

    data = examples(6)
    report, shared = train(tiny_model, data, tmp_path / "shared", epochs=3)
    assert report["rows"] == "one a prompt, shared prefix"
    monkeypatch.setattr(trainer, "shared_prefix_obstacle", lambda *_: "told not to")
    report, separate = train(tiny_model, data, tmp_path / "separate", epochs=3)
    assert report["rows"] == "one a response: told not to"
    assert [s["loss"] for s in shared] == pytest.approx([s["loss"] for s in separate], rel=1e-4)
    assert_same_weights(tmp_path / "shared", tmp_path / "separate", atol=2e-4)


@pytest.mark.parametrize("budget", [None, Budget("steps", 1)])
def test_a_run_of_one_step_learns(tiny_model: Path, tmp_path: Path, budget: Budget | None) -> None:
    _, (step,) = train(tiny_model, examples(4), tmp_path / "run", lora=None, warmup_ratio=0.1, budget=budget)
    assert step["learning_rate"] == pytest.approx(5e-3 / 2)
    before = models.load_causal_lm(str(tiny_model), dtype="float32").state_dict()
    assert any(not torch.equal(before[name], value) for name, value in weights(tmp_path / "run").items())


@pytest.mark.parametrize("good", [True, False])
def test_whole_models_are_multiplied_in_bfloat16_where_the_processor_is_good_at_it(
    good: bool, tiny_model: Path, tmp_path: Path
) -> None:
    """The reference is that of the training exactly, and the losses of twenty steps are near those in float32."""
    record_processor(good=good)
    data = examples(8)
    fields = {"lora": None, "batch_size": 4, "epochs": 10, "learning_rate": 1e-3, **LENGTHS}
    losses = {}
    for dtype in ("float32", "bfloat16"):
        policy, folder = Policy(model=str(tiny_model), dtype=dtype), tmp_path / dtype
        folder.mkdir()
        report = train_policy(
            policy,
            data,
            reference_of(tiny_model, data, autocast=autocast_dtype(policy, None)),
            MdpoLinear(),
            Training.model_validate(fields),
            folder=folder,
            seed=3,
            micro_batch_size=2,
            advance=lambda _n: None,
        )
        assert report["products"] == (dtype if good else "float32")
        steps = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
        assert steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
        assert steps[0]["margin_mean"] == pytest.approx(0, abs=2e-5)
        losses[dtype] = [step["loss"] for step in steps]
    assert len(losses["float32"]) == 20
    assert losses["float32"][-1] < 0.6
    assert losses["bfloat16"] == pytest.approx(losses["float32"], abs=0.02)
    assert (losses["bfloat16"] == losses["float32"]) == (not good)
