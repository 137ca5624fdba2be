"""Reward models: measured on held-out pairs, planned once, and compared without changing what is trained."""

from pathlib import Path
from typing import Any

import pytest

from harness.components import build
from harness.files import FITTED, pair_hash
from harness.pipeline.plan import make_plan
from harness.recipe.recipe import Recipe
from harness.types import PreferencePair, prompt_id
from tests.a_recipe import RECIPE, recipe_folder, refused
from tests.stages.scripted import groups, recipe, run

LENGTH = {"name": "length"}


def with_rewards(reward: Any, *others: Any) -> Recipe:
    plain = recipe()
    assert plain.data
    rewards = {"reward": build("reward", reward), "other_rewards": [build("reward", other) for other in others]}
    return plain.model_copy(update={"data": plain.data.model_copy(update=rewards)})


def test_the_reward_model_is_measured_on_heldout_pairs(tmp_path: Path) -> None:
    artifacts = run(recipe(), tmp_path)
    pairs = [e for e in groups(artifacts) if e.split == "heldout"]
    wins = sum(len(e.responses[0].text) < len(e.responses[1].text) for e in pairs)
    accuracy = artifacts["reward"].report["heldout_accuracy"]
    assert accuracy["value"] == pytest.approx(wins / 5)
    assert accuracy["n"] == 5
    assert accuracy["ci95"][0] <= accuracy["value"] <= accuracy["ci95"][1]
    assert artifacts["reward"].report["training"] == {"pairs": 15}


def test_a_trained_one_says_what_it_was_fitted_on(tmp_path: Path) -> None:
    artifacts = run(with_rewards({"name": "features"}), tmp_path)
    folder = artifacts["reward"].folder
    judge = build("judge", {"name": "reward_model", "reward": {"name": "features"}, "checkpoint": str(folder)})
    train = artifacts["seeds"].rows("train.jsonl", PreferencePair)
    assert judge.fitted_on() == {pair_hash(prompt_id(p.messages), (p.chosen, p.rejected)) for p in train}
    panel = build("judge", {"name": "panel", "judges": [judge, {"name": "reward_model", "reward": LENGTH}]})
    assert panel.fitted_on() == judge.fitted_on()
    before = judge.identity()
    (folder / FITTED).unlink()
    again = build("judge", {"name": "reward_model", "reward": {"name": "features"}, "checkpoint": str(folder)})
    assert again.identity() == before  # a list of what it was fitted on makes it no other judge
    assert not again.fitted_on()
    assert not (run(recipe(), tmp_path / "untrained")["reward"].folder / FITTED).exists()


def test_reward_models_are_compared(tmp_path: Path) -> None:
    shorter = {**LENGTH, "prefer": "shorter"}
    ensemble = {"name": "ensemble", "rewards": [LENGTH, shorter], "weights": [3, 1]}
    artifacts = run(with_rewards(ensemble, shorter), tmp_path)
    report = artifacts["agreement"].report
    names = ["ensemble", "length 1", "length 2", "length 3"]
    assert report["models"] == [{"name": name, "not_scored": 0} for name in names]
    taus = {(pair["first"], pair["second"]): pair["tau"]["value"] for pair in report["pairs"]}
    assert len(taus) == 6
    assert taus["ensemble", "length 1"] == pytest.approx(1)
    assert taus["ensemble", "length 2"] == pytest.approx(-1)
    assert taus["length 1", "length 3"] == pytest.approx(-1)
    assert taus["length 2", "length 3"] == pytest.approx(1)
    assert {pair["tau"]["n"] for pair in report["pairs"]} == {20}
    assert artifacts["other/0"].report["admission"]["batch"] == {"applies": False}


def test_comparing_changes_nothing_that_is_trained() -> None:
    plain = make_plan(with_rewards(LENGTH))
    compared = make_plan(with_rewards(LENGTH, {"name": "noisy", "reward": LENGTH}))
    assert "agreement" not in plain.data
    assert {"other/0", "other/0/part/0", "agreement"} <= set(compared.data)
    assert [r.policy.key for r in plain.rows if r.policy] == [r.policy.key for r in compared.rows if r.policy]
    assert [r.heldout.key for r in plain.rows if r.heldout] == [r.heldout.key for r in compared.rows if r.heldout]
    order = [stage.id for stage in compared.stages]
    assert order.index("other/0") < order.index("agreement")


def test_a_part_is_one_stage_whatever_it_is_part_of() -> None:
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
    text = RECIPE[:start] + "  other_rewards: [{name: length}]\n" + RECIPE[end:]
    assert "`other_rewards` are compared with `reward`, which is missing" in refused(folder, text)
