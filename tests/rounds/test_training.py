"""A later round goes on with the weights of the one before, and its loss compares with the reference that was asked."""

from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from harness.logprobs.score import score_rows
from harness.losses.dpo_best_worst import DpoBestWorst
from harness.models import load as models
from harness.recipe.policy import Policy
from harness.recipe.training import Training
from harness.recipe.trl_loss import TrlLoss
from harness.training.checkpoint import CHECKPOINT
from harness.training.policy import take_weights
from harness.training.ranked.trainer import train_policy
from harness.training.steps import read_steps
from harness.training.trl.dpo import train_with_trl
from harness.training.trl.going_on import GoingOn
from harness.types import RankedExample
from tests.training.models import examples
from tests.training.runs import LENGTHS, LORA, assert_same_weights, loaded_outside, policy_of, train

DATA = examples(6)
STILL: dict[str, Any] = {"learning_rate": 1e-30, "batch_size": 6, "epochs": 1, **LENGTHS}
"""A training whose weights stay what they were, in one step of all examples."""


def logps(model: Any, tokenizer: Any) -> list[list[float]]:
    rows = [(e.messages, r.text) for e in DATA for r in e.responses]
    found = iter(
        score_rows(model, tokenizer, rows, max_prompt_length=64, max_length=128, batch_size=8, advance=lambda _n: None)
    )
    return [[next(found).logp for _ in e.responses] for e in DATA]


def margin(policy: list[list[float]], reference: list[list[float]]) -> float:
    """The mean over examples of the best response's log-ratio minus the worst's, best first."""
    own = [(p[0] - r[0]) - (p[-1] - r[-1]) for p, r in zip(policy, reference, strict=True)]
    return sum(own) / len(own)


class Before:
    """The policy of a first round, and log-probabilities by PEFT and transformers alone."""

    def __init__(self, model: Path, folder: Path, lora: Any) -> None:
        tokenizer = models.load_tokenizer(str(model))
        self.base, self.lora, self.folder = model, lora, folder / "first"
        train(model, DATA, self.folder, DpoBestWorst(beta=0.1), lora=lora, epochs=3)
        self.checkpoint = self.folder / CHECKPOINT
        self.first = logps(models.load_causal_lm(str(model), dtype="float32"), tokenizer)
        self.own = logps(loaded_outside(self.checkpoint, model).eval(), tokenizer)
        self.training = Training.model_validate({**STILL, "lora": lora})

    def start(self) -> tuple[Policy, Path | None]:
        return (policy_of(self.base), self.checkpoint) if self.lora else (policy_of(self.checkpoint), None)


@pytest.fixture(scope="module", params=[LORA, pytest.param(False, marks=pytest.mark.slow)], ids=["adapter", "whole"])
def before(request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Before:
    return Before(tiny_model, tmp_path_factory.mktemp("before"), request.param)


def referenced(before: Before, name: Literal["first", "previous"]) -> list[list[float]]:
    return before.first if name == "first" else before.own


@pytest.mark.parametrize("reference", ["first", "previous"])
def test_the_harness_goes_on(before: Before, tmp_path: Path, reference: Literal["first", "previous"]) -> None:
    policy, adapter = before.start()
    logps_of = dict(zip([e.id for e in DATA], referenced(before, reference), strict=True))
    train_policy(
        policy,
        DATA,
        logps_of,
        DpoBestWorst(beta=0.1),
        before.training,
        folder=tmp_path,
        seed=5,
        micro_batch_size=2,
        advance=lambda _n: None,
        adapter=adapter,
    )
    assert_same_weights(before.folder, tmp_path, atol=0)
    (step,) = read_steps(tmp_path / "steps.jsonl")
    expected = margin(before.own, referenced(before, reference))
    assert step["margin_mean"] == pytest.approx(expected, abs=1e-3)
    assert (abs(expected) > 0.1) == (reference == "first")  # else the case tells nothing


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["first", "previous"])
def test_trl_goes_on(before: Before, tmp_path: Path, reference: Literal["first", "previous"]) -> None:
    policy, adapter = before.start()
    train_with_trl(
        policy,
        [RankedExample.model_validate(e.model_dump()) for e in DATA],
        TrlLoss.model_validate({"name": "sigmoid", "beta": 0.1}),
        before.training,
        folder=tmp_path,
        seed=5,
        micro_batch_size=2,
        advance=lambda _n: None,
        going_on=GoingOn(adapter, policy_of(before.base) if reference == "first" else None),
    )
    assert_same_weights(before.folder, tmp_path, atol=0)
    (step,) = read_steps(tmp_path / "steps.jsonl")
    assert step["margin_mean"] == pytest.approx(margin(before.own, referenced(before, reference)), abs=1e-3)


def test_an_adapter_of_another_shape_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    from harness.errors import ModelError

    def adapted(targets: list[str]) -> Any:
        torch.manual_seed(0)
        config = LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM")
        return get_peft_model(models.load_causal_lm(str(tiny_model), dtype="float32"), config)

    adapted(["q_proj"]).save_pretrained(tmp_path)
    take_weights(adapted(["q_proj"]), tmp_path)
    for other in (["q_proj", "v_proj"], ["v_proj"]):
        with pytest.raises(ModelError, match="not the adapter of this training"):
            take_weights(adapted(other), tmp_path)
