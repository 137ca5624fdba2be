"""The ranked dataset: order, ranks, ties and report; and the one of the seed's own pairs."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.stages.ranked import rank
from harness.types import PreferencePair, RankedExample, Response, ResponseGroup
from tests.stages.scripted import Script, own_pairs, recipe, run

UNSCORED = Script(text="### {k}")


def test_ranked_best_first_and_responses_without_a_score_last(tmp_path: Path) -> None:
    artifacts = run(recipe(generator=UNSCORED), tmp_path)
    for row in artifacts["ranked"].rows("ranked.jsonl", RankedExample):
        scores = [r.score for r in row.responses]
        assert scores[0] is not None
        assert scores[1] is not None
        assert scores[0] >= scores[1]
        assert scores[2:] == [None, None]
        assert scores[0] == -min(len(r.text) for r in row.responses[:2])
    assert artifacts["ranked"].report["not_scored"] == 2 * 20
    assert json.loads((artifacts["ranked"].folder / "report.json").read_text()) == artifacts["ranked"].report


def test_rows_have_ranks_and_provenance(tmp_path: Path) -> None:
    artifacts = run(recipe(generator=UNSCORED), tmp_path)
    keys = {f"{role}_key": artifacts[role].record.key for role in ("responses", "reward")}
    for row in artifacts["ranked"].rows("ranked.jsonl", RankedExample):
        assert row.provenance == {"reward": "shortest", **keys}
        assert [r.rank for r in row.responses[2:]] == [None, None]
        assert sorted(r.text for r in row.responses[2:]) == ["### 0", "### 1"]


@given(st.lists(st.sampled_from([None, 0.0, 1.0, 2.0]), min_size=1, max_size=6))
def test_equal_scores_share_a_rank(scores: list[float | None]) -> None:
    from scipy.stats import rankdata

    responses = tuple(Response(text=str(i), source="s") for i in range(len(scores)))
    ranked = rank(ResponseGroup(id="a", messages=(), responses=responses, source="s", split="train"), scores)
    scored = [s for s in scores if s is not None]
    expected = sorted(rankdata([-s for s in scored], method="min").astype(int).tolist()) if scored else []
    assert [r.rank for r in ranked.responses] == expected + [None] * scores.count(None)
    assert [r.score for r in ranked.responses] == sorted(scored, reverse=True) + [None] * scores.count(None)
    places = [int(r.text) for r in ranked.responses]
    assert all(a < b for a, b in pairwise(places) if scores[a] == scores[b])


def test_a_missing_score_is_no_tie(tmp_path: Path) -> None:
    report = run(recipe(generator=UNSCORED), tmp_path / "a")["ranked"].report
    assert (report["tied_responses"], report["not_scored"]) == (0, 40)
    tied = run(recipe(generator=Script(text="same {k}"), seed_prompts=4), tmp_path / "b")["ranked"].report
    assert tied["tied_responses"] == 4
    assert tied["score_and_length"]["value"] == pytest.approx(-1)
    assert tied["growth_with_n"][-1]["spread"] == pytest.approx(tied["mean_score_spread"])


def test_without_responses_the_seed_pairs_are_the_ranked_dataset(tmp_path: Path) -> None:
    artifacts = run(own_pairs(), tmp_path)
    assert set(artifacts) == {"seeds", "ranked", "dataset"}
    assert artifacts["ranked"].report == {"train_prompts": 15, "heldout_prompts": 5, "responses": 30}
    for file, split in (("ranked.jsonl", "train"), ("heldout.jsonl", "heldout")):
        pairs = {p.id: p for p in artifacts["seeds"].rows(f"{split}.jsonl", PreferencePair)}
        rows = artifacts["ranked"].rows(file, RankedExample)
        assert [(r.id, r.split) for r in rows] == [(i, split) for i in pairs]
        for row in rows:
            best, worst = row.responses
            assert (best.text, best.source, best.score) == (pairs[row.id].chosen, "seed:chosen", 1.0)
            assert (worst.text, worst.source, worst.score) == (pairs[row.id].rejected, "seed:rejected", 0.0)


def test_rows_of_a_ranked_dataset_keep_all_their_responses(tmp_path: Path) -> None:
    responses = [{"text": f"{t} {{i}}", "source": "m", "score": s} for t, s in (("a", 0.5), ("b", 2.0), ("c", -1.0))]
    row = {"messages": [{"role": "user", "content": "prompt {i}"}], "responses": responses}
    path = tmp_path / "ranked.jsonl"
    path.write_text("".join(json.dumps(row).replace("{i}", str(i)) + "\n" for i in range(8)))
    own = own_pairs(seeds=[{"name": "jsonl", "path": str(path)}], holdout=2)
    artifacts = run(own, tmp_path)
    assert artifacts["ranked"].report == {"train_prompts": 6, "heldout_prompts": 2, "responses": 18}
    for file in ("ranked.jsonl", "heldout.jsonl"):
        for example in artifacts["ranked"].rows(file, RankedExample):
            shown = [(r.text[0], r.source, r.score, r.rank) for r in example.responses]
            assert shown == [("b", "seed:chosen", 2.0, 1), ("a", "m", 0.5, 2), ("c", "seed:rejected", -1.0, 3)]
