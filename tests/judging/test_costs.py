"""What a run says about the costs of its judging, and what a request is recorded by."""

from typing import Any

import pytest

from harness.judging.asker import make_ask
from harness.judging.costs import board_ledger, judging_summary
from harness.servers.spending import Spending
from harness.types import JudgeReply, JudgeRequest, Message
from tests.stand_ins import ScriptedJudge


def ledger(**changes: Any) -> dict[str, Any]:
    counts = {"asked": 3, "from_journal": 4, "unreadable": 0, "prompt_tokens": 1500, "completion_tokens": 20}
    return {**counts, "dollars": 0.25, **changes}


def test_the_summary_adds_up_all_stages_and_tells_this_run_apart() -> None:
    spending = Spending()
    spending.note([0.1, 0.15], spent=True)
    line = judging_summary([ledger(), {"answers": 3}, ledger(unreadable=2, dollars=1.0)], spending)
    assert line == "Judging: 14 replies (2 unreadable), 3,000 + 40 tokens, $1.2500 in all; 2 of this run, $0.2500."
    assert judging_summary([{"answers": 3}], spending) is None


def test_an_unknown_price_makes_the_sum_unknown() -> None:
    spending = Spending()
    spending.note([None], spent=True)
    line = judging_summary([ledger(), ledger(dollars=None)], spending)
    assert line is not None
    assert "$" not in line
    (row,) = [board_ledger(ledger(dollars=None, models={"m": 3}))]
    assert row["dollars"] is None
    assert (row["replies"], row["models"]) == (7, {"m": 3})
    assert board_ledger({"answers": 3}) == {}


@pytest.mark.parametrize("fields", [{}, {"top_p": None}, {"top_p": 1.0}, {"sample": 0}])
def test_fields_at_their_defaults_are_no_part_of_what_a_reply_is_kept_by(fields: dict[str, Any], tmp_path: Any) -> None:
    """Replies from before these fields existed are still found."""
    request = JudgeRequest(messages=(Message(role="user", content="q"),), **fields)
    judge = ScriptedJudge(JudgeReply(text="ok"))
    ask = make_ask(judge, tmp_path / "j.jsonl", concurrency=1, advance=lambda _: None)
    ask([request])
    assert not ask.missing([JudgeRequest(messages=request.messages)])
    for other in ({"top_p": 0.9}, {"sample": 1}, {"temperature": 0.5}):
        changed = JudgeRequest(messages=request.messages, **other)
        assert ask.missing([changed]) == [changed]
