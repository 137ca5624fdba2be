"""Responses: how many each prompt gets, from which sources, and what is dropped and counted."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.engine.shards import partition
from harness.engine.store import Store
from harness.errors import ModelError
from harness.protocols import Arrived, Generator, Sampled, SampleRequest
from harness.recipe.data import ResponseGeneration
from harness.types import Completion
from tests.fake_server import FakeServer, completion
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


def served(url: str, **fields: Any) -> Any:
    return {"name": "openai", "model": "m", "base_url": url, "max_retries": 0, "concurrency": 4} | fields


def echo(body: dict[str, Any]) -> Any:
    return completion(f"{body['seed']} to {body['messages'][-1]['content']}")


class Echo(Generator):
    """Writes what depends on the prompt alone."""

    name: str = "echo"

    def generate(self, requests: Sequence[SampleRequest], *, seed: int, arrived: Arrived) -> None:
        for i, request in enumerate(requests):
            prompt = request.prompt if isinstance(request.prompt, str) else request.prompt[-1].content
            asked.extend((prompt, k) for k in request.samples)
            texts = {k: f"What about {k} and {zlib.crc32(prompt.encode())} of it?" for k in request.samples}
            arrived([Sampled(i, k, Completion(text=t, finish_reason="stop", tokens=4)) for k, t in texts.items()])


asked: list[Any] = []


def test_in_shards_the_same_responses_are_ranked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order and to the digit, and with other shards nothing is sampled again."""
    asked.clear()
    pool = Store(tmp_path / "store").pool
    whole = run(recipe(Echo()), tmp_path)
    assert len(list(pool.glob("*.jsonl"))) == 1
    monkeypatch.setattr(partition, "LARGEST", 3)
    shards = run(recipe(Echo()), tmp_path / "shards")
    assert len(asked) == 2 * len(set(asked)) == 80
    more = run(recipe(Echo(), n=5), tmp_path)
    assert len(asked) == 80 + 20
    assert len(list(pool.glob("*.jsonl"))) > 4
    for stage, file in (("responses", "responses.jsonl"), ("ranked", "ranked.jsonl"), ("ranked", "heldout.jsonl")):
        assert whole[stage].path(file).read_bytes() == shards[stage].path(file).read_bytes()
        assert whole[stage].report == shards[stage].report
        assert whole[stage].record.key == shards[stage].record.key
    fives = {g.id: [r.text for r in g.responses] for g in groups(more)}
    assert all(fives[g.id][: len(g.responses)] == [r.text for r in g.responses] for g in groups(whole))


class Filter:
    """A server that refuses what `refuses` says."""

    def __init__(self, refuses: Any) -> None:
        self.refuses = refuses

    def __call__(self, body: dict[str, Any]) -> Any:
        if self.refuses(body["messages"][-1]["content"]):
            return 400, {"error": {"message": "the prompt triggered our content management policy"}}, {}
        return echo(body)


def test_a_refused_prompt_has_fewer_responses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whether it is the first that is asked or a later one; it is asked again when others are, and told."""
    first = groups(run(recipe(Script()), tmp_path / "texts"))[0].messages[-1].content
    with FakeServer(Filter(lambda text: text == first)).running() as server:
        artifacts = run(recipe(served(server.url)), tmp_path)
        assert "2 samples were refused (generator 'openai': 2 of " in caplog.text
        assert "HTTP 400: the prompt triggered our content management policy" in caplog.text
        assert len(server.requests) == 40
        assert [len(g.responses) for g in groups(artifacts)] == [2] + [4] * 19
        assert artifacts["responses"].report["refused_samples"] == 2
        assert artifacts["ranked"].report["not_scored"] == 0
        run(recipe(served(server.url), seed_responses=False), tmp_path)  # asks for the training prompts' first samples
        counts = run(recipe(served(server.url), seed_responses=False, n=2), tmp_path)["responses"].report
        assert counts["dropped_refused"] == 1
        assert counts["prompts"] == 19


def test_only_refused_samples_are_left(tmp_path: Path) -> None:
    """A server that then refuses all that it is asked for is asked for one that it has written."""
    refused = [g.messages[-1].content for g in groups(run(recipe(Script()), tmp_path / "texts"))[::3][:6]]
    with FakeServer(Filter(lambda text: text in refused)).running() as server:
        four = run(recipe(served(server.url)), tmp_path)["responses"].report
        asked = len(server.requests)
        three = run(recipe(served(server.url), n=3), tmp_path)["responses"].report
        assert four["refused_samples"] == 2 * three["refused_samples"] == 12
        assert len(server.requests) <= asked + 6 + 1 + 6


@pytest.mark.parametrize("refuses", [lambda text: True, lambda text: len(text) % 5])
def test_a_server_that_refuses_most_prompts_stops_the_run(refuses: Any, tmp_path: Path) -> None:
    with FakeServer(Filter(refuses)).running() as server:
        with pytest.raises(ModelError, match="refused") as caught:
            run(recipe(served(server.url)), tmp_path)
        assert "\n" not in str(caught.value)
        assert len(server.requests) <= 10 or not refuses("12345")
