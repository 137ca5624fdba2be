"""Seed rows in every form, what is said of a row that can't be read, and the split."""

import contextlib
import gzip
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.read import heldout_count, likeness, parse_pairs, split
from harness.data.rows import content_sha256, read_content
from harness.errors import DataError
from harness.types import Message, PreferencePair, prompt_id

GOOD = {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}


def jsonl(*rows: Any) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def pair(i: int) -> PreferencePair:
    messages = (Message(role="user", content=f"question {i}"),)
    return PreferencePair(id=prompt_id(messages), messages=messages, chosen="yes", rejected="no", source="test")


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"prompt": "Hi"}, [("user", "Hi")]),
        ({"prompt": [said("system", "Be brief."), said("user", "Hi")]}, [("system", "Be brief."), ("user", "Hi")]),
        ({"system": "Be brief.", "question": "Hi"}, [("system", "Be brief."), ("user", "Hi")]),
        ({"system": "", "question": "Hi"}, [("user", "Hi")]),
        ({"system": None, "question": "Hi"}, [("user", "Hi")]),
        ({"question": "Hi"}, [("user", "Hi")]),
        ({"instruction": "Translate.", "input": "Hallo"}, [("user", "Translate.\n\nHallo")]),
        ({"instruction": "Say hi.", "input": ""}, [("user", "Say hi.")]),
        ({"instruction": "Say hi."}, [("user", "Say hi.")]),
        ({"prompt": "Hi", "question": "not this", "score": 3}, [("user", "Hi")]),
    ],
)
def test_forms(row: dict[str, Any], messages: list[tuple[str, str]]) -> None:
    (read,) = parse_pairs(jsonl({**row, "chosen": "Hello!", "rejected": "What?"}), "x.jsonl", "x")
    assert [(m.role, m.content) for m in read.messages] == messages
    assert (read.chosen, read.rejected, read.source, read.category) == ("Hello!", "What?", "x", None)
    assert read.id == prompt_id(read.messages)


@pytest.mark.parametrize(
    "before",
    [
        [],
        [said("system", "Be brief."), said("user", "Hi")],
        [said("user", "Hi")],
    ],
)
def test_answers_as_messages(before: list[dict[str, str]]) -> None:
    row = {
        "prompt": [said("system", "Be brief."), said("user", "Hi")],
        "chosen": [*before, said("assistant", "Hello!")],
        "rejected": [*before, said("assistant", "What?")],
        "category": "writing",
    }
    (read,) = parse_pairs(jsonl(row), "x.jsonl", "x")
    assert (read.chosen, read.rejected, read.category) == ("Hello!", "What?", "writing")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"{nonsense}\n", "not JSON"),
        (b"[1, 2]\n", "expected a JSON object, got a list"),
        (b'{"prompt": "\xff"}\n', "not UTF-8"),
        (b"[" * 100_000 + b"\n", "not JSON"),
        (jsonl({"prompt": "Hi", "chosen": "a"}), "column 'rejected' is missing; expected text"),
        (jsonl({"question": "Hi", "chosen": "a", "rejected": "b"}), "column 'prompt' is missing"),
        (jsonl({**GOOD, "chosen": 3}), "chosen: expected text, got a number"),
        (jsonl({**GOOD, "chosen": None}), "chosen: expected text, got null"),
        (jsonl({**GOOD, "rejected": "  "}), "rejected: expected text, got an empty string"),
        (jsonl({**GOOD, "prompt": ""}), "prompt: expected text, got an empty string"),
        (jsonl({**GOOD, "prompt": []}), "prompt: expected at least one message"),
        (jsonl({**GOOD, "prompt": ["Hi"]}), "prompt.0: expected {role: system, user or assistant, content: text}"),
        (jsonl({**GOOD, "prompt": [said("tool", "Hi")]}), "prompt.0: a turn of 'tool'"),
        (jsonl({**GOOD, "prompt": [{"role": "user"}]}), "column 'prompt.0.content' is missing"),
        (jsonl({**GOOD, "prompt": [said("assistant", "Hi")]}), "prompt: expected the last message to be the user's"),
        (jsonl({**GOOD, "chosen": [said("user", "Hi")]}), "chosen: expected the last message to be the assistant's"),
        (
            jsonl({**GOOD, "chosen": [said("user", "3 + 3?"), said("assistant", "6")]}),
            "chosen: expected the messages before the answer to be the prompt's",
        ),
        (b'{"prompt": "\\ud800", "chosen": "a", "rejected": "b"}\n', "a lone surrogate"),
    ],
)
def test_a_bad_row_is_named_by_its_line(bad: bytes, message: str) -> None:
    content = jsonl(GOOD) + b"\n  \n" + bad + jsonl({**GOOD, "prompt": "later"})
    with pytest.raises(DataError) as caught:
        parse_pairs(content, "some/x.jsonl", "x")
    assert str(caught.value).startswith("some/x.jsonl:4: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_an_empty_file(content: bytes) -> None:
    with pytest.raises(DataError, match=r"x\.jsonl:1: expected at least one row"):
        parse_pairs(content, "x.jsonl", "x")


def test_unknown_columns_are_told_with_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"x\.jsonl:1: columns not recognised: expected prompt.*got answer, chosen"):
        parse_pairs(jsonl({"chosen": "a", "answer": "b"}), "x.jsonl", "x")


def test_separators_inside_texts_do_not_end_a_row() -> None:
    content = jsonl({**GOOD, "chosen": "one\u2028two\x85three"}).replace(b"\n", b"\r\n")
    assert parse_pairs(b"\xef\xbb\xbf" + content, "x", "x")[0].chosen == "one\u2028two\x85three"


def test_a_repeated_prompt_keeps_its_first_row_and_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    rows = [GOOD, {**GOOD, "prompt": "other"}, {**GOOD, "chosen": "four"}, {**GOOD, "rejected": "22"}]
    with caplog.at_level(logging.WARNING, logger="harness.data.read"):
        read = parse_pairs(jsonl(*rows), "x.jsonl", "x")
    assert [p.chosen for p in read] == ["4", "4"]
    assert [r.getMessage() for r in caplog.records] == ["x.jsonl: 2 rows repeat an earlier prompt and were left out"]


def test_limit_and_weight() -> None:
    content = jsonl(*({**GOOD, "prompt": f"question {i}"} for i in range(40)))
    everything = parse_pairs(content, "x", "x")
    assert parse_pairs(content, "x", "x", limit=7) == everything[:7]
    some = parse_pairs(content, "x", "x", weight=0.3)
    assert len(some) == 12
    assert [p for p in everything if p in some] == some  # file order
    assert parse_pairs(content, "x", "x", weight=0.3) == some
    assert set(some) < set(parse_pairs(content, "x", "x", weight=0.6))
    assert len(parse_pairs(content, "x", "x", weight=0.001)) == 1
    reversed_file = jsonl(*({**GOOD, "prompt": f"question {i}"} for i in reversed(range(40))))
    assert set(parse_pairs(reversed_file, "x", "x", weight=0.3)) == set(some)


def test_gz_is_unpacked(tmp_path: Path) -> None:
    plain, packed = tmp_path / "x.jsonl", tmp_path / "x.jsonl.gz"
    plain.write_bytes(jsonl(GOOD))
    packed.write_bytes(gzip.compress(jsonl(GOOD)))
    assert read_content(plain) == read_content(packed)
    assert content_sha256(read_content(packed)) == content_sha256(jsonl(GOOD))


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_bytes(jsonl(GOOD))
    with pytest.raises(DataError, match=r"pears\.jsonl: no such file; expected .*; did you mean 'pairs\.jsonl'\?"):
        read_content(tmp_path / "pears.jsonl")
    with pytest.raises(DataError, match="no such file"):
        read_content(tmp_path / "nowhere" / "x.jsonl")
    with pytest.raises(DataError, match="can't be read"):
        read_content(tmp_path)
    for damaged in (jsonl(GOOD), gzip.compress(jsonl(GOOD))[:-9]):
        (tmp_path / "bad.jsonl.gz").write_bytes(damaged)
        with pytest.raises(DataError, match="can't be read"):
            read_content(tmp_path / "bad.jsonl.gz")


@given(
    numbers=st.lists(st.integers(0, 200), min_size=1, max_size=60),
    holdout=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
)
def test_split_keeps_its_promises(numbers: list[int], holdout: float, seed: int) -> None:
    pairs = [pair(i) for i in numbers]  # with repeats, as where two seed sets share a prompt
    distinct = len(set(numbers))
    expected = round(holdout * distinct)
    if not 0 < expected < distinct:
        with pytest.raises(DataError, match="at least 1 on each side"):
            split(pairs, holdout, seed)
        return
    train, heldout = split(pairs, holdout, seed)
    train_ids, heldout_ids = {p.id for p in train}, {p.id for p in heldout}
    assert not train_ids & heldout_ids
    assert len(heldout_ids) == expected
    assert [p for p in pairs if p.id in train_ids] == train
    assert [p for p in pairs if p.id in heldout_ids] == heldout
    assert len(train) + len(heldout) == len(pairs)
    assert {p.id for p in split(pairs[::-1], holdout, seed)[1]} == heldout_ids


def test_split_by_number() -> None:
    pairs = [pair(i) for i in range(40)]
    train, heldout = split(pairs, 13, 0)
    assert (len(train), len(heldout)) == (27, 13)
    assert heldout == split(pairs, 13 / 40, 0)[1]
    with pytest.raises(DataError, match="holdout 40 of 40 prompts leaves 0 for training and 40 held out"):
        split(pairs, 40, 0)


@given(count=st.integers(10, 60), new=st.integers(1000, 2000), seed=st.integers(0, 5))
def test_a_new_prompt_moves_at_most_one_other(count: int, new: int, seed: int) -> None:
    pairs = [pair(i) for i in range(count)]
    before = {p.id for p in split(pairs, 0.3, seed)[1]}
    after = {p.id for p in split([*pairs, pair(new)], 0.3, seed)[1]} - {pair(new).id}
    assert len(before ^ after) <= 1


def test_the_seed_draws_the_split() -> None:
    pairs = [pair(i) for i in range(40)]
    assert {p.id for p in split(pairs, 0.5, 0)[1]} != {p.id for p in split(pairs, 0.5, 1)[1]}


def test_real_orca_pairs(shared_data: Path) -> None:
    path = shared_data / "seeds" / "orca_dpo_pairs.jsonl"
    read = parse_pairs(read_content(path), path.name, "orca")
    rows = [json.loads(line) for line in path.open(encoding="utf-8")]
    assert len(read) == len({(r["system"], r["question"]) for r in rows}) == 284
    assert [p.messages[-1].content for p in read] == [r["question"] for r in rows]
    assert [len(p.messages) for p in read] == [2 if r["system"] else 1 for r in rows]


def test_rows_without_a_preference_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    same = {**GOOD, "chosen": GOOD["rejected"]}
    other = {**GOOD, "prompt": "another question"}
    assert [p.chosen for p in parse_pairs(jsonl(same, other), "f", "s")] == [other["chosen"]]
    assert "1 rows have the same text as chosen and rejected" in caplog.text
    with pytest.raises(DataError, match="f: all 2 rows have the same text as chosen and rejected, or tied scores"):
        parse_pairs(jsonl(same, {**same, "prompt": "another question"}), "f", "s")


def test_real_instruction_pairs(shared_data: Path) -> None:
    path = shared_data / "seeds" / "instruction_preference.jsonl"
    rows = [json.loads(line) for line in path.open(encoding="utf-8")]
    differing = {(r["instruction"], r["input"]) for r in rows if r["chosen"] != r["rejected"]}
    assert len(parse_pairs(path.read_bytes(), path.name, "s")) == len(differing)


def asked(text: str, system: str | None = None) -> PreferencePair:
    messages = (*([Message(role="system", content=system)] if system else []), Message(role="user", content=text))
    return PreferencePair(id=prompt_id(messages), messages=messages, chosen="yes", rejected="no", source="test")


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("What is DPO?", "what is dpo", True),
        ("What is  DPO?\n", "\tWhat is DPO ?", True),
        ("Ｗhat is “DPO”?", "What is 'DPO'?", True),
        ("straße", "STRASSE", True),
        ("What is DPO?", "What is DPO2?", False),
        ("1 + 1", "1 1", False),
        ("कि", "का", False),
        ("...", "???", False),
        ("...", " ...\n", True),
        ("a b", "ab", False),
    ],
)
def test_prompts_that_are_alike(one: str, other: str, alike: bool) -> None:
    assert (likeness(asked(one).messages) == likeness(asked(other, "Be brief.").messages)) == alike


@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=25),
    holdout=st.floats(0.01, 0.99) | st.integers(1, 60),
    seed=st.integers(0, 3),
    shuffled=st.randoms(use_true_random=False),
)
def test_prompts_that_are_alike_stay_on_one_side(sizes: list[int], holdout: float, seed: int, shuffled: Any) -> None:
    marks = ("", "?", " ?", "!", "...", " !")
    pairs = [asked(f"Question number {i}{mark}") for i, size in enumerate(sizes) for mark in marks[:size]]
    shuffled.shuffle(pairs)
    wanted = heldout_count(holdout, len(pairs))
    if wanted <= max(sizes) / 2 or wanted > len(pairs) - max(sizes):
        # A side may be left empty: the smallest group is too large for the count, or the count for the set.
        with contextlib.suppress(DataError):
            split(pairs, holdout, seed)
        return
    train, heldout = split(pairs, holdout, seed)
    assert not {likeness(p.messages) for p in train} & {likeness(p.messages) for p in heldout}
    assert {p.id for p in split(pairs[::-1], holdout, seed)[1]} == {p.id for p in heldout}
    left = [p.messages[-1].content.rstrip(" ?!.") for p in train]
    smallest = min(left.count(text) for text in left)
    assert abs(len(heldout) - wanted) < smallest  # exact where one without its like is left
    assert len(heldout) == wanted or smallest > 1


def test_two_sets_that_share_a_prompt_but_for_its_case() -> None:
    ours = [asked(f"Question number {i}?") for i in range(30)]
    theirs = [asked(f"question number {i}", "Be brief.") for i in range(15, 45)]
    train, heldout = split([*ours, *theirs], 0.2, 0)
    words = [{p.messages[-1].content.rstrip("?").lower() for p in side} for side in (train, heldout)]
    assert len(heldout) == 12
    assert not words[0] & words[1]


def test_prompts_that_are_all_alike_can_not_be_split() -> None:
    with pytest.raises(DataError, match=r"holdout 0\.5 of 2 prompts \(1 without duplicates\) leaves"):
        split([asked("Hi"), asked("hi!")], 0.5, 0)
