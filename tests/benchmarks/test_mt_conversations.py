"""MT-bench beyond two rated turns: longer conversations, several samples, other references, pairs against a row."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.benchmarks.mt_bench import MtBench
from harness.components import build
from harness.errors import DataError
from harness.mt_data import templates
from harness.mt_prompts import PAIR, Item, pair_request, parse_winner, rating_request, template_name
from harness.protocols import Judged
from harness.types import Answer, JudgeReply, JudgeRequest, Verdict


def benchmark(**fields: Any) -> MtBench:
    made = build("benchmark", {"name": "mt_bench"} | fields)
    assert isinstance(made, MtBench)
    return made


def asking(reply: str, seen: list[JudgeRequest] | None = None) -> Any:
    def ask(requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        if seen is not None:
            seen.extend(requests)
        return [JudgeReply(text=reply) for _ in requests]

    return ask


def questions_file(folder: Path, *turns: int, category: str = "writing") -> Path:
    (folder / "reference_answer").mkdir(exist_ok=True)
    rows, references = [], []
    for i, count in enumerate(turns, start=1):
        rows.append({"question_id": i, "category": category, "turns": [f"Q{i}.{k}" for k in range(1, count + 1)]})
        references.append({"question_id": i, "choices": [{"turns": [f"R{i}.{k}" for k in range(1, count + 1)]}]})
    (folder / "question.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "reference_answer" / "gpt-4.jsonl").write_text("".join(json.dumps(row) + "\n" for row in references))
    return folder / "question.jsonl"


def answers(made: MtBench, text: str = "A") -> list[Answer]:
    return [
        Answer(
            question_id=q.id,
            turns=tuple(f"{text}{q.id}.{k}" for k in range(1, len(q.turns) + 1)),
            finish_reasons=(),
            tokens=None,
        )
        for q in made.questions()
    ]


# Longer conversations.


def test_a_conversation_of_four_turns_is_judged_turn_by_turn(tmp_path: Path) -> None:
    made = benchmark(questions=str(questions_file(tmp_path, 4, 1, category="math")), judge_prompts="builtin")
    seen: list[JudgeRequest] = []
    given = answers(made)
    verdicts = made.verdicts(given, [], asking("[[7]]", seen))
    assert [(v.question_id, v.turn) for v in verdicts] == [("1", 1), ("1", 2), ("1", 3), ("1", 4), ("2", 1)]
    for turn in (3, 4):
        text = seen[turn - 1].messages[-1].content
        places = [text.index(f"Q1.{k}") for k in range(1, turn + 1)]
        assert places == sorted(places)
        assert all(f"A1.{k}" in text and f"R1.{k}" in text for k in range(1, turn + 1))
        assert f"Q1.{turn + 1}" not in text
        assert f"A1.{turn + 1}" not in text
    assert "third" in seen[2].messages[-1].content
    assert verdicts[2].detail["template"] == "single-math-v1-multi-turn (turn 3)"
    figures = made.metrics(given, [], verdicts)
    assert {f"mt_bench.turn_{k}" for k in (1, 2, 3, 4)} < set(figures)
    assert figures["mt_bench.turn_4"].n == 1


def test_fastchats_own_templates_are_continued_in_their_form(shared_data: Path) -> None:
    data = shared_data / "mt_bench"
    found = templates((data / "judge_prompts.jsonl").read_bytes(), "x")
    turns = ("Q1", "Q2", "Q3")
    item = Item("1", "math", turns, ("R1", "R2", "R3"))
    request = rating_request(found, item, ("A1", "A2", "A3"), 3)
    two = rating_request(found, item, ("A1", "A2", "A3"), 2).messages[-1].content
    expected = two.replace(
        "### User:\nQ2\n\n### Reference answer:\nR2\n\n",
        "### User:\nQ2\n\n### Reference answer:\nR2\n\n### User:\nQ3\n\n### Reference answer:\nR3\n\n",
    ).replace(
        "### User:\nQ2\n\n### Assistant A:\nA2\n\n",
        "### User:\nQ2\n\n### Assistant A:\nA2\n\n### User:\nQ3\n\n### Assistant A:\nA3\n\n",
    )
    assert request.messages[-1].content == expected
    system = found["single-math-v1-multi-turn"]["system_prompt"]
    assert request.messages[0].content == system.replace("second question", "third question")
    pair = pair_request(found, item, ("A1", "A2", "A3"), ("B1", "B2", "B3"), 3).messages[-1].content
    order = [pair.index(text) for text in ("R3", "A1", "A3", "B1", "B3")]
    assert order == sorted(order)
    assert template_name(item, 3, PAIR) == "pair-math-v1-multi-turn (turn 3)"


def test_all_turns_are_looked_for_in_training_data(tmp_path: Path) -> None:
    made = benchmark(questions=str(questions_file(tmp_path, 3)))
    assert made.all_prompts() == [("1/1", "Q1.1"), ("1/2", "Q1.2"), ("1/3", "Q1.3")]


def test_a_question_id_that_would_be_taken_for_another_is_refused(tmp_path: Path) -> None:
    path = questions_file(tmp_path, 2)
    path.write_text(path.read_text().replace('"question_id": 1', '"question_id": "1#2"'))
    with pytest.raises(DataError, match="must hold neither '#' nor '/'"):
        benchmark(questions=str(path), judge_prompts="builtin").questions()


# Several samples.


def questions_of(verdicts: Sequence[Verdict], one: Verdict) -> int:
    """How often a verdict's question was sampled."""
    return len({v.question_id for v in verdicts if v.question_id.split("#")[0] == one.question_id.split("#")[0]})


def test_samples_are_questions_of_their_own_averaged_by_question() -> None:
    made = benchmark(questions="builtin", samples=3)
    questions = made.questions()
    sampled = {q.category for q in questions if q.sample}
    assert sampled
    assert all(q.temperature > 0 for q in questions if q.sample)
    keys = [q.id for q in questions]
    assert len(keys) == len(set(keys))
    assert sorted({q.sample for q in questions}) == [0, 1, 2]
    given = answers(made)

    def ask(requests: Sequence[JudgeRequest]) -> list[JudgeReply]:  # the second sample gets 9, the others 3
        return [JudgeReply(text="[[9]]" if "#2." in r.messages[-1].content else "[[3]]") for r in requests]

    verdicts = made.verdicts(given, [], ask)
    assert len(verdicts) == sum(len(q.turns) for q in questions)
    writing = made.metrics(given, [], verdicts)["mt_bench.writing"]
    assert writing.value == pytest.approx((3 + 9 + 3) / 3)
    groups = {q.id.split("#")[0] for q in questions if q.category == "writing"}
    if len(groups) > 1:
        assert writing.stderr == pytest.approx(0)  # every question's mean is the same
    # A question that is asked once weighs as much as one that is sampled: 3 for those, (3 + 9 + 3) / 3 for the others.
    by_question = {v.question_id.split("#")[0]: 5.0 if questions_of(verdicts, v) > 1 else 3.0 for v in verdicts}
    score = made.metrics(given, [], verdicts)["mt_bench.score"]
    assert score.value == pytest.approx(sum(by_question.values()) / len(by_question))
    assert made.identity() != benchmark(questions="builtin").identity()
    assert benchmark(questions="builtin", samples=1).identity() == benchmark(questions="builtin").identity()


def test_samples_are_drawn_anew(tiny_model: Path, tmp_path: Path) -> None:
    from harness.execute import execute
    from harness.plan import make_plan
    from harness.recipe import Recipe
    from harness.store import Store
    from tests.test_augment import Silent

    question = questions_file(tmp_path, 2)
    bench = {"name": "mt_bench", "questions": str(question), "judge_prompts": "builtin", "samples": 3}
    evaluation = {
        "judge": {"name": "local", "model": str(tiny_model), "dtype": "float32"},
        "benchmarks": [bench],
        "answers": {"max_new_tokens": 8},
    }
    fields = {"name": "x", "policy": {"model": str(tiny_model), "dtype": "float32"}, "evaluation": evaluation}
    recipe = Recipe.model_validate(fields | {"data": {"seeds": [{"name": "builtin", "limit": 8}], "report": False}})
    plan = make_plan(recipe)
    done = execute(plan, Store(tmp_path / "store"), Silent())
    rows = done.artifacts[plan.rows[0].answers["mt_bench"].key].rows("answers.jsonl", Answer)
    assert [r.question_id for r in rows] == ["1", "1#2", "1#3"]
    assert len({r.turns for r in rows}) == 3


# Other references.


def test_other_reference_answers_are_shown_and_marked(tmp_path: Path) -> None:
    path = questions_file(tmp_path, 2, category="math")
    other = tmp_path / "corrected.jsonl"
    other.write_text(json.dumps({"question_id": 1, "choices": [{"turns": ["Corrected.", "Too."]}]}) + "\n")
    plain = benchmark(questions=str(path), judge_prompts="builtin")
    made = benchmark(questions=str(path), judge_prompts="builtin", references=str(other))
    seen: list[JudgeRequest] = []
    made.verdicts(answers(made), [], asking("[[5]]", seen))
    assert "Corrected." in seen[0].messages[-1].content
    assert "R1.1" not in seen[0].messages[-1].content
    assert made.identity()["references"] == "corrected.jsonl, not FastChat's"
    assert made.identity()["references_sha256"] != plain.identity()["references_sha256"]
    assert made.question_identity() == plain.question_identity()  # answers don't depend on them
    with pytest.raises(DataError, match="references: no file"):
        benchmark(questions=str(path), judge_prompts="builtin", references=str(tmp_path / "none")).check()


# Pairs.


@pytest.fixture
def pairs(shared_data: Path) -> MtBench:
    return benchmark(data_dir=str(shared_data / "mt_bench"), limit=16, mode="pairwise", reference="base")


def better(winner: str) -> Any:
    """A judge that finds the texts of `winner` better, in either place."""

    def ask(requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        replies = []
        for request in requests:
            text = request.messages[-1].content
            first = text.index(f"{winner}<") < text.index(f"{'old' if winner == 'new' else 'new'}<")
            replies.append(JudgeReply(text=f"Well: [[{'A' if first else 'B'}]]"))
        return replies

    return ask


def both(made: MtBench) -> tuple[list[Answer], list[Answer]]:
    return answers(made, "new<"), answers(made, "old<")


def test_a_row_that_is_better_in_both_orders_wins(pairs: MtBench) -> None:
    new, old = both(pairs)
    figures = pairs.metrics(new, old, pairs.verdicts(new, old, better("new")))
    assert figures["mt_bench.win_rate"].value == 100
    assert figures["mt_bench.wins"].value == figures["mt_bench.win_rate"].n == 32
    figures = pairs.metrics(new, old, pairs.verdicts(new, old, better("old")))
    assert (figures["mt_bench.win_rate"].value, figures["mt_bench.losses"].value) == (0, 32)


def test_a_judge_that_always_takes_the_first_gives_ties(pairs: MtBench) -> None:
    new, old = both(pairs)
    verdicts = pairs.verdicts(new, old, asking("[[A]]"))
    assert {v.value for v in verdicts} == {0.5}
    figures = pairs.metrics(new, old, verdicts)
    assert (figures["mt_bench.win_rate"].value, figures["mt_bench.ties"].value) == (50, 32)


def test_the_same_text_is_a_tie_without_asking_and_what_can_not_be_read_is_not_scored(pairs: MtBench) -> None:
    new, old = both(pairs)
    seen: list[JudgeRequest] = []
    verdicts = pairs.verdicts([old[0], *new[1:]], old, asking("I can't choose.", seen))
    assert len(seen) == 2 * 2 * 15
    assert [v.value for v in verdicts] == [0.5, 0.5, *[None] * 30]
    assert verdicts[2].invalid == "no [[A]], [[B]] or [[C]] in the judge's reply"
    figures = pairs.metrics(new, old, verdicts)
    assert (figures["mt_bench.win_rate"].n, figures["mt_bench.win_rate"].n_invalid) == (2, 30)
    missing = pairs.verdicts(new[1:], old[:-1], asking("[[A]]"))
    assert [missing[0].invalid, missing[-1].invalid] == ["no answer", "no reference answer"]


def test_probabilities_are_averaged_over_both_orders(pairs: MtBench) -> None:
    from math import log

    new, old = both(pairs)
    logprobs = {"[[A]]": log(0.6), "[[B]]": log(0.3), "[[C]]": log(0.1)}
    verdicts = pairs.verdicts(new, old, lambda rs: [JudgeReply(text="[[A]]", logprobs=logprobs) for _ in rs])
    assert [v.value for v in verdicts] == pytest.approx([0.5] * 32)  # the first place's advantage cancels out


def test_prompts_and_winners_are_those_of_run_judge_pair(
    pairs: MtBench, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastchat.llm_judge import common

    sent: list[tuple[str, str]] = []

    def capture(model: str, conv: Any, temperature: float, max_tokens: int) -> str:
        sent.append((conv.system_message, conv.messages[0][1]))
        return "It is [[B]] rather than [[C]]."

    monkeypatch.setattr(common, "chat_completion_openai", capture)
    data = shared_data / "mt_bench"
    prompts = common.load_judge_prompts(str(data / "judge_prompts.jsonl"))
    references = common.load_model_answers(str(data / "reference_answer"))["gpt-4"]
    new, old = both(pairs)
    seen: list[JudgeRequest] = []
    pairs.verdicts(new, old, asking("[[C]]", seen))
    for question, mine, theirs in zip(pairs.questions(), new, old, strict=True):
        kind = "pair-math-v1" if question.category in common.NEED_REF_CATS else "pair-v2"
        as_fastchat = [{"choices": [{"turns": list(a.turns)}]} for a in (mine, theirs)]
        for multi in (False, True):
            judge = common.Judge("gpt-4", prompts[f"{kind}-multi-turn" if multi else kind], multi_turn=multi)
            reference = references[int(question.id)] if kind == "pair-math-v1" else None
            for pair in (as_fastchat, as_fastchat[::-1]):
                winner, *_ = common.run_judge_pair({"turns": list(question.turns)}, *pair, judge, reference, multi)
                assert winner == "B"
    assert parse_winner("It is [[B]] rather than [[C]].") == (0.0, None)
    assert sorted(sent) == sorted((r.messages[0].content, r.messages[1].content) for r in seen)


def test_fastchats_show_result_reads_the_pairs(pairs: MtBench, tmp_path: Path) -> None:
    new, old = both(pairs)
    verdicts = pairs.verdicts(new, old, better("new"))
    for path, text in pairs.public_files("j", [Judged("mine", new, old, verdicts)]).items():
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
