"""What changes how a policy is trained and never what comes out, and what is not computed at all."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import PrivateAttr

from harness.losses.dpo_best_random import DpoBestRandom
from harness.losses.dpo_best_rest import DpoBestRest
from harness.losses.dpo_best_worst import DpoBestWorst
from harness.losses.lipo_lambda import LipoLambda
from harness.losses.mdpo_linear import MdpoLinear
from harness.protocols import Loss, RankedLogps
from harness.recipe.training import Lora
from harness.training.budget import Budget
from harness.training.ranked.probe import usable_groups
from tests.training.models import example, examples, random_group
from tests.training.runs import LORA, UNEVEN, assert_same_steps, assert_same_weights, train


@pytest.mark.parametrize("lora", [LORA, None])
@pytest.mark.parametrize("checkpointing", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_bounded_memory_is_exact(tiny_model: Path, tmp_path: Path, lora: Lora | None, checkpointing: bool) -> None:
    options: dict[str, Any] = {"epochs": 2, "lora": lora, "gradient_checkpointing": checkpointing}
    plain, expected = train(tiny_model, UNEVEN, tmp_path / "plain", **options)
    report, steps = train(tiny_model, UNEVEN, tmp_path / "bounded", bounded_memory=True, **options)
    assert plain["rows"] == "one a prompt, shared prefix"
    assert report["rows"] == "one a response: memory is bounded to one response at a time"
    assert_same_steps(steps, expected, rel=1e-4)
    assert_same_weights(tmp_path / "plain", tmp_path / "bounded", atol=2e-4)


def test_bounded_memory_holds_one_response(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.logprobs import head

    seen: list[tuple[int, bool]] = []
    before = head.response_logps

    def spied(model: Any, batch: Any, **options: Any) -> Any:
        seen.append((batch["input_ids"].numel(), torch.is_grad_enabled()))
        return before(model, batch, **options)

    monkeypatch.setattr(head, "response_logps", spied)
    train(tiny_model, examples(4), tmp_path / "run", bounded_memory=True, micro=4)
    assert [grad for _, grad in seen] == [False] * 16 + [True] * 16
    longest = max(size for size, _ in seen)
    assert longest < 64  # one prompt with one response; four prompts of four responses have some 700 tokens


def test_responses_that_the_loss_does_not_look_at_are_not_computed(tiny_model: Path, tmp_path: Path) -> None:
    data, loss = examples(6), DpoBestWorst(beta=0.5)
    every, expected = train(tiny_model, data, tmp_path / "every", loss, epochs=3, all_responses=True)
    report, steps = train(tiny_model, data, tmp_path / "used", loss, epochs=3)
    assert (every["unused_responses"], report["unused_responses"]) == (0, 12)
    assert report["forward_tokens"] < 0.75 * every["forward_tokens"]
    assert [s["loss"] for s in steps] == pytest.approx([e["loss"] for e in expected], rel=1e-5)
    assert_same_weights(tmp_path / "every", tmp_path / "used", atol=2e-5)
    first = steps[0]["logp_by_rank"]
    assert first[1:3] == [None, None]
    assert first[0] == pytest.approx(expected[0]["logp_by_rank"][0], rel=1e-5)
    full, _ = train(tiny_model, data, tmp_path / "full", MdpoLinear(beta=0.5))
    assert full["unused_responses"] == 0


class Spied(Loss):
    """A loss that keeps the draws it is given in training, by what the prompt's scores sum to."""

    name: str = "spied"
    _draws: list[tuple[float, tuple[float, ...]]] = PrivateAttr(default_factory=list)

    @property
    def draws(self) -> list[tuple[float, tuple[float, ...]]]:
        return self._draws

    def __call__(self, batch: RankedLogps) -> tuple[torch.Tensor, torch.Tensor]:
        if len(batch.mask) <= 4 and batch.draws is not None:  # not where it is tried on many random log-ratios
            rows = zip(batch.scores.sum(1).tolist(), batch.draws.tolist(), strict=True)
            self._draws += [(round(total, 3), tuple(draws)) for total, draws in rows]
        return DpoBestRandom()(batch)


@pytest.mark.slow
def test_draws_are_new_every_epoch_and_the_same_however_the_run_is_cut(tiny_model: Path, tmp_path: Path) -> None:
    data = [example(f"p{k}", ("a", k + 2.0), ("b", k + 1.0), ("c", 0.0)) for k in range(8)]
    seen = {}
    for micro in (1, 4):
        loss = Spied()
        train(tiny_model, data, tmp_path / str(micro), loss, micro=micro, epochs=2)
        seen[micro] = sorted(loss.draws)
    assert len(set(seen[4])) == 16
    assert seen[1] == seen[4]
    _, steps = train(tiny_model, data, tmp_path / "random", DpoBestRandom(), epochs=6)
    _, rest = train(tiny_model, data, tmp_path / "rest", DpoBestRest(), epochs=6)
    assert steps[-1]["loss"] != pytest.approx(rest[-1]["loss"], rel=1e-3)


def test_counts_of_what_went_through_the_policy(tiny_model: Path, tmp_path: Path) -> None:
    report, steps = train(tiny_model, examples(8), tmp_path / "run", epochs=2)
    assert report["prompts_seen"] == sum(s["prompts"] for s in steps) == 16
    assert report["forward_tokens"] == sum(s["forward_tokens"] for s in steps) > report["tokens"]
    assert all(s["tokens_per_second"] > 0 and s["peak_memory_gb"] > 0 for s in steps)
    assert all(-1 <= s["kendall_tau"] <= 1 for s in steps)


@pytest.mark.slow
def test_a_budget_of_tokens_does_not_depend_on_how_memory_is_bounded(tiny_model: Path, tmp_path: Path) -> None:
    plain, _ = train(tiny_model, examples(8), tmp_path / "plain", MdpoLinear(), epochs=2)
    budget = Budget("tokens", plain["forward_tokens"])
    options: dict[str, Any] = {"budget": budget}
    free, _ = train(tiny_model, examples(8), tmp_path / "free", DpoBestWorst(), **options)
    bound, _ = train(tiny_model, examples(8), tmp_path / "bound", DpoBestWorst(), bounded_memory=True, **options)
    assert free["steps"] == bound["steps"] > plain["steps"]
    assert free["forward_tokens"] == bound["forward_tokens"]


@pytest.mark.parametrize("weights", [(0.0, 1.0, -1.0, 0.0), (1.0, 0.0, 0.0, 0.0), (1.0, -1.0, 0.0, 0.0)])
def test_weights_of_zero_are_trained_with(tiny_model: Path, tmp_path: Path, weights: tuple[float, ...]) -> None:
    data = [*examples(3), example("tied", ("a", 3.0), ("e", 3.0), ("1", 1.0), ("2", 0.0))]
    report, steps = train(tiny_model, data, tmp_path / "run", MdpoLinear(weights=weights), epochs=2)
    assert report["examples"] in (3, 4)
    assert len(steps) == report["steps"] == 2
    assert steps[0]["loss"] == pytest.approx(0.6931, abs=1e-3)


def test_a_response_that_only_a_detached_weight_depends_on_is_computed() -> None:
    group = random_group(1, lengths=(5, 9, 7))._replace(scores=(1.2, 0.6, 0.0))
    (kept,) = usable_groups([group], LipoLambda(tie_margin=1.0), all_responses=False)
    assert kept.computed == (True, True, True)
    (kept,) = usable_groups([group], DpoBestWorst(), all_responses=False)
    assert kept.computed == (True, False, True)
