"""MT-bench in pairs: a row's answers against another's, in both orders."""

import math
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import ValidationError

from harness.benchmark import JudgedRow
from harness.benchmarks.mt_bench.benchmark import MtBench
from harness.benchmarks.mt_bench.prompts import parse_winner
from harness.components import build
from harness.errors import DataError
from harness.types import Answer, Candidates, JudgeReply, JudgeRequest
from tests.benchmarks.mt_bench.helpers import answers, benchmark
from tests.stand_ins import ScriptedAsk, last_text


@pytest.fixture
def pairs(shared_data: Path) -> MtBench:
    return benchmark(data_dir=str(shared_data / "mt_bench"), limit=16, mode="pairwise", reference="base")


def better(winner: str) -> ScriptedAsk:
    """A judge that finds the texts of `winner` better, in either place."""
    loser = "old" if winner == "new" else "new"

    def reply(request: JudgeRequest) -> JudgeReply:
        first = last_text(request).index(f"{winner}<") < last_text(request).index(f"{loser}<")
        return JudgeReply(text=f"Well: [[{'A' if first else 'B'}]]")

    return ScriptedAsk(reply)


def both(made: MtBench) -> tuple[list[Answer], list[Answer]]:
    return answers(made, "new<"), answers(made, "old<")


def test_a_row_that_is_better_in_both_orders_wins(pairs: MtBench) -> None:
    new, old = both(pairs)
    figures = pairs.metrics(new, old, pairs.verdicts(new, old, better("new")))
    assert figures["mt_bench.win_rate"].value == 100
    assert figures["mt_bench.wins"].value == 2 * figures["mt_bench.win_rate"].n == 32
    figures = pairs.metrics(new, old, pairs.verdicts(new, old, better("old")))
    assert (figures["mt_bench.win_rate"].value, figures["mt_bench.losses"].value) == (0, 32)


def test_a_judge_that_always_takes_the_first_gives_ties(pairs: MtBench) -> None:
    new, old = both(pairs)
    verdicts = pairs.verdicts(new, old, ScriptedAsk("[[A]]"))
    assert {v.value for v in verdicts} == {0.5}
    figures = pairs.metrics(new, old, verdicts)
    assert (figures["mt_bench.win_rate"].value, figures["mt_bench.ties"].value) == (50, 32)


def test_the_same_text_is_a_tie_without_asking_and_what_can_not_be_read_is_not_scored(pairs: MtBench) -> None:
    new, old = both(pairs)
    ask = ScriptedAsk("I can't choose.")
    verdicts = pairs.verdicts([old[0], *new[1:]], old, ask)
    assert len(ask.requests) == 2 * 2 * 15
    assert [v.value for v in verdicts] == [0.5, 0.5, *[None] * 30]
    assert verdicts[2].invalid == "no [[A]], [[B]] or [[C]] in the judge's reply"
    figures = pairs.metrics(new, old, verdicts)
    assert (figures["mt_bench.win_rate"].n, figures["mt_bench.win_rate"].n_invalid) == (1, 30)
    missing = pairs.verdicts(new[1:], old[:-1], ScriptedAsk("[[A]]"))
    assert [missing[0].invalid, missing[-1].invalid] == ["no answer", "no reference answer"]


def test_probabilities_are_averaged_over_both_orders(pairs: MtBench) -> None:
    new, old = both(pairs)
    logprobs = {"[[A]]": math.log(0.6), "[[B]]": math.log(0.3), "[[C]]": math.log(0.1)}
    verdicts = pairs.verdicts(new, old, ScriptedAsk(JudgeReply(text="[[A]]", logprobs=logprobs)))
    assert [v.value for v in verdicts] == pytest.approx([0.5] * 32)  # the first place's advantage cancels out


def test_prompts_and_winners_are_those_of_run_judge_pair(
    pairs: MtBench, shared_data: Path, fastchat: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, str]] = []

    def capture(model: str, conv: Any, temperature: float, max_tokens: int) -> str:
        sent.append((conv.system_message, conv.messages[0][1]))
        return "It is [[B]] rather than [[C]]."

    monkeypatch.setattr(fastchat, "chat_completion_openai", capture)
    data = shared_data / "mt_bench"
    prompts = fastchat.load_judge_prompts(str(data / "judge_prompts.jsonl"))
    references = fastchat.load_model_answers(str(data / "reference_answer"))["gpt-4"]
    new, old = both(pairs)
    ask = ScriptedAsk("[[C]]")
    pairs.verdicts(new, old, ask)
    for question, mine, theirs in zip(pairs.load_questions(), new, old, strict=True):
        kind = "pair-math-v1" if question.category in fastchat.NEED_REF_CATS else "pair-v2"
        as_fastchat = [{"choices": [{"turns": list(a.turns)}]} for a in (mine, theirs)]
        for multi in (False, True):
            judge = fastchat.Judge("gpt-4", prompts[f"{kind}-multi-turn" if multi else kind], multi_turn=multi)
            reference = references[int(question.id)] if kind == "pair-math-v1" else None
            for pair in (as_fastchat, as_fastchat[::-1]):
                winner, *_ = fastchat.run_judge_pair({"turns": list(question.turns)}, *pair, judge, reference, multi)
                assert winner == "B"
    assert parse_winner("It is [[B]] rather than [[C]].") == (0.0, None)
    assert sorted(sent) == sorted((r.messages[0].content, r.messages[1].content) for r in ask.requests)


def test_fastchats_show_result_reads_the_pairs(pairs: MtBench, tmp_path: Path) -> None:
    new, old = both(pairs)
    verdicts = pairs.verdicts(new, old, better("new"))
    for path, text in pairs.public_files("j", [JudgedRow("mine", new, old, verdicts)]).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    command = [sys.executable, "-m", "fastchat.llm_judge.show_result", "--judge-model", "j"]
    command += ["--mode", "pairwise-baseline", "--baseline-model", "base"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^mine\s+32\s+0\s+0\s+1\.0\s+0\.0\s+1\.0", done.stdout, flags=re.MULTILINE)


def test_pairs_need_a_row_and_ratings_have_none() -> None:
    with pytest.raises(ValidationError, match="name it as reference"):
        benchmark(mode="pairwise")
    with pytest.raises(ValidationError, match="reference is for mode: pairwise"):
        benchmark(reference="base")
    with pytest.raises(DataError, match="builtin judge prompts: expected a template 'pair-v2'"):
        benchmark(questions="builtin", mode="pairwise", reference="base").check()


def test_a_reward_model_judges_pairs_whatever_the_order_and_sees_each_side_s_own_conversation(pairs: MtBench) -> None:
    """Where only the second turn is longer, only that turn is won; equal scores are ties."""
    new, old = answers(pairs, "same"), answers(pairs, "same")
    longer = [
        a.model_copy(update={"turns": (a.turns[0] + "!" * (k % 2), a.turns[1] + "!!")}) for k, a in enumerate(new)
    ]
    judge: Any = build("judge", {"name": "reward_model", "reward": {"name": "length"}, "temperature": 0})
    asked: list[JudgeRequest] = []

    def reply(request: JudgeRequest) -> JudgeReply:
        asked.append(request)
        return judge.reply([request])[0]

    verdicts = pairs.verdicts(longer, old, ScriptedAsk(reply))
    assert [v.value for v in verdicts if v.turn == 2] == [1.0] * 16
    assert [v.value for v in verdicts if v.turn == 1] == [0.5, 1.0] * 8
    even = judge.reply([asked[0].model_copy(update={"candidates": Candidates(messages=(), answers=("x", "y"))})])[0]
    assert even.text == "[[C]]"
    for request in asked:
        assert request.candidates is not None
        first, second = request.candidates.messages, request.candidates.second_messages
        if second is None:
            assert [m.role for m in first] == ["user"]
        else:
            assert [m.role for m in first] == [m.role for m in second] == ["user", "assistant", "user"]
            assert {first[1].content, second[1].content} <= {t for a in (*longer, *old) for t in a.turns[:1]}
