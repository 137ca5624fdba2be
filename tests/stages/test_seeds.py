"""Seed pairs: the split, its limit, and prompts that leaked from an evaluation set."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.components import build
from harness.pipeline.plan import make_plan
from harness.recipe.recipe import Recipe
from harness.stages.seeds import LeakedSeed
from harness.types import PreferencePair, RankedExample
from tests.stages.scripted import groups, own_pairs, recipe, run, run_stages


def test_the_split_has_no_prompt_on_both_sides(tmp_path: Path) -> None:
    artifacts = run(recipe(), tmp_path)
    assert artifacts["seeds"].report == {
        "train": 15,
        "heldout": 5,
        "repeated_prompts": 0,
        "leaks": {},
        "leaks_dropped": 0,
        "left_out": {"same_text": 0, "repeated_prompts": 0, "unreadable": 0},
    }
    train, heldout = ({e.id for e in groups(artifacts) if e.split == split} for split in ("train", "heldout"))
    assert (len(train), len(heldout)) == (15, 5)
    assert not train & heldout


def test_a_limit_on_training_keeps_the_heldout_pairs(tmp_path: Path) -> None:
    artifacts = {limit: run(own_pairs(holdout=6, train_limit=limit), tmp_path) for limit in (None, 4, 99)}
    rows = {
        limit: [a["ranked"].rows(file, RankedExample) for file in ("ranked.jsonl", "heldout.jsonl")]
        for limit, a in artifacts.items()
    }
    assert [len(split) for split in rows[None]] == [14, 6]
    assert rows[4] == [rows[None][0][:4], rows[None][1]]
    assert rows[99] == rows[None]


def test_a_missing_limit_is_not_in_the_key() -> None:
    plain, limited = (make_plan(own_pairs(**fields)).data["seeds"] for fields in ({}, {"train_limit": 4}))
    assert "train_limit" not in plain.params
    assert plain.key != limited.key


def test_training_tokens_are_estimated(tmp_path: Path) -> None:
    plan = make_plan(own_pairs(train_limit=4))
    (tokens,) = [stage.estimate().trained_tokens for stage in plan.stages if stage.name == "train"]
    pairs = run(own_pairs(), tmp_path)["seeds"].rows("train.jsonl", PreferencePair)
    characters = sum(len(p.chosen) + len(p.rejected) for p in pairs) / len(pairs)
    assert tokens == pytest.approx(4 * characters / 4, rel=0.3)


def evaluation_prompts() -> list[str]:
    return [text for _, text in build("benchmark", {"name": "alpaca_eval", "prompts": "builtin"}).all_prompts()]  # type: ignore[attr-defined]


def evaluated(seeds: Path, rows: list[dict[str, Any]], benchmarks: list[dict[str, Any]], **data: Any) -> Recipe:
    """A recipe with these rows as its seed set, written to the file `seeds`, and these benchmarks."""
    seeds.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fields = {
        "name": "x",
        "policy": {"model": "a/b"},
        "data": {"seeds": [{"name": "jsonl", "path": str(seeds)}], **data},
        "evaluation": {"judge": {"name": "local", "model": "a/b"}, "benchmarks": benchmarks},
    }
    return Recipe.model_validate(fields)


def topics(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"Tell me about topic number {i}.", "chosen": "a", "rejected": "b"} for i in range(count)]


def test_a_leak_in_an_earlier_turn_is_dropped(tmp_path: Path) -> None:
    turns = [("user", evaluation_prompts()[0]), ("assistant", "Gladly."), ("user", "And in one sentence?")]
    leaked = {"prompt": [{"role": r, "content": c} for r, c in turns], "chosen": "a", "rejected": "b"}
    benchmarks = [{"name": "alpaca_eval", "prompts": "builtin"}]
    plan = make_plan(evaluated(tmp_path / "seeds.jsonl", [leaked, *topics(8)], benchmarks))
    (artifact,) = run_stages([plan.data["seeds"]], tmp_path)
    assert artifact.report["leaks_dropped"] == 1


@pytest.mark.parametrize("action", ["drop", "keep"])
def test_seed_prompts_of_the_evaluation_are_counted(action: str, tmp_path: Path) -> None:
    prompt = evaluation_prompts()[-1]
    rows = [
        {"prompt": "Name three prime numbers.", "chosen": "2, 3, 5", "rejected": "4"},
        {"prompt": f"Well, {prompt.upper()}", "chosen": "a", "rejected": "b"},
        *topics(8),
    ]

    def seeds_stage(*benchmarks: dict[str, Any]) -> Any:
        decontaminate = {"action": action}
        made = evaluated(tmp_path / "seeds.jsonl", rows, list(benchmarks), decontaminate=decontaminate)
        return make_plan(made).data["seeds"]

    alpaca_eval = {"name": "alpaca_eval", "prompts": "builtin", "limit": 2}
    mt_bench = {"name": "mt_bench", "questions": "builtin"}
    stage = seeds_stage(alpaca_eval, mt_bench)
    (artifact,) = run_stages([stage], tmp_path)
    assert artifact.report["leaks"] == {"alpaca_eval": 1, "mt_bench": 0}
    kept = artifact.report["train"] + artifact.report["heldout"]
    assert (kept, artifact.report["leaks_dropped"]) == ((9, 1) if action == "drop" else (10, 0))
    (leak,) = artifact.rows("leaks.jsonl", LeakedSeed)
    assert leak.matched == prompt
    # A benchmark's limit has no effect, since its full set is searched; another set of benchmarks has.
    assert seeds_stage({**alpaca_eval, "limit": 5}, mt_bench).key == stage.key
    assert seeds_stage(alpaca_eval).key != stage.key
