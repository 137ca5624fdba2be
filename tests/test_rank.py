"""Ranked rows and their report, and what compares reward models without changing what is trained."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.components import build
from harness.plan import make_plan
from harness.recipe import Recipe
from harness.types import RankedExample
from tests.a_recipe import RECIPE, recipe_folder, refused
from tests.test_augment import Script, recipe, run

LENGTH = {"name": "length"}


def with_rewards(reward: Any, *others: Any) -> Recipe:
    data = recipe().data.model_copy(
        update={"reward": build("reward", reward), "other_rewards": [build("reward", other) for other in others]}
    )
    return recipe().model_copy(update={"given_data": data})


def test_rows_say_their_ranks_and_what_made_them(tmp_path: Path) -> None:
    done = run(recipe(generator=Script(text="### {k}")), tmp_path)
    keys = {f"{role}_key": done[role].record.key for role in ("responses", "reward")}
    for row in done["ranked"].rows("ranked.jsonl", RankedExample):
        assert row.provenance == {"reward": "shortest", **keys}
        assert [r.rank for r in row.responses[2:]] == [None, None]
        assert sorted(r.text for r in row.responses[2:]) == ["### 0", "### 1"]


@given(st.lists(st.sampled_from([None, 0.0, 1.0, 2.0]), min_size=1, max_size=6))
def test_equal_scores_share_a_rank(scores: list[float | None]) -> None:
    from scipy.stats import rankdata

    from harness.rank import _rank
    from harness.types import Response, ResponseGroup

    responses = tuple(Response(text=str(i), source="s") for i in range(len(scores)))
    ranked = _rank(ResponseGroup(id="a", messages=(), responses=responses, source="s", split="train"), scores)
    known = [s for s in scores if s is not None]
    expected = sorted(rankdata([-s for s in known], method="min").astype(int).tolist()) if known else []
    assert [r.rank for r in ranked.responses] == expected + [None] * scores.count(None)
    assert [r.score for r in ranked.responses] == sorted(known, reverse=True) + [None] * scores.count(None)
    tied = [int(r.text) for r in ranked.responses]
    assert all(a < b for a, b in pairwise(tied) if scores[a] == scores[b])


def test_what_was_not_scored_is_no_tie(tmp_path: Path) -> None:
    report = run(recipe(generator=Script(text="### {k}")), tmp_path / "a")["ranked"].report
    assert (report["tied_responses"], report["not_scored"]) == (0, 40)
    tied = run(recipe(generator=Script(text="same {k}"), seed_prompts=4), tmp_path / "b")["ranked"].report
    assert tied["tied_responses"] == 4
    assert tied["score_and_length"]["value"] == pytest.approx(-1)
    assert tied["growth_with_n"][-1]["spread"] == pytest.approx(tied["mean_score_spread"])


def test_reward_models_are_compared(tmp_path: Path) -> None:
    shorter = {**LENGTH, "prefer": "shorter"}
    done = run(with_rewards({"name": "ensemble", "rewards": [LENGTH, shorter], "weights": [3, 1]}, shorter), tmp_path)
    report = done["agreement"].report
    names = ["ensemble", "length 1", "length 2", "length 3"]
    assert report["models"] == [{"name": name, "not_scored": 0} for name in names]
    found = {(pair["first"], pair["second"]): pair["tau"]["value"] for pair in report["pairs"]}
    assert len(found) == 6
    assert found["ensemble", "length 1"] == pytest.approx(1)
    assert found["ensemble", "length 2"] == pytest.approx(-1)
    assert found["length 1", "length 3"] == pytest.approx(-1)
    assert found["length 2", "length 3"] == pytest.approx(1)
    assert {pair["tau"]["n"] for pair in report["pairs"]} == {20}
    assert done["other/0"].report["admission"]["batch"] == {"applies": False}


def test_comparing_changes_nothing_that_is_trained() -> None:
    plain, compared = (
        make_plan(with_rewards(LENGTH)),
        make_plan(with_rewards(LENGTH, {"name": "noisy", "reward": LENGTH})),
    )
    assert "agreement" not in plain.data
    assert {"other/0", "other/0/part/0", "agreement"} <= set(compared.data)
    assert [r.policy.key for r in plain.rows if r.policy] == [r.policy.key for r in compared.rows if r.policy]
    assert [r.heldout.key for r in plain.rows if r.heldout] == [r.heldout.key for r in compared.rows if r.heldout]
    order = [stage.id for stage in compared.stages]
    assert order.index("other/0") < order.index("agreement")


def test_a_part_is_made_once_whatever_it_is_part_of() -> None:
    inner = {**LENGTH, "unit": "words"}
    noisy = [{"name": "noisy", "reward": inner, "flip": flip} for flip in (0.1, 0.3)]
    weak, strong = (make_plan(with_rewards(fields)).data for fields in noisy)
    alone = make_plan(with_rewards(inner)).data["reward"]
    both = make_plan(with_rewards({"name": "ensemble", "rewards": noisy})).data
    deep = {both[f"reward/part/{i}/part/0"].key for i in (0, 1)}
    assert {weak["reward/part/0"].key, strong["reward/part/0"].key, *deep} == {alone.key}
    assert weak["reward"].key != strong["reward"].key


def test_nothing_to_compare_with_is_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = recipe_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    start, end = RECIPE.index("  prompts:"), RECIPE.index("methods:")
    own = RECIPE[:start] + "  other_rewards: [{name: length}]\n" + RECIPE[end:]
    assert "`other_rewards` are compared with `reward`, which is missing" in refused(folder, own)
