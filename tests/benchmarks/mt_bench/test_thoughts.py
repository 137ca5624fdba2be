"""Ratings and choices of judges that think: read after the last thought, or not at all."""

from typing import Any

import pytest

from harness.benchmarks.mt_bench.benchmark import MtBench
from harness.benchmarks.mt_bench.prompts import RATING_REPLIES
from harness.types import JudgeReply, JudgeRequest, Verdict
from tests.benchmarks.mt_bench.helpers import answers, benchmark
from tests.stand_ins import Reply, ScriptedAsk


def rated(made: MtBench, reply: Reply) -> tuple[dict[str, Any], list[Verdict]]:
    given = answers(made)
    verdicts = made.verdicts(given, [], ScriptedAsk(reply))
    return {name: metric.value for name, metric in made.metrics(given, [], verdicts).items()}, verdicts


@pytest.mark.parametrize(
    "text",
    [
        "<think>maybe [[3]]</think> Rating: [[9]]",
        "maybe [[3]], or [[5]]\n</think>\n\nRating: [[9]]",
        "[THINK][[3]][/THINK]The answer is right. [[9]]",
        "Hm. <think>[[3]]?</think> [[9]] rather than [[8]]",
    ],
)
def test_a_rating_is_read_after_the_last_thought(two: MtBench, text: str) -> None:
    metrics, verdicts = rated(two, text)
    assert {v.value for v in verdicts} == {9.0}
    assert metrics["mt_bench.thoughts"] == len(verdicts)
    assert all("[[3]]" not in v.reply for v in verdicts)


def test_a_judge_that_does_not_think_has_no_such_figure(two: MtBench) -> None:
    metrics, verdicts = rated(two, "Rating: [[9]]")
    assert not {"mt_bench.thoughts", "mt_bench.from_text"} & metrics.keys()
    assert all("thought" not in v.detail for v in verdicts)


def test_a_thought_that_does_not_end_is_no_rating(two: MtBench) -> None:
    _, verdicts = rated(two, JudgeReply(text="<think>maybe [[3]] and", cut=True, completion_tokens=2048))
    assert {v.value for v in verdicts} == {None}
    assert "ended in its thought, after 2,048 tokens; give the judge more max_tokens" in (verdicts[0].invalid or "")
    _, verdicts = rated(two, JudgeReply(text="The answer is", cut=True))
    assert verdicts[0].invalid == "no rating in the judge's reply, which was cut at its token limit"


def test_a_prompt_that_opens_a_thought_is_noticed_by_the_other_replies(two: MtBench) -> None:
    """Nothing marks the thought of a reply that was cut: neither an opening nor a closing."""
    texts = iter(
        [JudgeReply(text="Fine.\n</think>\n[[8]]", thought=5), JudgeReply(text="Maybe [[3]] or", cut=True)] * 2
    )
    _, verdicts = rated(two, lambda request: next(texts))
    assert [v.value for v in verdicts] == [8.0, None] * 2


def test_a_mixture_of_ratings_by_text_and_by_probability_is_counted(two: MtBench) -> None:
    sure = JudgeReply(text="[[9]]", logprobs={reply: (0.0 if reply == "[[9]]" else -50.0) for reply in RATING_REPLIES})
    replies = iter([sure, JudgeReply(text="[[9]]")] * 2)
    metrics, _ = rated(two, lambda request: next(replies))
    assert metrics["mt_bench.from_text"] == 2


def test_a_choice_is_read_after_the_thought_in_both_games(shared_data: Any) -> None:
    made = benchmark(data_dir=str(shared_data / "mt_bench"), limit=2, mode="pairwise", reference="base")
    assert made.requests_per_turn == 2

    def reply(request: JudgeRequest) -> JudgeReply:
        text = request.messages[-1].content
        first = text.index("new<") < text.index("old<")
        return JudgeReply(text=f"<think>[[A]]? [[B]]? [[C]]?</think>\n[[{'A' if first else 'B'}]]")

    verdicts = made.verdicts(answers(made, "new<"), answers(made, "old<"), ScriptedAsk(reply))
    assert {v.value for v in verdicts} == {1.0}
    assert all(v.detail["thought"] for v in verdicts)
