"""Seed sets as a recipe has them: mixed by weight, checked in words, and read only where that takes a moment."""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.data.read import likeness
from harness.engine.execute import execute
from harness.engine.stage import Stage
from harness.engine.store import Artifact, Store
from harness.pipeline.plan import make_plan
from harness.recipe.recipe import Recipe
from harness.types import PreferencePair
from tests.a_recipe import RECIPE, edited, load, recipe_folder, refused


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return recipe_folder(tmp_path)


class Silent:
    """A reporter that draws nothing."""

    def start(self, what: str, total: int | None) -> None: ...
    def advance(self, items: int) -> None: ...
    def stage(self, stage: Stage, number: int, total: int) -> None: ...
    def done(self, stage: Stage, report: dict[str, Any], seconds: float) -> None: ...
    def waiting(self, stage: Stage) -> None: ...


def seeds_of(tmp_path: Path, *seeds: dict[str, Any]) -> Artifact:
    """The artifact of the seeds' stage."""
    data = {"seeds": list(seeds), "holdout": 0.2}
    methods = [{"id": "dpo", "loss": {"name": "dpo_best_worst"}}]
    recipe = Recipe.model_validate({"name": "x", "policy": {"model": "a/b"}, "data": data, "methods": methods})
    stage = make_plan(recipe).data["seeds"]
    return execute(SimpleNamespace(stages=[stage]), Store(tmp_path / "store"), Silent()).artifacts[stage.key]


def written(path: Path, form: str, start: int, count: int) -> str:
    """A file of `count` pairs from number `start`, the prompt in the column `form` and in its way of writing."""
    ask = {"prompt": "Question number {}?", "question": "question number {}", "instruction": "QUESTION  number {}!"}[
        form
    ]
    rows = [{form: ask.format(i), "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(start, start + count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_sets_are_mixed_by_their_weights_and_split_together(tmp_path: Path) -> None:
    seeds = [
        {"name": "jsonl", "path": written(tmp_path / "a.jsonl", "prompt", 0, 100)},
        {"name": "jsonl", "path": written(tmp_path / "b.jsonl", "question", 50, 100), "weight": 0.4},
        {"name": "jsonl", "path": written(tmp_path / "c.jsonl", "instruction", 0, 100), "limit": 50, "weight": 0.5},
        {"name": "jsonl", "path": str(tmp_path / "a.jsonl"), "limit": 10},
    ]
    artifact = seeds_of(tmp_path, *seeds)
    train, heldout = (artifact.rows(f"{side}.jsonl", PreferencePair) for side in ("train", "heldout"))
    assert Counter(p.source for p in (*train, *heldout)) == {"a": 100, "b": 40, "c": 25}
    assert artifact.report["repeated_prompts"] == 10  # the last entry's, which the first has
    assert len(heldout) == 33
    assert not {likeness(p.messages) for p in train} & {likeness(p.messages) for p in heldout}
    again = seeds_of(tmp_path / "elsewhere", *seeds)
    assert [p.id for p in again.rows("heldout.jsonl", PreferencePair)] == [p.id for p in heldout]


def test_the_first_pairs_have_each_sets_share(tmp_path: Path) -> None:
    """However many a recipe takes, as `seed_prompts`, `train_limit` or a reward model's `pairs`."""
    sizes = {"a": 100, "b": 40, "c": 7}
    seeds, start = [], 0
    for name, count in sizes.items():
        seeds.append({"name": "jsonl", "path": written(tmp_path / f"{name}.jsonl", "prompt", start, count)})
        start += count
    train = seeds_of(tmp_path, *seeds).rows("train.jsonl", PreferencePair)
    whole = Counter(p.source for p in train)
    for taken in range(1, len(train) + 1):
        counts = Counter(p.source for p in train[:taken])
        for name in sizes:
            assert abs(counts[name] - taken * whole[name] / len(train)) < 1.5
    for name in sizes:
        numbers = [int(p.chosen.removeprefix("good ")) for p in train if p.source == name]
        assert numbers == sorted(numbers)


def test_what_sets_leave_out_is_in_the_report(tmp_path: Path) -> None:
    rows = [
        {"chosen": f"\n\nHuman: {i}\n\nAssistant: a", "rejected": f"\n\nHuman: {i}\n\nAssistant: b"} for i in range(9)
    ]
    rows += [rows[0], {**rows[1], "chosen": ""}, {"chosen": rows[2]["chosen"], "rejected": rows[2]["chosen"]}]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    artifact = seeds_of(tmp_path, {"name": "hh_rlhf", "path": str(path)}, {"name": "builtin"})
    assert artifact.report["left_out"] == {"same_text": 1, "repeated_prompts": 1, "unreadable": 1}
    assert artifact.report["train"] + artifact.report["heldout"] == 9 + 64


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("{promt: prompt}", "seeds.0.columns.promt: unknown field; did you mean 'prompt'? "),
        ("{prompt: promtp}", "columns.prompt: there is no column 'promtp'; did you mean 'prompt'? "),
        ("{prompt: 3}", "seeds.0.columns.prompt: expected text"),
        ("{prompt: a, instruction: b}", "`prompt` and `instruction` are two names for the prompt"),
        ("prompt", "seeds.0.columns: expected a mapping of fields"),
    ],
)
def test_a_wrong_mapping_is_one_line(folder: Path, columns: str, message: str) -> None:
    told = refused(folder, edited("path: pairs.jsonl", f"path: pairs.jsonl\n      columns: {columns}"))
    assert message in told
    assert told.startswith("recipes/x.yaml:")


@pytest.mark.parametrize(
    "seed",
    [
        "{name: hub, dataset: someone/pairs, columns: {prompt: q}}",
        "{name: orca_dpo_pairs}",
        "{name: ultrafeedback, limit: 1000}",
        "{name: hh_rlhf, data_dir: helpful-base}",
        "{name: instruction_preference}",
    ],
)
def test_validating_downloads_nothing(folder: Path, seed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    text = RECIPE.replace("- name: jsonl\n      path: pairs.jsonl", f"- {seed}")
    assert text != RECIPE
    assert load(folder, text).data.seeds[0].remarks


def test_a_wrong_copy_is_blamed_on_its_path(folder: Path) -> None:
    seed = "- name: orca_dpo_pairs\n      path: pears.jsonl"
    told = refused(folder, RECIPE.replace("- name: jsonl\n      path: pairs.jsonl", seed))
    assert "data.seeds.0.path: " in told
    assert "did you mean 'pairs.jsonl'?" in told
