"""Responses: how many each prompt gets, from which sources, and what is dropped and counted."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.recipe.data import ResponseGeneration
from tests.stages.scripted import Script, groups, recipe, run

WRITER = Script(text="Tell me something about subject number {i} please.")


def test_seed_prompts_keep_their_answers_and_new_prompts_have_none(tmp_path: Path) -> None:
    artifacts = run(recipe(prompts={"generator": WRITER, "count": 1}), tmp_path)
    for group in groups(artifacts):
        seeded = [] if group.source == "generated" else ["seed:chosen", "seed:rejected"]
        assert [r.source for r in group.responses] == seeded + ["script"] * (4 - len(seeded))
    assert artifacts["responses"].report["sampled"] == 4 + 20 * 2


@pytest.mark.parametrize(("seed_prompts", "count"), [(True, 15), (False, 0), (4, 4), (99, 15)])
def test_how_many_seed_prompts_are_ranked(seed_prompts: Any, count: int, tmp_path: Path) -> None:
    artifacts = run(recipe(prompts={"generator": WRITER, "count": 1}, seed_prompts=seed_prompts), tmp_path)
    assert artifacts["ranked"].report["train_prompts"] == count + 1
    assert artifacts["ranked"].report["heldout_prompts"] == 5


def test_two_responses_are_the_seed_pairs_themselves(tmp_path: Path) -> None:
    artifacts = run(recipe(n=2), tmp_path)
    assert artifacts["responses"].report["sampled"] == 0
    assert all({r.source for r in g.responses} == {"seed:chosen", "seed:rejected"} for g in groups(artifacts))


def test_groups_of_identical_responses_are_dropped_and_the_rest_counted(tmp_path: Path) -> None:
    same = Script(text="Tell me about the same old subject.", reason="length")
    prompts = {"generator": Script(text="What is new on day {i}?"), "count": 1}
    artifacts = run(recipe(prompts=prompts, generator=same), tmp_path)
    report = artifacts["responses"].report
    assert report["dropped_all_identical"] == 1
    assert report["cut_at_token_limit"] == report["sampled"] == 40
    assert report["repeated_responses"] == 20
    assert all(g.source != "generated" for g in groups(artifacts))


def source(text: str, n: int) -> dict[str, Any]:
    return {"generator": Script(text=text), "n": n}


def test_several_sources_share_the_responses(tmp_path: Path) -> None:
    sources = [source("a{k} {i}", 2), source("b{k} {i}", 1), source("a{k} {i}", 1)]
    seeded = run(recipe(generator=None, sources=sources, n=4), tmp_path)
    for group in groups(seeded):
        # A seed prompt has two responses, so the last sources write none.
        assert [r.text.split()[0] for r in group.responses if r.finish_reason] == ["a0", "a1"]
    sampled = run(recipe(generator=None, sources=sources, n=4, seed_responses=False), tmp_path)
    train = [g for g in groups(sampled) if g.split == "train"]
    # A generator that is named twice writes its next sample, not the same one again.
    assert [[r.text.split()[0] for r in g.responses] for g in train] == [["a0", "a1", "b0", "a2"]] * len(train)
    assert train


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"generator": Script(), "sources": [{"generator": Script(), "n": 4}]}, "give either `generator` or `sources`"),
        ({"generator": None}, "give either `generator` or `sources`"),
        ({"generator": None, "sources": [{"generator": Script(), "n": 3}], "n": 4}, "write 3 responses, but n is 4"),
    ],
)
def test_sources_that_do_not_add_up_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ResponseGeneration.model_validate(fields)


def test_n_is_the_sum_of_the_sources() -> None:
    generation = ResponseGeneration.model_validate({"sources": [{"generator": Script(), "n": k} for k in (2, 3)]})
    assert generation.n == 5
