"""Rankings made elsewhere: every layout gives the same dataset, nothing is lost silently, and held-out prompts stay."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from pydantic import ValidationError

from harness.components import build
from harness.data.convert import import_
from harness.data.read import read_pairs
from harness.errors import DataError
from harness.recipe.recipe import Recipe
from harness.types import RankedExample
from tests.stages.scripted import run

TEXTS, SCORES, MODELS = ("a", "b", "c"), (0.5, 2.0, -1.0), ("m1", "m2", "m3")


def user(i: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"prompt {i}"}]


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def harness_row(i: int, scores: Any = SCORES) -> dict[str, Any]:
    responses = [{"text": f"{t} {i}", "source": m, "score": s} for t, m, s in zip(TEXTS, MODELS, scores, strict=True)]
    return {"messages": user(i), "responses": responses}


def simpo(i: int) -> dict[str, Any]:
    texts = [f"{t} {i}" for t in TEXTS]
    ends = {"chosen": [*user(i), *said(texts[1])], "rejected": [*user(i), *said(texts[2])]}
    return {"prompt": f"prompt {i}", "all_generated_responses": texts, "all_rm_scores": list(SCORES), **ends}


def nemo(i: int) -> dict[str, Any]:
    of = zip(TEXTS, (1, 0, 2), SCORES, strict=True)
    return {
        "context": user(i),
        "completions": [{"rank": r, "completion": said(f"{t} {i}"), "reward": s} for t, r, s in of],
    }


def nectar(i: int) -> dict[str, Any]:
    answers = [{"answer": f"{t} {i}", "model": m, "rank": r} for t, m, r in zip(TEXTS, MODELS, (2, 1, 3), strict=True)]
    return {"prompt": f"\n\nHuman: prompt {i}\n\nAssistant: ", "answers": answers, "num_responses": 3, "turns": 1}


def ultrafeedback(i: int) -> dict[str, Any]:
    of = zip(TEXTS, MODELS, SCORES, strict=True)
    completions = [{"response": f"{t} {i}", "model": m, "overall_score": s, "critique": "x"} for t, m, s in of]
    return {"source": "flan", "instruction": f"prompt {i}", "models": list(MODELS), "completions": completions}


def file(folder: Path, rows: list[dict[str, Any]], name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def recipe(ranked: Any, **data: Any) -> Recipe:
    fields = {"ranked": str(ranked) if isinstance(ranked, Path) else ranked, "holdout": 2, "report": False, **data}
    methods = [{"id": "dpo", "loss": {"name": "dpo_best_worst"}}]
    return Recipe.model_validate({"name": "x", "policy": {"model": "a/b"}, "data": fields, "methods": methods})


@pytest.mark.parametrize("layout", [harness_row, simpo, nemo, nectar, ultrafeedback])
def test_every_layout_gives_all_responses_best_first(layout: Any, tmp_path: Path) -> None:
    artifacts = run(recipe(file(tmp_path, [layout(i) for i in range(8)])), tmp_path)
    report = artifacts["ranked"].report
    assert (report["train_prompts"], report["heldout_prompts"], report["responses"]) == (6, 2, 18)
    assert (report["not_scored"], report["tied_responses"], report["prompts_by_responses"]) == (0, 0, {"3": 6})
    seen = set()
    for name in ("ranked.jsonl", "heldout.jsonl"):
        for example in artifacts["ranked"].rows(name, RankedExample):
            seen.add(example.id)
            assert [(r.text[0], r.rank) for r in example.responses] == [("b", 1), ("a", 2), ("c", 3)]
            scores = [r.score for r in example.responses]
            assert scores == ([-1.0, -2.0, -3.0] if layout is nectar else [2.0, 0.5, -1.0])
            named = layout in (harness_row, nectar, ultrafeedback)
            assert [r.source for r in example.responses] == (["m2", "m1", "m3"] if named else ["imported"] * 3)
    assert len(seen) == 8


def test_the_same_rows_through_harness_import_give_the_same_dataset(tmp_path: Path) -> None:
    source = file(tmp_path, [simpo(i) for i in range(8)], "direct.jsonl")
    import_(source, tmp_path / "imported.jsonl", "simpo", "direct")
    direct = run(recipe(source), tmp_path / "1")["ranked"].rows("ranked.jsonl", RankedExample)
    through = run(recipe(tmp_path / "imported.jsonl"), tmp_path / "2")["ranked"].rows("ranked.jsonl", RankedExample)
    assert [(e.id, e.responses) for e in direct] == [(e.id, e.responses) for e in through]


def test_missing_scores_ties_and_repeats_are_counted(tmp_path: Path) -> None:
    rows = [harness_row(i) for i in range(6)]
    rows += [harness_row(6, (None, 2.0, 1.0)), harness_row(7, (1.0, 1.0, 0.0))]
    rows += [harness_row(8, (1.0, 1.0, 1.0)), harness_row(9, (None, None, 1.0)), harness_row(0)]
    rows += [{**harness_row(10), "split": "heldout"}]
    artifacts = run(recipe(file(tmp_path, rows), holdout=1), tmp_path)
    left_out = {"same_text": 0, "repeated_prompts": 1, "unreadable": 0, "no_preference": 2, "held_out": 1}
    assert artifacts["seeds"].report["left_out"] == left_out
    report = artifacts["ranked"].report
    assert report["train_prompts"] + report["heldout_prompts"] == 8
    assert (report["not_scored"], report["tied_responses"]) == (1, 1)
    every = [e for n in ("ranked", "heldout") for e in artifacts["ranked"].rows(f"{n}.jsonl", RankedExample)]
    (unscored,) = [e for e in every if any(r.score is None for r in e.responses)]
    assert [(r.score, r.rank) for r in unscored.responses] == [(2.0, 1), (1.0, 2), (None, None)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**simpo(1), "all_rm_scores": [1]}, r":2: expected lists of equal length"),
        ({**simpo(1), "all_rm_scores": [1, "good", 2]}, r":2: score: expected a finite number, got 'good'"),
        (
            {"prompt": "p", "chosen": "a", "rejected": "b"},
            r":2: expected ranked responses.*harness import --format trl",
        ),
        ({"text": "p"}, r":2: expected ranked responses, each with a score or a rank; got the columns text"),
        ({"messages": user(1), "responses": [{"text": 3, "source": "m"}]}, r":2: text: Input should be a valid string"),
        ({**nectar(1), "prompt": "\n\nHuman:  \n\nAssistant: "}, r":2: expected text in every message of the prompt"),
        ({**nemo(1), "completions": []}, r":2: expected a list of objects with rank and completion"),
        ({"messages": user(1), "responses": ["a", "b"]}, r":2: expected a list of objects with text, source and score"),
    ],
)
def test_an_odd_row_is_refused_with_its_file_and_line(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = file(tmp_path, [harness_row(0), row])
    with pytest.raises(DataError, match=str(path) + message):
        run(recipe(path), tmp_path)


@pytest.mark.parametrize(
    "row",
    [
        {"messages": user(1), "responses": [{"text": t, "source": "m", "rank": i} for i, t in enumerate("abc", 1)]},
        {**nemo(1), "completions": [{"rank": i, "completion": t, "reward": None} for i, t in enumerate("abc")]},
        {
            **nemo(1),
            "completions": [{"reward": r, "completion": t} for t, r in zip("abcd", (3, 2, 1, None), strict=True)],
        },
    ],
)
def test_ranks_or_some_scores_are_a_ranking(row: dict[str, Any]) -> None:
    loaded = read_pairs([("f:1", row)], "f", "s", rankings=True)
    (pair,) = loaded.pairs
    assert [r.text for r in pair.responses if r.score is not None] == ["a", "b", "c"]
    assert [r.text for r in pair.responses if r.score is None] == ["d"] * (len(pair.responses) - 3)


@pytest.mark.parametrize(
    ("responses", "message"),
    [
        (None, "f:1: expected at least one row with a prompt and its ranked responses"),
        ([("a", 1.0)], "f: all 1 rows have fewer than two different scores"),
        ([("a", 3.0), ("b", 2.0), ("a", 1.0)], "or the same text as the best and the worst response"),
    ],
)
def test_a_file_without_a_preference_is_refused(responses: list[tuple[str, float]] | None, message: str) -> None:
    given = [{"text": text, "source": "m", "score": score} for text, score in responses or ()]
    rows = [] if responses is None else [("f:1", {"messages": user(1), "responses": given})]
    with pytest.raises(DataError, match=message):
        read_pairs(rows, "f", "s", rankings=True)


def test_a_file_is_read_by_what_it_holds(tmp_path: Path) -> None:
    table = tmp_path / "RANKED.PARQUET"
    parquet.write_table(pa.Table.from_pylist([harness_row(i) for i in range(4)]), table)
    assert run(recipe(table, holdout=1), tmp_path)["ranked"].report["train_prompts"] == 3
    with pytest.raises(ValidationError, match="`columns` are those of pairs"):
        recipe({"name": "jsonl", "path": str(file(tmp_path, [simpo(0)])), "columns": {"prompt": "prompt"}})


def test_a_component_can_be_named_and_only_some_rows_taken(tmp_path: Path) -> None:
    path = file(tmp_path, [ultrafeedback(i) for i in range(9)], "flan.jsonl")
    broken = {**ultrafeedback(20), "completions": [{"response": None, "overall_score": 1.0}]}
    file(tmp_path, [ultrafeedback(i) for i in range(9)] + [broken], "flan.jsonl")
    named = recipe({"name": "ultrafeedback_scored", "path": str(path), "limit": 8})
    assert run(named, tmp_path)["ranked"].report["responses"] == 18
    whole = recipe({"name": "ultrafeedback_scored", "path": str(path)})
    assert run(whole, tmp_path)["seeds"].report["left_out"]["unreadable"] == 1
    with pytest.raises(
        ValidationError, match="'builtin' reads pairs, which go into `seeds`; expected a file, or one of"
    ):
        recipe({"name": "builtin"})


def test_prompts_of_an_evaluation_set_are_found_and_dropped(tmp_path: Path) -> None:
    alpaca: Any = build("benchmark", {"name": "alpaca_eval", "prompts": "builtin"})
    leaked = alpaca.load_questions()[0].turns[0]
    rows = [harness_row(i) for i in range(7)] + [harness_row(7) | {"messages": [{"role": "user", "content": leaked}]}]
    made = recipe(file(tmp_path, rows))
    evaluation = {"judge": {"name": "reward_model", "reward": {"name": "length"}}, "benchmarks": [alpaca]}
    made = Recipe.model_validate({**dict(made), "evaluation": evaluation})
    report = run(made, tmp_path)["seeds"].report
    assert (report["leaks"], report["leaks_dropped"]) == ({"alpaca_eval": 1}, 1)
    assert report["train"] + report["heldout"] == 7


def test_a_folder_of_a_ranked_dataset_is_its_training_part(tmp_path: Path) -> None:
    made = run(recipe(file(tmp_path, [harness_row(i) for i in range(8)])), tmp_path)["dataset"]
    again = run(recipe(made.folder), tmp_path)["ranked"].report
    assert again["train_prompts"] + again["heldout_prompts"] == 6
    assert "- Ranked elsewhere: all responses" in (made.folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"seeds": [{"name": "builtin"}]}, "expected either `seeds` .* or `ranked`"),
        ({"reward": {"name": "length"}}, "`ranked` has its responses and scores already: leave out reward"),
        ({"ranked": None}, "expected either `seeds` .* or `ranked`"),
    ],
)
def test_a_ranking_needs_no_augmentation(data: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=message):
        recipe(**{"ranked": file(tmp_path, [harness_row(0)]), **data})
