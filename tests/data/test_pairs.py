"""Columns that a recipe names, prompts that both answers begin with, and transcripts."""

import json
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.data.pairs import Columns
from harness.data.read import read_pairs
from harness.data.rows import json_rows
from harness.errors import DataError
from harness.types import PreferencePair


@pytest.fixture(scope="module")
def trl_data() -> ModuleType:
    """What TRL prepares datasets with: the oracle. Its import takes seconds."""
    import trl.data_utils

    return trl.data_utils


GOOD = {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}


def read(*rows: dict[str, Any], strict: bool = True, **columns: str) -> list[PreferencePair]:
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    given = Columns.model_validate(columns) if columns else None
    return read_pairs(json_rows(content, "x.jsonl"), "x.jsonl", "x", columns=given, strict=strict).pairs


def said(*texts: str) -> list[dict[str, str]]:
    """A conversation that the user begins."""
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def turns(pair: PreferencePair) -> list[dict[str, str]]:
    return [m.model_dump() for m in pair.messages]


def transcript(*texts: str) -> str:
    return "".join(f"\n\n{('Human', 'Assistant')[i % 2]}: {text}" for i, text in enumerate(texts))


def test_columns_by_name() -> None:
    row = {"q": "Hi", "sys": "Be brief.", "a": "Hello!", "b": "What?", "kind": "greeting", "prompt": "not this"}
    names = {"prompt": "q", "system": "sys", "chosen": "a", "rejected": "b", "category": "kind"}
    (pair,) = read(row, **names)
    assert turns(pair) == [{"role": "system", "content": "Be brief."}, *said("Hi")]
    assert (pair.chosen, pair.rejected, pair.category) == ("Hello!", "What?", "greeting")
    (pair,) = read(row, prompt="q", chosen="a", rejected="b")
    assert (turns(pair), pair.category) == (said("Hi"), None)  # what isn't named isn't read


def test_an_instruction_and_its_input_by_name() -> None:
    row = {"task": "Translate.", "text": "Hallo", "good": "Hello", "bad": "Bye"}
    (pair,) = read(row, instruction="task", input="text", chosen="good", rejected="bad")
    assert turns(pair) == said("Translate.\n\nHallo")


def test_messages_by_name_and_a_system_message_that_they_have_not() -> None:
    row = {"talk": said("Hi", "Hello!", "2 + 2?"), "s": "Be brief.", "chosen": "4", "rejected": "5"}
    (pair,) = read(row, prompt="talk", system="s")
    assert turns(pair) == [{"role": "system", "content": "Be brief."}, *said("Hi", "Hello!", "2 + 2?")]
    own = {"role": "system", "content": "Their own."}
    (pair,) = read({**row, "talk": [own, *row["talk"]]}, prompt="talk", system="s")
    assert turns(pair) == [own, *row["talk"]]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"prompt": "promt"}, r"x\.jsonl:1: columns\.prompt: there is no column 'promt'; did you mean 'prompt'\? "),
        ({"prompt": "prompt", "chosen": "a"}, r"columns\.chosen: .* available: chosen, prompt, rejected"),
        ({"prompt": "prompt", "system": "zzz"}, r"columns\.system: there is no column 'zzz'; available: "),
    ],
)
def test_a_column_that_is_not_there(columns: dict[str, str], message: str) -> None:
    for strict in (True, False):
        with pytest.raises(DataError, match=message) as caught:
            read(GOOD, strict=strict, **columns)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "columns", [{"promt": "a"}, {"prompt": "a", "instruction": "b"}, {"prompt": "a", "input": "b"}, {"prompt": ""}]
)
def test_mappings_that_mean_nothing(columns: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Columns.model_validate(columns)


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(str.strip)


@given(shared=st.lists(TEXT, min_size=1, max_size=5), chosen=TEXT, rejected=TEXT, system=st.none() | TEXT)
def test_conversations_that_share_their_prompt_as_trl_reads_them(
    trl_data: ModuleType, shared: list[str], chosen: str, rejected: str, system: str | None
) -> None:
    shared = shared if len(shared) % 2 else shared[:-1] or ["Hi"]
    before = ([{"role": "system", "content": system}] if system else []) + said(*shared)
    if chosen == rejected:
        return
    row = {
        "chosen": [*before, {"role": "assistant", "content": chosen}],
        "rejected": [*before, {"role": "assistant", "content": rejected}],
    }
    (pair,) = read(row)
    theirs = trl_data.extract_prompt(row)
    assert turns(pair) == theirs["prompt"] == before
    assert [{"role": "assistant", "content": pair.chosen}] == theirs["chosen"]
    assert [{"role": "assistant", "content": pair.rejected}] == theirs["rejected"]
    (named,) = read({"good": row["chosen"], "bad": row["rejected"]}, chosen="good", rejected="bad")
    assert named == pair


def test_a_prompt_that_is_one_turn_of_the_answers_as_trl_reads_it(trl_data: ModuleType) -> None:
    system = {"role": "system", "content": "Be brief."}
    for before in ([system, *said("2 + 2?")], said("Hi", "Hello!", "2 + 2?"), said("2 + 2?", "Why?", "So.")):
        answers = [[*before, {"role": "assistant", "content": text}] for text in ("4", "5")]
        row = {"prompt": "2 + 2?", "chosen": answers[0], "rejected": answers[1]}
        (pair,) = read(row)
        assert turns(pair) == trl_data.maybe_extract_prompt(row)["prompt"] == before
    with pytest.raises(DataError, match="expected the messages before the answer to contain the prompt"):
        read({**row, "prompt": "3 + 3?"})


SAFE = TEXT.map(str.strip).filter(lambda text: "\n" not in text)


@given(shared=st.lists(SAFE, min_size=1, max_size=5), chosen=SAFE, rejected=SAFE)
def test_transcripts(shared: list[str], chosen: str, rejected: str) -> None:
    shared = shared if len(shared) % 2 else shared[:-1] or ["Hi"]
    if chosen == rejected:
        return
    (pair,) = read({"chosen": transcript(*shared, chosen), "rejected": transcript(*shared, rejected)})
    assert turns(pair) == said(*shared)
    assert (pair.chosen, pair.rejected) == (chosen, rejected)


def test_answers_of_several_paragraphs_stay_whole() -> None:
    answers = ["Yes.\n\nAnd Human: is no turn.", "No.\n\n\nNever."]
    (pair,) = read({"chosen": transcript("Hi", answers[0]), "rejected": transcript("Hi", answers[1])})
    assert [pair.chosen, pair.rejected] == answers


@pytest.mark.parametrize(
    ("chosen", "rejected", "message"),
    [
        (said("Hi", "a", "And?", "b"), said("Hi", "c", "And?", "d"), "expected one answer after .* got 3 messages"),
        (said("Hi", "a"), said("Hi", "a", "And?", "b"), "rejected: expected one answer after .* got 3 messages"),
        (said("Hi", "a", "And?"), said("Hi", "a", "So?"), "expected one answer after .* got the user's"),
        (
            said("Hi", "a"),
            said("Ho", "b"),
            "expected one answer after the common beginning of both conversations, got 2 messages",
        ),
        (said("Hi", "a", "x", "y")[1:], said("Hi", "a", "x", "z")[1:], None),
        ([said("", "a")[1]], [said("", "b")[1]], "that share a user's message"),
        ([], said("Hi", "a"), "chosen: expected at least one message"),
        (transcript("Hi", ""), transcript("Hi", "b"), r"chosen\.1\.content: expected text, got an empty string"),
        (transcript("Hi", "a"), said("Hi", "b"), None),
    ],
)
def test_conversations_without_one_pair(chosen: Any, rejected: Any, message: str | None) -> None:
    row = {"chosen": chosen, "rejected": rejected}
    if message is None:
        assert len(read(row)) == 1
        return
    with pytest.raises(DataError, match=message):
        read(row)
    good = {"chosen": said("Ho", "a"), "rejected": said("Ho", "b")}
    assert len(read(good, row, good, strict=False)) == 1


def test_what_a_public_set_leaves_out_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    rows = [GOOD, {**GOOD, "chosen": ""}, {**GOOD, "prompt": "other", "chosen": "5"}, GOOD, {**GOOD, "rejected": None}]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    found = read_pairs(json_rows(content, "f"), "f", "s", strict=False)
    assert found.left_out == {"same_text": 1, "repeated_prompts": 1, "unreadable": 2}
    assert len(found.pairs) + sum(found.left_out.values()) == len(rows)
    assert "2 rows can't be read (the first: f:2: chosen: expected text, got an empty string" in caplog.text
    with pytest.raises(DataError, match="f:1: chosen: expected text, got null"):
        read_pairs(json_rows(b'{"prompt": "x", "chosen": null, "rejected": "a"}', "f"), "f", "s", strict=False)


def test_a_system_column_beside_a_prompt() -> None:
    (pair,) = read({**GOOD, "system": "Be brief."})
    assert turns(pair) == [{"role": "system", "content": "Be brief."}, *said("2 + 2?")]
    (pair,) = read({**GOOD, "system": " "})
    assert turns(pair) == said("2 + 2?")
