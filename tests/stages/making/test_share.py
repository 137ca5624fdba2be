"""New prompts for each seed prompt: nested shares, seed prompts alone, and too few prompts."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.errors import DataError, RecipeError
from harness.recipe.load import load_study
from harness.recipe.recipe import Recipe
from harness.types import RankedExample
from tests.stages.scripted import SCRIPT, Shortest, run
from tests.stages.test_prompts import Different


def recipe(per_seed: float | None, count: int = 40, report: Any = False, **responses: Any) -> Recipe:
    data = {
        "seeds": [{"name": "builtin", "limit": 20}],
        "holdout": 0.25,
        "prompts": {"generator": Different(), "count": count, "languages": []},
        "generated_per_seed": per_seed,
        "responses": {"generator": SCRIPT, "n": 3, **responses},
        "reward": Shortest(),
        "report": report,
    }
    return Recipe.model_validate({"name": "x", "policy": {"model": "a/b"}, "data": data})


def generated(per_seed: float | None, folder: Path, **options: Any) -> list[str]:
    artifacts = run(recipe(per_seed, **options), folder)
    rows = artifacts["ranked"].rows("ranked.jsonl", RankedExample)
    assert artifacts["ranked"].report["generated_prompts"] == sum(row.source == "generated" for row in rows)
    return [row.id for row in rows if row.source == "generated"]


def test_a_smaller_share_is_a_part_of_a_larger_one(tmp_path: Path) -> None:
    every = generated(None, tmp_path)
    shares = [generated(ratio, tmp_path) for ratio in (0, 0.5, 1, 2)]
    assert [len(share) for share in shares] == [0, 8, 15, 30]
    assert all(share == every[: len(share)] for share in shares)
    assert generated(2, tmp_path, seed_prompts=10) == every[:20]
    report = run(recipe(2), tmp_path)["share"].report
    assert report == {"new_prompts": 30, "seed_prompts": 15, "generated_per_seed": 2.0}


@pytest.mark.parametrize(("per_seed", "measured"), [(2, False), (None, True)])
def test_how_varied_what_is_trained_on_is(tmp_path: Path, per_seed: float | None, measured: bool) -> None:
    """45 prompts are too few for it, 55 are not; of each there are three responses."""
    report = run(recipe(per_seed, report={"perplexity": False, "embeddings": None}), tmp_path)["report"].report
    assert (report["prompt_self_bleu"] is not None) == measured
    assert report["response_self_bleu"] is not None


def test_seed_prompts_alone_write_no_new_ones(tmp_path: Path) -> None:
    assert not {"prompts", "share"} & run(recipe(0), tmp_path).keys()


def test_too_few_new_prompts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    message = r"4 for each of 15 seed prompts are 60 new prompts, and data\.prompts\.count is 40: raise it"
    with pytest.raises(DataError, match=message):
        run(recipe(4), tmp_path)
    fields: dict[str, Any] = {
        "name": "x",
        "policy": {"model": "smollm2-135m-instruct"},
        "data": {
            "seeds": [{"name": "builtin", "limit": 20}],
            "holdout": 0.25,
            "prompts": {"generator": {"name": "hf", "model": "smollm2-135m-instruct"}, "count": 40},
            "responses": {"generator": {"name": "hf", "model": "smollm2-135m-instruct"}, "n": 3},
            "reward": {"name": "length"},
        },
        "sweep": {"data.generated_per_seed": [0, 1, 4]},
    }
    with pytest.raises(RecipeError, match=message):
        load_study(fields)


@pytest.mark.parametrize(
    ("data", "message"),
    [({"prompts": None}, "`generated_per_seed` is a share of `prompts`"), ({"generated_per_seed": -1}, "greater than")],
)
def test_shares_of_nothing(data: dict[str, Any], message: str) -> None:
    fields = {**recipe(1).data.model_dump(), "prompts": {"generator": SCRIPT, "count": 2}, "reward": Shortest()}  # type: ignore[union-attr]
    fields |= {"seeds": [{"name": "builtin"}], "responses": {"generator": SCRIPT, "n": 2}, **data}
    with pytest.raises(ValidationError, match=message):
        Recipe.model_validate({"name": "x", "policy": {"model": "a/b"}, "data": fields})
    with pytest.raises(ValidationError, match="needs seed prompts"):
        recipe(1, seed_prompts=False)
