"""Ranked data that isn't as it should be: each kind has a stated behaviour."""

import math
from pathlib import Path
from typing import Any

import pytest

from harness.errors import DataError, ModelError
from harness.losses.mdpo_linear import MdpoLinear
from harness.models import load as models
from harness.recipe.training import Training
from harness.training.ranked.trainer import train_policy
from harness.types import RankedExample
from tests.training.models import example, examples
from tests.training.runs import LORA, policy_of, reference_of, train

GOOD = example("good", ("aaa", 2.0), ("ae1", 1.0), ("111", 0.0))


def trained(model: Path, data: list[RankedExample], folder: Path, **changes: Any) -> dict[str, Any]:
    report, steps = train(model, data, folder, batch_size=2, epochs=1, **changes)
    assert all(math.isfinite(step["loss"]) for step in steps)
    return report


def test_n_that_differs_by_prompt(tiny_model: Path, tmp_path: Path) -> None:
    data = [GOOD, example("two", ("a", 1.0), ("1", 0.0)), *examples(1, responses=5)]
    report = trained(tiny_model, data, tmp_path / "run")
    assert (report["examples"], report["responses"]) == (3, 10)


def test_a_prompt_with_one_response_is_left_out_and_counted(tiny_model: Path, tmp_path: Path) -> None:
    report = trained(tiny_model, [GOOD, example("one", ("a", 1.0))], tmp_path / "run")
    assert (report["examples"], report["dropped_examples"]) == (1, 1)


def test_a_prompt_with_all_scores_tied_is_left_out_and_counted(tiny_model: Path, tmp_path: Path) -> None:
    report = trained(tiny_model, [GOOD, example("tied", ("a", 1.0), ("b", 1.0))], tmp_path / "run")
    assert (report["examples"], report["tied_examples"]) == (1, 1)


def test_an_empty_response_is_its_end_token(tiny_model: Path, tmp_path: Path) -> None:
    report = trained(tiny_model, [example("empty", ("a", 1.0), ("", 0.0))], tmp_path / "run")
    assert report["tokens"] == 2 + 1


def test_a_response_longer_than_max_length_is_cut_and_counted(tiny_model: Path, tmp_path: Path) -> None:
    report = trained(tiny_model, [example("long", ("a" * 300, 1.0), ("1", 0.0))], tmp_path / "run")
    assert report["truncated_responses"] == 1


def test_what_is_longer_than_the_models_window_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    data = [example("long", ("a" * 2000, 1.0), ("1", 0.0))]  # the window is 1,024
    wide = {"max_prompt_length": 64, "max_length": 4096}
    message = r"has 20\d\d tokens, and the policy's window is 1024; set training.max_length to at most 1024"
    with pytest.raises(ModelError, match=message):
        train_policy(
            policy_of(tiny_model),
            data,
            {"long": [-1.0, -1.0]},
            MdpoLinear(),
            Training(lora=LORA, **wide),
            folder=tmp_path,
            seed=0,
            micro_batch_size=1,
            advance=lambda _n: None,
        )
    from harness.logprobs.score import score_rows

    model, tokenizer = models.load_causal_lm(str(tiny_model), dtype="float32"), models.load_tokenizer(str(tiny_model))
    rows = [(data[0].messages, r.text) for r in data[0].responses]
    with pytest.raises(ModelError, match=message):
        score_rows(model, tokenizer, rows, **wide, batch_size=2, advance=lambda _n: None)


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_named(tiny_model: Path, tmp_path: Path, score: float) -> None:
    with pytest.raises(DataError, match=f"example odd: a score is {score}; expected a finite number"):
        trained(tiny_model, [GOOD, example("odd", ("a", score), ("1", 0.0))], tmp_path / "run")


def test_a_response_without_a_score_is_left_out_and_counted(tiny_model: Path, tmp_path: Path) -> None:
    data = [example("some", ("a", 1.0), ("b", None), ("1", 0.0))]
    report = trained(tiny_model, data, tmp_path / "run")
    assert (report["responses"], report["unscored_responses"]) == (2, 1)


@pytest.mark.parametrize("reference", [{}, {"good": [-1.0]}, {"good": [-1.0, math.nan, -1.0]}])
def test_a_missing_reference_is_named(tiny_model: Path, tmp_path: Path, reference: dict[str, list[float]]) -> None:
    with pytest.raises(DataError, match=r"example good: .*(compute the reference on the same data|finite number)"):
        train_policy(
            policy_of(tiny_model),
            [GOOD],
            reference,
            MdpoLinear(),
            Training(lora=LORA, max_prompt_length=64, max_length=128),
            folder=tmp_path,
            seed=0,
            micro_batch_size=1,
            advance=lambda _n: None,
        )


def test_a_reference_is_had_for_every_response(tiny_model: Path) -> None:
    found = reference_of(tiny_model, [GOOD, example("empty", ("a", 1.0), ("", 0.0))])
    assert [len(v) for v in found.values()] == [3, 2]
    assert all(math.isfinite(x) and x < 0 for values in found.values() for x in values)
