"""The augmentation's stages with a scripted generator and reward model: who gets how many responses, what is dropped
and counted, and how they are ranked."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from harness.augment import LeakedSeed
from harness.components import Component, build
from harness.errors import DataError
from harness.execute import execute
from harness.plan import make_plan
from harness.protocols import Arrived, Ready, Sampled, SampleRequest
from harness.recipe import Recipe, ResponseGeneration
from harness.stages import Stage
from harness.store import Artifact, Store
from harness.types import Completion, Message, PreferencePair, RankedExample, ResponseGroup


class Script(Component):
    """Writes `text` with the sample's number in it; `{i}` is the prompt's place in the call."""

    name: str = "script"
    text: str = "answer {k} of {i}"
    reason: str = "stop"

    def generate(self, requests: Sequence[SampleRequest], *, seed: int, arrived: Arrived) -> None:
        for i, request in enumerate(requests):
            for k in request.samples:
                done = Completion(text=self.text.format(i=i, k=k), finish_reason=self.reason, tokens=4)
                arrived([Sampled(i, k, done)])


class Shortest(Component):
    """Prefers short texts; can't score any with '###' in it."""

    name: str = "shortest"

    def fit(self, pairs: Any, folder: Path, *, seed: int, advance: Any) -> dict[str, Any]:
        return {"pairs": len(pairs)}

    def score(self, rows: Sequence[tuple[Any, str]], ready: Ready) -> list[float | None]:
        return [None if "###" in text else -float(len(text)) for _, text in rows]


class Silent:
    """A reporter that draws nothing."""

    def start(self, what: str, total: int | None) -> None: ...
    def advance(self, items: int) -> None: ...
    def stage(self, stage: Stage, number: int, total: int) -> None: ...
    def done(self, stage: Stage, report: dict[str, Any], seconds: float) -> None: ...
    def waiting(self, stage: Stage) -> None: ...


SCRIPT = Script()


def recipe(generator: Component | None = SCRIPT, prompts: dict[str, Any] | None = None, **responses: Any) -> Recipe:
    data: dict[str, Any] = {
        "seeds": [{"name": "builtin", "limit": 20}],
        "holdout": 0.25,
        "responses": {"generator": generator, "n": 4, **responses},
        "reward": Shortest(),
        "report": {"perplexity": False},
    }
    if prompts:
        data["prompts"] = prompts
    methods = [{"id": "dpo", "loss": {"name": "dpo_best_worst"}}]
    return Recipe.model_validate({"name": "x", "policy": {"model": "a/b"}, "data": data, "methods": methods})


def own_pairs(**data: Any) -> Recipe:
    """A recipe that trains on the seed's own pairs."""
    fields: dict[str, Any] = {"seeds": [{"name": "builtin", "limit": 20}], "holdout": 0.25, "report": False, **data}
    methods = [{"id": "dpo", "loss": {"name": "dpo_best_worst"}}]
    return Recipe.model_validate({"name": "x", "policy": {"model": "a/b"}, "data": fields, "methods": methods})


def run(made: Recipe, tmp_path: Path) -> dict[str, Artifact]:
    """Run the data stages up to the ranked dataset."""
    plan = make_plan(made)
    wanted = {name: stage for name, stage in plan.data.items() if not name.startswith("reference")}
    executed = execute(SimpleNamespace(stages=list(wanted.values())), Store(tmp_path / "store"), Silent())
    return {name: executed.artifacts[stage.key] for name, stage in wanted.items()}


def groups(done: dict[str, Artifact]) -> list[ResponseGroup]:
    return done["responses"].rows("responses.jsonl", ResponseGroup)


def test_the_split_has_no_prompt_on_both_sides(tmp_path: Path) -> None:
    done = run(recipe(), tmp_path)
    left_out = {"same_text": 0, "repeated_prompts": 0, "unreadable": 0}
    report = {"train": 15, "heldout": 5, "repeated_prompts": 0, "leaks": {}, "leaks_dropped": 0}
    report = {**report, "left_out": left_out}
    assert done["seeds"].report == report
    sides = [{e.id for e in groups(done) if e.split == side} for side in ("train", "heldout")]
    assert [len(s) for s in sides] == [15, 5]
    assert not sides[0] & sides[1]


def test_seed_prompts_keep_their_answers_and_new_ones_are_sampled_whole(tmp_path: Path) -> None:
    writer = Script(text="Tell me something about subject number {i} please.")
    done = run(recipe(prompts={"generator": writer, "count": 1}), tmp_path)
    for group in groups(done):
        sources = [r.source for r in group.responses]
        given = [] if group.source == "generated" else ["seed:chosen", "seed:rejected"]
        assert sources == given + ["script"] * (4 - len(given))
    assert done["responses"].report["sampled"] == 4 + 20 * 2
    assert done["prompts"].report["kept"] == 1
    assert done["prompts"].report["written"] == 2
    assert sum(done["prompts"].report["dropped"].values()) == 1


@pytest.mark.parametrize(("wanted", "there"), [(True, 15), (False, 0), (4, 4), (99, 15)])
def test_how_many_seed_prompts_are_ranked(wanted: Any, there: int, tmp_path: Path) -> None:
    writer = Script(text="Tell me something about subject number {i} please.")
    done = run(recipe(prompts={"generator": writer, "count": 1}, seed_prompts=wanted), tmp_path)
    assert done["ranked"].report["train_prompts"] == there + 1
    assert done["ranked"].report["heldout_prompts"] == 5


def test_two_responses_are_the_seed_pairs_themselves(tmp_path: Path) -> None:
    done = run(recipe(n=2), tmp_path)
    assert done["responses"].report["sampled"] == 0
    assert all({r.source for r in g.responses} == {"seed:chosen", "seed:rejected"} for g in groups(done))


def test_without_responses_the_seeds_own_pairs_are_the_ranked_dataset(tmp_path: Path) -> None:
    done = run(own_pairs(), tmp_path)
    assert set(done) == {"seeds", "ranked", "dataset"}
    assert done["ranked"].report == {"train_prompts": 15, "heldout_prompts": 5, "responses": 30}
    for file, split in (("ranked.jsonl", "train"), ("heldout.jsonl", "heldout")):
        pairs = {p.id: p for p in done["seeds"].rows(f"{split}.jsonl", PreferencePair)}
        rows = done["ranked"].rows(file, RankedExample)
        assert [(r.id, r.split) for r in rows] == [(i, split) for i in pairs]
        for row in rows:
            best, worst = row.responses
            assert (best.text, best.source, best.score) == (pairs[row.id].chosen, "seed:chosen", 1.0)
            assert (worst.text, worst.source, worst.score) == (pairs[row.id].rejected, "seed:rejected", 0.0)


def test_a_limit_on_training_leaves_what_is_held_out(tmp_path: Path) -> None:
    done = {limit: run(own_pairs(holdout=6, train_limit=limit), tmp_path) for limit in (None, 4, 99)}
    rows = {k: [d["ranked"].rows(f, RankedExample) for f in ("ranked.jsonl", "heldout.jsonl")] for k, d in done.items()}
    assert [len(side) for side in rows[None]] == [14, 6]
    assert rows[4] == [rows[None][0][:4], rows[None][1]]
    assert rows[99] == rows[None]


def test_a_limit_that_is_not_given_is_in_no_key() -> None:
    plain, limited = (make_plan(own_pairs(**fields)).data["seeds"] for fields in ({}, {"train_limit": 4}))
    assert "train_limit" not in plain.params
    assert plain.key != limited.key


def test_what_is_trained_on_is_estimated(tmp_path: Path) -> None:
    plan = make_plan(own_pairs(train_limit=4))
    (trained,) = [stage.estimate().trained_tokens for stage in plan.stages if stage.name == "train"]
    pairs = run(own_pairs(), tmp_path)["seeds"].rows("train.jsonl", PreferencePair)
    characters = sum(len(p.chosen) + len(p.rejected) for p in pairs) / len(pairs)
    assert trained == pytest.approx(4 * characters / 4, rel=0.3)


def test_groups_of_identical_responses_are_dropped_and_the_rest_counted(tmp_path: Path) -> None:
    same = Script(text="Tell me about the same old subject.", reason="length")
    done = run(
        recipe(prompts={"generator": Script(text="What is new on day {i}?"), "count": 1}, generator=same), tmp_path
    )
    report = done["responses"].report
    assert report["dropped_all_identical"] == 1
    assert report["cut_at_token_limit"] == report["sampled"] == 40
    assert report["repeated_responses"] == 20
    assert all(g.source != "generated" for g in groups(done))


def test_ranked_best_first_and_what_is_not_scored_last(tmp_path: Path) -> None:
    done = run(recipe(generator=Script(text="### {k}")), tmp_path)
    rows = done["ranked"].rows("ranked.jsonl", RankedExample)
    for row in rows:
        scores = [r.score for r in row.responses]
        assert scores[0] >= scores[1]
        assert scores[2:] == [None, None]
        assert scores[0] == -min(len(r.text) for r in row.responses[:2])
    assert done["ranked"].report["not_scored"] == 2 * 20
    assert json.loads((done["ranked"].folder / "report.json").read_text()) == done["ranked"].report


def test_the_reward_model_is_measured_on_held_out_pairs(tmp_path: Path) -> None:
    done = run(recipe(), tmp_path)
    pairs = [e for e in groups(done) if e.split == "heldout"]
    wins = sum(len(e.responses[0].text) < len(e.responses[1].text) for e in pairs)
    accuracy = done["reward"].report["heldout_accuracy"]
    assert accuracy["value"] == pytest.approx(wins / 5)
    assert accuracy["n"] == 5
    assert accuracy["ci95"][0] <= accuracy["value"] <= accuracy["ci95"][1]
    assert done["reward"].report["training"] == {"pairs": 15}


def test_a_generator_that_writes_nothing_usable_is_an_error(tmp_path: Path) -> None:
    silent = recipe(prompts={"generator": Script(text=" "), "count": 3, "max_attempts": 2})
    with pytest.raises(DataError, match=r"none of \d+ written prompts was usable \(\{'empty'"):
        run(silent, tmp_path)


def test_new_prompts_record_what_they_were_shown(tmp_path: Path) -> None:
    writer = Script(text="Tell me something about subject number {i} please.")
    done = run(recipe(prompts={"generator": writer, "count": 1, "shots": 2}), tmp_path)
    (line,) = (done["prompts"].folder / "prompts.jsonl").read_text().splitlines()
    train = {json.loads(row)["id"] for row in (done["seeds"].folder / "train.jsonl").read_text().splitlines()}
    shots = json.loads(line)["shots"]
    assert len(shots) == 2
    assert set(shots) <= train
    assert Message.model_validate(json.loads(line)["messages"][-1]).role == "user"


SEEDS = (
    '{"prompt": "Name three prime numbers.", "chosen": "2, 3, 5", "rejected": "4"}\n'
    + '{"prompt": "%s", "chosen": "a", "rejected": "b"}\n'
    + "".join(f'{{"prompt": "Tell me about topic number {i}.", "chosen": "a", "rejected": "b"}}\n' for i in range(8))
)


class Different(Script):
    """A text of its own for every request and sample, handed over one at a time."""

    name: str = "different"

    def generate(self, requests: Sequence[SampleRequest], *, seed: int, arrived: Arrived) -> None:
        for i, request in enumerate(requests):
            for k in request.samples:
                said = hashlib.sha256(f"{seed} {request.prompt} {k}".encode()).hexdigest()
                text = " ".join(said[j : j + 6] for j in range(0, 60, 6))
                arrived([Sampled(i, k, Completion(text=f"Explain {text}?", finish_reason="stop", tokens=4))])


def test_equal_few_shot_prompts_are_written_to_anew(tmp_path: Path) -> None:
    """One shot of 15 rows, 40 wanted: many requests of a round are equal, and each has a text of its own."""
    made = recipe(prompts={"generator": Different(), "count": 40, "shots": 1, "languages": []})
    done = run(made, tmp_path)
    assert done["prompts"].report["kept"] == 40
    assert done["prompts"].report["written"] == 50
    again = run(made, tmp_path / "again")
    files = [(d["prompts"].folder / "prompts.jsonl").read_bytes() for d in (done, again)]
    assert files[0] == files[1]


def test_a_round_that_falls_short_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = Script(text="Tell me something about the same old subject please.")
    done = run(recipe(prompts={"generator": writer, "count": 3, "max_attempts": 2}), tmp_path)
    assert done["prompts"].report["kept"] == 1
    assert "1 of 3 wanted prompts after 2 rounds" in caplog.text


def test_a_leak_in_an_earlier_turn_is_found(tmp_path: Path) -> None:
    asked = build("benchmark", {"name": "alpaca_eval", "prompts": "builtin"}).all_prompts()[0][1]
    turns = [("user", asked), ("assistant", "Gladly."), ("user", "And in one sentence?")]
    rows = [{"prompt": [{"role": r, "content": c} for r, c in turns], "chosen": "a", "rejected": "b"}]
    rows += [{"prompt": f"Tell me about topic number {i}.", "chosen": "a", "rejected": "b"} for i in range(8)]
    (tmp_path / "seeds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    benchmarks = [{"name": "alpaca_eval", "prompts": "builtin"}]
    fields = {
        "name": "x",
        "policy": {"model": "a/b"},
        "data": {"seeds": [{"name": "jsonl", "path": str(tmp_path / "seeds.jsonl")}]},
        "evaluation": {"judge": {"name": "local", "model": "a/b"}, "benchmarks": benchmarks},
    }
    stage = make_plan(Recipe.model_validate(fields)).data["seeds"]
    executed = execute(SimpleNamespace(stages=[stage]), Store(tmp_path / "store"), Silent())
    assert executed.artifacts[stage.key].report["leaks_dropped"] == 1


@pytest.mark.parametrize("action", ["drop", "keep"])
def test_seed_prompts_of_the_evaluation_are_dropped_and_counted(action: str, tmp_path: Path) -> None:
    evaluation = {
        "judge": {"name": "local", "model": "a/b"},
        "benchmarks": [
            {"name": "alpaca_eval", "prompts": "builtin", "limit": 2},
            {"name": "mt_bench", "questions": "builtin"},
        ],
    }
    asked = build("benchmark", {"name": "alpaca_eval", "prompts": "builtin"}).all_prompts()[-1][1]
    (tmp_path / "seeds.jsonl").write_text(SEEDS % json.dumps(f"Well, {asked.upper()}")[1:-1])
    data = {"seeds": [{"name": "jsonl", "path": str(tmp_path / "seeds.jsonl")}], "decontaminate": {"action": action}}
    fields = {"name": "x", "policy": {"model": "a/b"}, "data": data, "evaluation": evaluation}
    plan = make_plan(Recipe.model_validate(fields))
    (artifact,) = execute(
        SimpleNamespace(stages=[plan.data["seeds"]]), Store(tmp_path / "store"), Silent()
    ).artifacts.values()
    assert artifact.report["leaks"] == {"alpaca_eval": 1, "mt_bench": 0}
    kept = artifact.report["train"] + artifact.report["heldout"]
    assert (kept, artifact.report["leaks_dropped"]) == ((9, 1) if action == "drop" else (10, 0))
    (leak,) = artifact.rows("leaks.jsonl", LeakedSeed)
    assert leak.matched == asked
    # A benchmark's limit changes nothing of it; what is looked for does.
    evaluation["benchmarks"][0]["limit"] = 5
    assert make_plan(Recipe.model_validate(fields)).data["seeds"].key == plan.data["seeds"].key
    evaluation["benchmarks"].pop()
    assert make_plan(Recipe.model_validate(fields)).data["seeds"].key != plan.data["seeds"].key


def test_several_sources_share_the_responses(tmp_path: Path) -> None:
    def source(text: str, n: int) -> dict[str, Any]:
        return {"generator": Script(text=text), "n": n}

    made = recipe(generator=None, sources=[source("a{k} {i}", 2), source("b{k} {i}", 1), source("a{k} {i}", 1)], n=4)
    for group in groups(run(made, tmp_path)):
        written = [r.text.split()[0] for r in group.responses if r.finish_reason]
        # Of a seed prompt two are given, and what the last sources would write is left out.
        assert written == ["a0", "a1"]
    fields = {"sources": [source("a{k} {i}", 2), source("b{k} {i}", 1), source("a{k} {i}", 1)], "seed_responses": False}
    done = run(recipe(generator=None, n=4, **fields), tmp_path / "own")
    train = [g for g in groups(done) if g.split == "train"]
    # A generator that is named twice writes its next sample, not the same one again.
    assert [[r.text.split()[0] for r in g.responses] for g in train] == [["a0", "a1", "b0", "a2"]] * len(train)
    assert train


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"generator": Script(), "sources": [{"generator": Script(), "n": 4}]}, "give either `generator` or `sources`"),
        ({"generator": None}, "give either `generator` or `sources`"),
        ({"generator": None, "sources": [{"generator": Script(), "n": 3}], "n": 4}, "write 3 responses, and n is 4"),
    ],
)
def test_sources_that_do_not_add_up_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ResponseGeneration.model_validate(fields)


def test_n_is_that_of_the_sources() -> None:
    made = ResponseGeneration.model_validate({"sources": [{"generator": Script(), "n": k} for k in (2, 3)]})
    assert made.n == 5
