"""MT-bench beyond two turns asked once: longer conversations, several samples, other references."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.benchmarks.mt_bench.data import parse_templates
from harness.benchmarks.mt_bench.prompts import (
    PAIR_TEMPLATES,
    MtQuestion,
    pair_request,
    rating_request,
    template_name,
)
from harness.engine.execute import execute
from harness.engine.store import Store
from harness.errors import DataError
from harness.pipeline.plan import make_plan
from harness.recipe.recipe import Recipe
from harness.types import Answer, JudgeReply, Verdict
from tests.benchmarks.mt_bench.helpers import answers, benchmark
from tests.stages.scripted import Silent
from tests.stand_ins import ScriptedAsk, last_text


def questions_file(folder: Path, *turns: int, category: str = "writing") -> Path:
    (folder / "reference_answer").mkdir(exist_ok=True)
    rows, references = [], []
    for i, count in enumerate(turns, start=1):
        rows.append({"question_id": i, "category": category, "turns": [f"Q{i}.{k}" for k in range(1, count + 1)]})
        references.append({"question_id": i, "choices": [{"turns": [f"R{i}.{k}" for k in range(1, count + 1)]}]})
    (folder / "question.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "reference_answer" / "gpt-4.jsonl").write_text("".join(json.dumps(row) + "\n" for row in references))
    return folder / "question.jsonl"


# Longer conversations.


def test_a_conversation_of_four_turns_is_judged_turn_by_turn(tmp_path: Path) -> None:
    made = benchmark(questions=str(questions_file(tmp_path, 4, 1, category="math")), judge_prompts="builtin")
    ask = ScriptedAsk("[[7]]")
    given = answers(made)
    verdicts = made.verdicts(given, [], ask)
    assert [(v.question_id, v.turn) for v in verdicts] == [("1", 1), ("1", 2), ("1", 3), ("1", 4), ("2", 1)]
    for turn in (3, 4):
        text = last_text(ask.requests[turn - 1])
        places = [text.index(f"Q1.{k}") for k in range(1, turn + 1)]
        assert places == sorted(places)
        assert all(f"A1.{k}" in text and f"R1.{k}" in text for k in range(1, turn + 1))
        assert f"Q1.{turn + 1}" not in text
        assert f"A1.{turn + 1}" not in text
    assert "third" in last_text(ask.requests[2])
    assert verdicts[2].detail["template"] == "single-math-v1-multi-turn (turn 3)"
    figures = made.metrics(given, [], verdicts)
    assert {f"mt_bench.turn_{k}" for k in (1, 2, 3, 4)} < set(figures)
    assert figures["mt_bench.turn_4"].n == 1


def test_fastchats_own_templates_are_continued_in_their_form(shared_data: Path) -> None:
    data = shared_data / "mt_bench"
    found = parse_templates((data / "judge_prompts.jsonl").read_bytes(), "x")
    turns = ("Q1", "Q2", "Q3")
    item = MtQuestion("1", "math", turns, ("R1", "R2", "R3"))
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
    assert template_name(item, 3, PAIR_TEMPLATES) == "pair-math-v1-multi-turn (turn 3)"


def test_all_turns_are_looked_for_in_training_data(tmp_path: Path) -> None:
    made = benchmark(questions=str(questions_file(tmp_path, 3)))
    assert made.all_prompts() == [("1/1", "Q1.1"), ("1/2", "Q1.2"), ("1/3", "Q1.3")]


def test_a_question_id_that_would_be_taken_for_another_is_refused(tmp_path: Path) -> None:
    path = questions_file(tmp_path, 2)
    path.write_text(path.read_text().replace('"question_id": 1', '"question_id": "1#2"'))
    with pytest.raises(DataError, match="must hold neither '#' nor '/'"):
        benchmark(questions=str(path), judge_prompts="builtin").load_questions()


# Several samples.


def questions_of(verdicts: Sequence[Verdict], one: Verdict) -> int:
    """How often a verdict's question was sampled."""
    return len({v.question_id for v in verdicts if v.question_id.split("#")[0] == one.question_id.split("#")[0]})


def test_samples_are_questions_of_their_own_averaged_by_question() -> None:
    made = benchmark(questions="builtin", samples=3)
    questions = made.load_questions()
    sampled = {q.category for q in questions if q.sample}
    assert sampled
    assert all(q.temperature > 0 for q in questions if q.sample)
    keys = [q.id for q in questions]
    assert len(keys) == len(set(keys))
    assert sorted({q.sample for q in questions}) == [0, 1, 2]
    given = answers(made)
    # The second sample gets 9, the others 3.
    ask = ScriptedAsk(lambda request: JudgeReply(text="[[9]]" if "#2." in last_text(request) else "[[3]]"))
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
    ask = ScriptedAsk("[[5]]")
    made.verdicts(answers(made), [], ask)
    assert "Corrected." in last_text(ask.requests[0])
    assert "R1.1" not in last_text(ask.requests[0])
    assert made.identity()["references"] == "corrected.jsonl, not FastChat's"
    assert made.identity()["references_sha256"] != plain.identity()["references_sha256"]
    assert made.question_identity() == plain.question_identity()  # answers don't depend on them
    with pytest.raises(DataError, match="references: no file"):
        benchmark(questions=str(path), judge_prompts="builtin", references=str(tmp_path / "none")).check()
