"""lm-eval as a benchmark: its prompts, filters and metrics on given answers, and errors of one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

pytest.importorskip("lm_eval", reason="needs preference-harness[lm-eval]")

from harness.benchmarks.lm_eval.benchmark import LmEval
from harness.errors import DataError
from harness.memo import remembering
from harness.stages.verdicts import NOBODY
from harness.types import Answer, Question, Verdict
from tests.benchmarks.tax.data import folder, lines

ARC = [
    {
        "id": str(i),
        "question": f"Which number is {i}?",
        "choices": {"text": [str(i), str(i + 1), str(i + 2)], "label": ["A", "B", "C"]},
        "answerKey": "A",
    }
    for i in range(4)
]


def benchmark(folder: Path, *tasks: Any, **fields: Any) -> LmEval:
    return LmEval.model_validate({"tasks": list(tasks), "data_dir": folder, **fields})


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def verdicts(own: LmEval, answer: Callable[[Question], Answer | None]) -> tuple[list[Question], list[Verdict]]:
    with remembering():
        questions = own.load_questions()
        answers = [found for question in questions if (found := answer(question))]
        return questions, own.verdicts(answers, [], NOBODY)


def text(question: Question, written: str) -> Answer:
    return Answer(question_id=question.id, turns=(written,), finish_reasons=("stop",), tokens=1)


@pytest.fixture
def gsm8k(tmp_path: Path) -> Path:
    rows = lines(folder("tax/gsm8k") / "test.jsonl.gz")
    write(tmp_path / "gsm8k" / "test.jsonl", rows)
    write(tmp_path / "gsm8k" / "train.jsonl", rows[:20])
    return tmp_path


@pytest.mark.parametrize(("change", "expected"), [("", 100.0), ("1", 0.0)])
@pytest.mark.parametrize("limit", [60, pytest.param(None, marks=pytest.mark.slow)])
def test_worked_answers_to_gsm8k(gsm8k: Path, change: str, expected: float, limit: int | None) -> None:
    worked = {f"gsm8k:{i}": row["answer"] for i, row in enumerate(lines(folder("tax/gsm8k") / "test.jsonl.gz"))}
    own = benchmark(gsm8k, {"task": "gsm8k", "num_fewshot": 0}, limit=limit)
    questions, found = verdicts(own, lambda q: text(q, worked[q.id].replace("#### ", f"#### {change}")))
    assert len(questions) == (limit or 1319)
    strict = {v.question_id: v.value for v in found if v.turn == 1}
    assert own.metrics([], [], found)["lm_eval.gsm8k"].value == expected
    assert set(strict.values()) == {expected / 100}


def test_choices_by_their_log_likelihoods(tmp_path: Path) -> None:
    write(tmp_path / "arc_easy" / "test.jsonl", ARC)
    own = benchmark(tmp_path, "arc_easy", chat=False)

    def answer(question: Question) -> Answer | None:
        number = int(question.id.split(":")[1])
        assert [continuation for _, continuation in question.scored] == [f" {number + k}" for k in range(3)]
        assert question.scored[0][0] == f"Question: Which number is {number}?\nAnswer:"
        likelihoods = [(-1.0 - (k != number), False) for k in range(3)]  # the right one for item 0 alone
        given = Answer(question_id=question.id, turns=(), finish_reasons=(), tokens=0, likelihoods=tuple(likelihoods))
        return given if number < 3 else None

    _, found = verdicts(own, answer)
    assert [v.value for v in found if v.turn == 1] == [1.0, 0.0, 0.0, None]
    metric = own.metrics([], [], found)["lm_eval.arc_easy"]
    assert (metric.value, metric.n, metric.n_invalid) == (pytest.approx(100 / 3), 3, 1)


def test_worked_examples_are_turns_of_a_chat(tmp_path: Path) -> None:
    write(tmp_path / "gsm8k" / "test.jsonl", [{"question": "1 + 1?", "answer": "#### 2"}])
    write(tmp_path / "gsm8k" / "train.jsonl", [{"question": f"{i} + 1?", "answer": f"#### {i + 1}"} for i in (4, 5)])
    chat, plain = (benchmark(tmp_path, {"task": "gsm8k", "num_fewshot": 1}, chat=mode) for mode in (True, False))
    (asked,) = chat.load_questions()
    assert asked.turns == ("Question: 1 + 1?\nAnswer:",)
    assert [message.role for message in asked.history] == ["user", "assistant"]
    assert (asked.plain, asked.max_new_tokens, asked.stop[0]) == (False, 256, "Question:")
    (read,) = plain.load_questions()
    assert read.plain
    assert read.turns[0].endswith("\n\nQuestion: 1 + 1?\nAnswer:")
    assert chat.question_identity() != plain.question_identity()


def test_a_chosen_measure_is_the_task_s(tmp_path: Path) -> None:
    write(tmp_path / "gsm8k" / "test.jsonl", [{"question": "1 + 1?", "answer": "#### 2"}])
    own = benchmark(tmp_path, {"task": "gsm8k", "num_fewshot": 0, "measure": "flexible-extract"})
    _, found = verdicts(own, lambda q: text(q, "It is 2"))
    values = {name: metric.value for name, metric in own.metrics([], [], found).items()}
    assert values == {"lm_eval.gsm8k:exact_match:strict-match": 0.0, "lm_eval.gsm8k": 100.0}
    assert [f.metric for f in own.figures_of(own.identity()) if f.tax] == ["lm_eval.gsm8k"]


@pytest.mark.parametrize(
    ("tasks", "fields", "said"),
    [
        (["gsm8"], {}, "lm_eval has no task 'gsm8'; did you mean 'gsm8k'"),
        (["mmlu"], {}, "mmlu is a group of tasks"),
        (["humaneval"], {}, "use {name: humaneval, allow_code: true}"),
        (["wikitext"], {}, "asks for loglikelihood_rolling"),
        (["arc_easy"], {}, "expected arc_easy/SPLIT.jsonl in data_dir"),
        (["gsm8k"], {"data_dir": None}, "pin its data, openai/gsm8k on the hub, with revisions: {gsm8k: COMMIT}"),
        ([{"task": "gsm8k", "measure": "bleu"}], {}, "no measure 'bleu'"),
        (["gsm8k"], {"revisions": {"gsm": "0" * 40}}, "revisions: no task 'gsm'"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: list[Any], fields: dict[str, Any], said: str
) -> None:
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    write(tmp_path / "gsm8k" / "test.jsonl", [{"question": "1 + 1?", "answer": "#### 2"}])
    with pytest.raises(DataError) as caught:
        benchmark(tmp_path, *tasks, **fields).check()
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_wrong_in_the_data_is_one_line(tmp_path: Path) -> None:
    write(tmp_path / "gsm8k" / "test.jsonl", [{"q": "1 + 1?"}])
    with pytest.raises(DataError, match=r"its prompts can't be made|can't be loaded"):
        benchmark(tmp_path, {"task": "gsm8k", "num_fewshot": 0}).load_questions()
    with pytest.raises(DataError, match=r"train.jsonl: task gsm8k needs the split 'train'"):
        benchmark(tmp_path, "gsm8k").load_questions()


def test_tasks_are_named_once() -> None:
    with pytest.raises(ValidationError, match="each task once"):
        LmEval.model_validate({"tasks": ["gsm8k", {"task": "gsm8k", "num_fewshot": 1}]})
