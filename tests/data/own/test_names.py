"""Columns are found by what their names say, and left alone where names don't tell."""

from pathlib import Path

import pytest

from harness.components import build
from harness.data.columns.layouts import usual
from harness.errors import DataError
from harness.protocols import Seed
from harness.types import PreferencePair

ASK, GOOD, BAD = "What is 2 + 2?", "It is 4.", "It is 5; or so."
USUAL = {"prompt": ASK, "chosen": GOOD, "rejected": BAD}


def pairs(path: Path) -> list[PreferencePair]:
    seed = build("seed", {"name": "csv", "path": str(path)})
    assert isinstance(seed, Seed)
    return seed.pairs()


@pytest.mark.parametrize(
    "names",
    [
        "question,good_answer,bad_answer",
        "instruction,better,worse",
        "prompt,winner,loser",
        "query,accepted,rejected",
        "input,response_chosen,response_rejected",
        "prompt,positive,negative",
        "Prompt,Chosen Response,Rejected Response",
        "user_question,preferred,not_preferred",
        "userPrompt,preferredAnswer,dispreferredAnswer",
        "PROMPT,CHOSEN,REJECTED",
        "Question,chosen,rejected",
        "text_prompt,best_reply,worst_reply",
        "request,winning-output,losing-output",
    ],
)
def test_names_that_tell(tmp_path: Path, names: str) -> None:
    path = tmp_path / "own.csv"
    path.write_text(f'id,{names},annotator,chosen_score\n7,"{ASK}","{GOOD}","{BAD}",ada,0.5\n')
    (pair,) = pairs(path)
    assert (pair.messages[0].content, pair.chosen, pair.rejected) == (ASK, GOOD, BAD)


@pytest.mark.parametrize(
    "names",
    [
        "prompt,positive_count,negative_count",
        "prompt,winner,loser,response_a,response_b",  # a verdict's names
        "prompt,good,better,worse",
        "query,request,good,bad",
        "prompt,chosen_model,rejected_model",
        "prompt,response_a,response_b,preference",
        "prompt,good_answer,chosen,bad_answer",
        "anything,good,bad",
    ],
)
def test_names_that_do_not_tell_are_refused(tmp_path: Path, names: str) -> None:
    path = tmp_path / "own.csv"
    path.write_text(f"{names}\n{','.join('abcde'[: len(names.split(','))])}\n")
    with pytest.raises(DataError, match="columns not recognised: expected"):
        pairs(path)


def test_usual_names_count_before_others() -> None:
    row = {**USUAL, "query": "other", "good_answer": "other", "bad_answer": "other"}
    assert usual(row) == (row, [])


def test_conversations_keep_their_names() -> None:
    row = {
        "query": "metadata",
        "chosen": "\n\nHuman: Hi\n\nAssistant: Hello",
        "rejected": "\n\nHuman: Hi\n\nAssistant: No",
    }
    assert usual(row) == (row, [])


def test_they_are_named() -> None:
    row, said = usual({"Query": ASK, "winner": GOOD, "loser": BAD})
    assert row == USUAL
    assert said == ["columns Query, winner, loser"]
