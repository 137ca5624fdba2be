"""The formats of others: round trips lose nothing that a format can hold, and what it can't hold is counted."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.data.convert import export, import_, read_ranked, write
from harness.data.formats import (
    IMPORTS,
    from_trl,
    ranked,
    to_nectar,
    to_nemo,
    to_simpo,
    to_trl,
)
from harness.errors import DataError
from harness.types import Message, Messages, RankedExample

ROOT = Path(__file__).parents[2]
odd = st.sampled_from(["", "a\u2028b\r\n", "=1+1", "🙂"])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | odd
numbers = st.integers(-3, 3).map(float) | st.floats(-1e6, 1e6)
scores = st.none() | numbers


@st.composite
def prompts(draw: st.DrawFn, single: bool = False) -> Messages:
    turns = [Message(role="user", content=draw(texts))]
    if not single and draw(st.booleans()):
        turns += [Message(role="assistant", content=draw(texts)), Message(role="user", content=draw(texts))]
    if not single and draw(st.booleans()):
        turns = [Message(role="system", content=draw(texts)), *turns]
    return tuple(turns)


@st.composite
def examples(draw: st.DrawFn, single: bool = False, distinct: bool = False, scored: bool = False) -> RankedExample:
    written = draw(st.lists(texts, min_size=2, max_size=5, unique=distinct))
    given = draw(st.lists(numbers if scored else scores, min_size=5, max_size=5))
    return ranked(draw(prompts(single)), written, given[: len(written)], ["hf:m"] * len(written), "x")


def placed(rows: Sequence[Any]) -> list[tuple[str, Any]]:
    """As a file would give them back."""
    return [(f"f:{i}", json.loads(json.dumps(row))) for i, row in enumerate(rows, start=1)]


def held(example: RankedExample, *, unscored: bool = True) -> list[tuple[str, float | None, int | None]]:
    return [(r.text, r.score, r.rank) for r in example.responses if unscored or r.score is not None]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    made=st.lists(examples(), min_size=1, max_size=4, unique_by=lambda e: e.id),
    ending=st.sampled_from(["jsonl", "parquet"]),
)
def test_our_own_files_hold_everything(made: list[RankedExample], ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{ending}"
    write(path, [e.model_dump(mode="json") for e in made], native=True)
    assert read_ranked(path) == made


@given(examples(single=True))
def test_simpo_holds_all_responses_and_scores(example: RankedExample) -> None:
    made = to_simpo([example])
    assert made.left_out == {}
    (again,) = IMPORTS["simpo"](placed(made.rows), "x").rows
    assert (again.id, again.messages, held(again)) == (example.id, example.messages, held(example))


@given(examples())
def test_nemo_holds_all_scored_responses(example: RankedExample) -> None:
    made = to_nemo([example])
    scored = held(example, unscored=False)
    assert made.left_out.get("responses without a score", 0) == len(example.responses) - len(scored)
    if scored:
        (again,) = IMPORTS["nemo-rl"](placed(made.rows), "x").rows
        assert (again.messages, held(again)) == (example.messages, scored)
        assert made.rows[0]["completions"][0]["rank"] == 0


@given(examples(scored=True))
def test_nectar_holds_the_order_and_who_wrote_it(example: RankedExample) -> None:
    made = to_nectar([example])
    if made.left_out:
        assert made.rows == []
        return
    (again,) = IMPORTS["nectar"](placed(made.rows), "x").rows
    assert again.messages == example.messages
    assert [(r.text, r.rank, r.source) for r in again.responses] == [
        (r.text, r.rank, r.source) for r in example.responses
    ]


@given(examples(distinct=True, scored=True), st.sampled_from(["best_worst", "best_rest", "adjacent", "all_pairs"]))
def test_trl_holds_the_pairs_and_their_scores(example: RankedExample, pairing: Any) -> None:
    made = to_trl([example], pairing)
    if not made.rows:
        assert made.left_out == {"prompts without a preference": 1}
        return
    (again,) = from_trl(placed(made.rows), "x").rows
    assert again.messages == example.messages
    before = {r.text: r.score for r in example.responses}
    assert all(before[r.text] == r.score for r in again.responses)
    if pairing in ("adjacent", "all_pairs", "best_rest"):
        assert held(again) == held(example)
    assert to_trl([again], pairing).rows == made.rows


def test_pairs_without_scores_are_ranked_by_who_beats_whom() -> None:
    rows = [{"prompt": "p", "chosen": a, "rejected": b} for a, b in (("b", "c"), ("a", "b"), ("a", "d"))]
    rows += [{"prompt": "q", "chosen": "x", "rejected": "y"}, {"prompt": "q", "chosen": "y", "rejected": "x"}]
    made = from_trl(placed(rows), "mine")
    (example,) = made.rows
    assert [(r.text, r.score, r.rank) for r in example.responses] == [
        ("a", 2.0, 1), ("b", 1.0, 2), ("c", 0.0, 3), ("d", 0.0, 3),
    ]  # fmt: skip
    assert made.left_out == {"prompts with cyclic preferences": 1}
    assert example.provenance == {"imported_from": "mine"}


def test_what_a_format_can_not_hold_is_counted() -> None:
    system = (Message(role="system", content="s"), Message(role="user", content="u"))
    spells = (Message(role="user", content="a\n\nHuman: b"),)
    made = [ranked(m, ["x", "y", "z"], [1.0, None, 0.0], ["s"] * 3, "x") for m in (system, spells)]
    assert to_simpo(made).left_out == {"prompts with several messages": 1}
    nectar = {"prompts with a system message": 1, "prompts that contain a turn marker": 1}
    assert to_nectar(made).left_out == nectar
    assert to_trl(made, "all_pairs").left_out == {"responses without a score": 2}


def test_what_no_pair_or_ranking_holds_is_counted() -> None:
    made = ranked((Message(role="user", content="u"),), list("abcd"), [3.0, 2.0, 1.0, 0.0], ["s"] * 4, "x")
    assert to_trl([made], "best_worst").left_out == {"responses in no pair of best_worst": 2}
    assert to_trl([made], "adjacent").left_out == {}
    blank = ranked(made.messages, ["a", "b"], [None, None], ["s"] * 2, "x")
    for write_rows in (to_nemo, to_nectar):
        assert write_rows([blank]).rows == []
        assert write_rows([blank]).left_out["prompts without a scored response"] == 1


def test_scores_rank_where_a_file_has_no_ranks() -> None:
    made = ranked((Message(role="user", content="u"),), list("abc"), [2.0, 2.0, 0.0], ["s"] * 3, "x")
    bare = made.model_copy(update={"responses": tuple(r.model_copy(update={"rank": None}) for r in made.responses)})
    assert to_nectar([bare]).rows == to_nectar([made]).rows
    assert [a["rank"] for a in to_nectar([bare]).rows[0]["answers"]] == [1.0, 1.0, 3.0]


@pytest.mark.parametrize(
    "scores",
    [
        [(1.0, 2.0), (2.0, 1.0)],  # the chosen one's is the lower
        [(1.0, 1.0), (1.0, 0.0)],  # equal, though one was chosen
        [(3.0, 2.0), (1.0, 0.0)],  # one response, two scores
        [(3.0, 2.0), (None, None)],
    ],
)
def test_a_preference_is_not_turned_round_by_its_scores(scores: list[tuple[Any, Any]]) -> None:
    rows = [
        {"prompt": "p", "chosen": chosen, "rejected": rejected, "score_chosen": up, "score_rejected": down}
        for (chosen, rejected), (up, down) in zip([("a", "b"), ("b", "c")], scores, strict=True)
    ]
    made = from_trl(placed(rows), "x")
    assert [(r.text, r.score) for r in made.rows[0].responses] == [("a", 2.0), ("b", 1.0), ("c", 0.0)]
    assert made.left_out == {"prompts with missing or inconsistent scores": 1}


def test_parquet_refuses_what_it_has_no_column_for(tmp_path: Path) -> None:
    made = ranked((Message(role="user", content="u"),), ["a", "b"], [1.0, 0.0], ["s"] * 2, "x")
    row = made.model_copy(update={"provenance": {"mine": "1"}}).model_dump(mode="json")
    write(tmp_path / "x.jsonl", [row], native=True)
    with pytest.raises(DataError, match="no column for provenance mine; write JSONL"):
        write(tmp_path / "x.parquet", [row], native=True)


def test_public_forms_are_read() -> None:
    """As the datasets' own pages have them: NeMo-RL's without rewards, Nectar's several turns."""
    row = {
        "context": [{"role": "user", "content": "2 + 2?"}],
        "completions": [
            {"rank": 1, "completion": [{"role": "assistant", "content": "5"}]},
            {"rank": 0, "completion": [{"role": "assistant", "content": "4"}]},
        ],
    }
    (example,) = IMPORTS["nemo-rl"]([("f:1", row)], "x").rows
    assert [r.text for r in example.responses] == ["4", "5"]
    prompt = "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: how?\n\nAssistant: "
    answers = [{"answer": "so", "model": "m", "rank": 2.0}, {"answer": "well", "rank": 1.0}]
    (example,) = IMPORTS["nectar"]([("f:1", {"prompt": prompt, "answers": answers})], "x").rows
    assert [(m.role, m.content) for m in example.messages] == [("user", "hi"), ("assistant", "hello"), ("user", "how?")]
    assert [(r.text, r.source) for r in example.responses] == [("well", "imported"), ("so", "m")]


@pytest.mark.parametrize(
    ("read", "row", "said"),
    [
        (
            IMPORTS["simpo"],
            {"prompt": "p", "all_generated_responses": ["a"], "all_rm_scores": []},
            "f:1: expected list",
        ),
        (IMPORTS["nemo-rl"], {"context": [], "completions": [{}]}, "f:1: context: expected the last message to be the"),
        (IMPORTS["nectar"], {"prompt": "p", "answers": [{"answer": "a"}]}, "f:1: prompt: expected a transcript"),
        (from_trl, {"prompt": "p", "chosen": 3, "rejected": "b"}, "f:1: chosen: expected a text"),
        (
            IMPORTS["nectar"],
            {"prompt": "\n\nHuman: a\n\nAssistant: ", "answers": [{"answer": "", "rank": "x"}]},
            "rank",
        ),
    ],
)
def test_bad_rows_are_named(read: Any, row: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError) as caught:
        read([("f:1", row)], "x")
    assert said in str(caught.value)


def dataset(folder: Path) -> Path:
    folder.mkdir()
    made = [
        ranked((Message(role="user", content=f"q{i}"),), ["a", "b", "c"], [1.0, 3.0, 2.0], ["hf:m"] * 3, "seed")
        for i in range(6)
    ]
    write(folder / "ranked.jsonl", [e.model_dump(mode="json") for e in made[:4]], native=True)
    heldout = [e.model_copy(update={"split": "heldout"}).model_dump(mode="json") for e in made[4:]]
    write(folder / "heldout.jsonl", heldout, native=True)
    return folder


@pytest.mark.parametrize("form", ["trl", "simpo", "nemo-rl", "nectar", "parquet", "jsonl"])
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_files_load_with_datasets_and_come_back(form: Any, ending: str, tmp_path: Path) -> None:
    from datasets import load_dataset

    source = dataset(tmp_path / "data")
    done = export(source, tmp_path / f"out.{ending}", form, "all_pairs", "train")
    loader = "json" if ending == "jsonl" else "parquet"
    loaded = load_dataset(loader, data_files=str(tmp_path / f"out.{ending}"), cache_dir=str(tmp_path / "c"))["train"]
    assert (done.examples, done.rows) == (4, len(loaded))
    assert len(loaded) == (12 if form == "trl" else 4)
    back = import_(tmp_path / f"out.{ending}", tmp_path / "back.jsonl", form)
    assert (back.rows, back.left_out) == (4, {})
    for before, after in zip(read_ranked(source, "train"), read_ranked(tmp_path / "back.jsonl"), strict=True):
        assert after.messages == before.messages
        assert [(r.text, r.rank) for r in after.responses] == [(r.text, r.rank) for r in before.responses]


def test_trl_takes_what_we_write(tmp_path: Path) -> None:
    from trl.data_utils import is_conversational

    export(dataset(tmp_path / "data"), tmp_path / "out.jsonl", "trl")
    row = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert is_conversational(row)


def harness(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness.cli", *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.slow
def test_the_commands(tmp_path: Path) -> None:
    dataset(tmp_path / "data")
    done = harness(tmp_path, "export", "data", "--format", "trl", "--pairs", "adjacent", "-o", "t.jsonl")
    told = "t.jsonl: 8 rows of 4 examples\nleft out: 2 prompts of the other split (--split train)\n"
    assert (done.returncode, done.stdout) == (0, told)
    done = harness(
        tmp_path, "export", "data", "--format", "trl", "--pairs", "adjacent", "-o", "t.jsonl", "--split", "all"
    )
    assert (done.returncode, done.stdout) == (0, "t.jsonl: 12 rows of 6 examples\n")
    rows = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert [row["split"] for row in rows] == ["train"] * 8 + ["heldout"] * 4
    done = harness(tmp_path, "import", "t.jsonl", "--format", "trl", "-o", "r.parquet", "--source", "mine")
    assert (done.returncode, done.stdout) == (0, "r.parquet: 6 rows of 6 examples\n")
    assert {e.source for e in read_ranked(tmp_path / "r.parquet")} == {"mine"}
    for arguments, said in [
        (("export", "data", "--format", "nemo", "-o", "x.jsonl"), "--format: unknown 'nemo'; did you mean 'nemo-rl'?"),
        (("export", "nowhere", "-o", "x.jsonl"), "nowhere: no such file"),
        (("export", "t.jsonl", "-o", "x.jsonl"), "t.jsonl:1: "),
        (("import", "data/ranked.jsonl", "--format", "simpo", "-o", "x.jsonl"), "data/ranked.jsonl:1: expected lists"),
    ]:
        done = harness(tmp_path, *arguments)
        assert done.returncode == 2
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("form", ["trl", "simpo", "nemo-rl", "nectar", "parquet", "jsonl"])
def test_held_out_prompts_leave_only_when_asked_for_and_with_a_mark(form: Any, tmp_path: Path) -> None:
    source = dataset(tmp_path / "data")
    out = tmp_path / "out.jsonl"

    summary = export(source, out, form)
    assert "q0" in out.read_text()
    assert not {"q4", "q5"} & set(re.findall(r"q\d", out.read_text()))
    assert summary.left_out["prompts of the other split (--split train)"] == 2
    assert export(source, out, form, split="all").examples == 6
    for row in map(json.loads, out.read_text().splitlines()):
        assert row["split"] == ("heldout" if {"q4", "q5"} & set(re.findall(r"q\d", json.dumps(row))) else "train")


def test_imported_prompts_are_read_as_seeds_are(tmp_path: Path) -> None:
    template = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    row = {"prompt": template, "chosen": "Hello!<|im_end|>", "rejected": "What?"}
    (example,) = from_trl([("f:1", row)], "x").rows
    assert example.messages == (Message(role="user", content="Hi"),)
    assert [r.text for r in example.responses] == ["Hello!", "What?"]
    with pytest.raises(DataError, match=r"f:1: prompt: turns of a chat template .* after other text"):
        from_trl([("f:1", {**row, "prompt": f"See: {template}"})], "x")
