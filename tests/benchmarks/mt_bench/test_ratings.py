"""MT-bench's ratings against FastChat itself and recorded judgments of GPT-4, and what is not scored."""

import json
import math
import random
import re
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import scipy.stats

from harness.benchmarks.mt_bench import benchmark as mt_bench
from harness.benchmarks.mt_bench import prompts as mt_prompts
from harness.benchmarks.mt_bench.benchmark import MtBench
from harness.benchmarks.mt_bench.prompts import MtQuestion, parse_rating, rating_request
from harness.errors import DataError
from harness.types import Answer, JudgeReply, Verdict
from tests.benchmarks.mt_bench.helpers import (
    CATEGORIES,
    as_answers,
    benchmark,
    recorded_answers,
    recorded_judgments,
)
from tests.stand_ins import ScriptedAsk, last_text


def answers_to(made: MtBench, text: str = "An answer.") -> list[Answer]:
    return [
        Answer(question_id=q.id, turns=(text, f"{text} Again."), finish_reasons=("stop", "stop"), tokens=2)
        for q in made.load_questions()
    ]


def builtin_like(folder: Path, categories: Sequence[str] = ("writing",), each: int = 2) -> MtBench:
    """A question file of one's own, with the judge prompts of the package."""
    questions, references = [], []
    for category in categories:
        for _ in range(each):
            i = len(questions) + 1
            questions.append({"question_id": i, "category": category, "turns": [f"Q{i}?", f"And {i}?"]})
            references.append({"question_id": i, "choices": [{"index": 0, "turns": [f"R{i}.", f"S{i}."]}]})
    (folder / "reference_answer").mkdir(exist_ok=True)
    (folder / "question.jsonl").write_text("".join(json.dumps(q) + "\n" for q in questions))
    (folder / "reference_answer" / "gpt-4.jsonl").write_text("".join(json.dumps(r) + "\n" for r in references))
    return benchmark(questions=str(folder / "question.jsonl"), judge_prompts="builtin")


# Against FastChat.


@pytest.mark.parametrize(
    ("model", "means"),
    [
        ("mistral-orpo-capybara", (7.1250, 6.5125, 6.81875)),
        ("claude-3-opus-20240229", (9.04375, 8.30625, 8.6750)),
    ],
)
def test_prompts_ratings_and_means_are_fastchats(
    model: str, means: tuple[float, float, float], official: MtBench, shared_data: Path, fastchat: ModuleType
) -> None:
    judgments = recorded_judgments(shared_data, model)
    assert len(judgments) == 160
    by_prompt = {row["user_prompt"]: row for row in judgments}
    # KeyError here: a prompt of ours is not, byte for byte, what GPT-4 was sent.
    ask = ScriptedAsk(lambda request: JudgeReply(text=by_prompt[last_text(request)]["judgment"]))
    answers = as_answers(recorded_answers(shared_data, model))
    verdicts = official.verdicts(answers, [], ask)
    assert {last_text(r) for r in ask.requests} == set(by_prompt)
    recorded = {(str(row["question_id"]), row["turn"]): row["score"] for row in judgments}
    assert {(v.question_id, v.turn): v.value for v in verdicts} == recorded
    metrics = official.metrics(answers, [], verdicts)
    found = [metrics[f"mt_bench.{k}"].value for k in ("turn_1", "turn_2", "score")]
    assert found == pytest.approx(means)
    assert [metrics[f"mt_bench.{k}"].n for k in ("score", "turn_1", "math")] == [80, 80, 10]
    assert [k.removeprefix("mt_bench.") for k in metrics] == ["score", "turn_1", "turn_2", *CATEGORIES]


@pytest.mark.parametrize(
    ("model", "falls_to"), [("mistral-orpo-capybara", (0.72, 0.8)), ("claude-3-opus-20240229", (0.86, 0.92))]
)
def test_questions_are_the_units_and_categories_strata(
    model: str, falls_to: tuple[float, float], shared_data: Path, official: MtBench
) -> None:
    """The same values; the standard error of the mean over questions falls by a quarter or a ninth."""
    verdicts = [
        Verdict(question_id=str(row["question_id"]), turn=row["turn"], category=category, value=row["score"])
        for row in recorded_judgments(shared_data, model)
        for category in [CATEGORIES[(int(row["question_id"]) - 81) // 10]]
    ]
    score = official.metrics([], [], verdicts)["mt_bench.score"]
    by_question: dict[str, list[float]] = {}
    for verdict in verdicts:
        by_question.setdefault(verdict.question_id, []).append(float(verdict.value or 0))
    table = np.array([np.mean(by_question[str(81 + i)]) for i in range(80)]).reshape(8, 10)
    assert score.value == pytest.approx(table.mean(), abs=1e-12)
    within = math.sqrt(table.var(axis=1, ddof=1).mean() / 80)  # Cochran 1977, chapter 5
    assert score.stderr == pytest.approx(within)
    assert falls_to[0] < within / scipy.stats.sem(table.ravel()) < falls_to[1]
    assert score.ci95 is not None
    assert (score.ci95[1] - score.ci95[0]) / 2 == pytest.approx(1.96 * within, rel=0.06)
    assert official.metrics([], [], verdicts)["mt_bench.math"].stderr == pytest.approx(scipy.stats.sem(table[3]))


def test_whole_requests_are_those_of_run_judge_single(
    official: MtBench, shared_data: Path, fastchat: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shared_data / "mt_bench"
    sent: list[dict[str, Any]] = []

    def capture(model: str, conv: Any, temperature: float, max_tokens: int) -> str:
        messages = conv.to_openai_api_messages()
        sent.append({"messages": messages, "temperature": temperature, "max_tokens": max_tokens})
        return "Rating: [[7]]"

    monkeypatch.setattr(fastchat, "chat_completion_openai", capture)
    templates = fastchat.load_judge_prompts(str(folder / "judge_prompts.jsonl"))
    references = fastchat.load_model_answers(str(folder / "reference_answer"))["gpt-4"]
    answers = recorded_answers(shared_data, "mistral-orpo-capybara")
    for question in fastchat.load_questions(str(folder / "question.jsonl"), None, None):
        based = question["category"] in fastchat.NEED_REF_CATS
        for multi_turn in (False, True):
            name = ("single-math-v1" if based else "single-v1") + ("-multi-turn" if multi_turn else "")
            judge = fastchat.Judge("gpt-4", templates[name], ref_based=based, multi_turn=multi_turn)
            i = question["question_id"]
            reference = references[i] if based else None
            rating, _, _ = fastchat.run_judge_single(question, answers[i], judge, reference, multi_turn=multi_turn)
            assert rating == 7
    ask = ScriptedAsk("Rating: [[7]]")
    verdicts = official.verdicts(as_answers(answers), [], ask)
    ours = [
        {"messages": [m.model_dump() for m in r.messages], "temperature": r.temperature, "max_tokens": r.max_tokens}
        for r in ask.requests
    ]
    assert ours == sent
    assert {v.value for v in verdicts} == {7.0}


def test_categories_and_temperatures_are_fastchats(official: MtBench, fastchat: ModuleType) -> None:
    assert fastchat.temperature_config == mt_bench.TEMPERATURES
    assert set(fastchat.NEED_REF_CATS) == mt_prompts.NEED_REFERENCE
    questions = official.load_questions()
    assert len(questions) == 80
    assert {q.category: q.temperature for q in questions} == {c: fastchat.temperature_config[c] for c in CATEGORIES}


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("Rating: [[5]]", 5),
        ("[[7.5]] then [[9]]", 7.5),
        ("only [8]", 8),
        ("[3] but [[6]]", 6),
        ("[[10]]", 10),
        ("[[1]]", 1),
        ("[[0]]", None),
        ("[[11]]", None),
        ("[[100]]", None),
        ("Rating: 5", None),
        ("[[rating]]", None),
        ("[[-1]]", None),
        ("[[05]]", 5),
        ("", None),
        ("$ERROR$", None),
    ],
)
def test_ratings_are_read_by_fastchats_patterns_within_bounds(
    text: str, rating: float | None, fastchat: ModuleType
) -> None:
    found, reason = parse_rating(text)
    assert found == rating
    assert (reason is None) == (rating is not None)


def test_the_patterns_are_fastchats(fastchat: ModuleType) -> None:
    draw = random.Random(0)
    for _ in range(20_000):
        text = "".join(draw.choices("[[]].5 1٣", k=draw.randint(1, 14)))
        match = re.search(fastchat.one_score_pattern, text) or re.search(fastchat.one_score_pattern_backup, text)
        rating = float(match[1]) if match else None
        assert parse_rating(text)[0] == (rating if rating is not None and 1 <= rating <= 10 else None)


@pytest.mark.parametrize(
    "text", ["[[" + "7" * 400_000, "[[7" * 100_000, "[[" + "7" * 200_000 + "." + "7" * 200_000 + "]]"]
)
def test_a_long_reply_takes_no_longer_than_its_length(text: str) -> None:
    started = time.process_time()
    rating, reason = parse_rating(text)
    assert time.process_time() - started < 1  # FastChat's own patterns: minutes
    assert rating is None
    assert len(reason or "") < 100


def test_builtin_questions_are_whole() -> None:
    made = benchmark(questions="builtin")
    made.check()
    assert set(CATEGORIES) >= {q.category for q in made.load_questions()}
    ask = ScriptedAsk(JudgeReply(text="", error="not asked"))
    verdicts = made.verdicts(answers_to(made, "Mine."), [], ask)
    assert len(verdicts) == len(ask.requests) == 2 * len(made.load_questions())
    assert all("Mine." in last_text(r) and "{" + "answer" not in last_text(r) for r in ask.requests)


def test_the_second_turn_is_judged_with_the_first_in_sight(tmp_path: Path) -> None:
    made = builtin_like(tmp_path, categories=("math",), each=1)
    ask = ScriptedAsk(JudgeReply(text="", error="x"))
    made.verdicts([Answer(question_id="1", turns=("A1", "A2"), finish_reasons=(), tokens=0)], [], ask)
    first, second = (last_text(r) for r in ask.requests)
    assert all(text in first for text in ("Q1?", "A1", "R1."))
    assert not any(text in first for text in ("And 1?", "A2", "S1."))
    assert all(text in second for text in ("Q1?", "A1", "R1.", "And 1?", "A2", "S1."))


# What is not scored.


def test_what_is_not_scored_is_counted_and_never_averaged(tmp_path: Path, fastchat: ModuleType) -> None:
    made = builtin_like(tmp_path, categories=("writing", "math"), each=2)
    replies = iter(
        [
            JudgeReply(text="[[4]]"),
            JudgeReply(text="", error="HTTP 500"),
            JudgeReply(text="[[-1]]"),
            JudgeReply(text="[[8]]"),
            JudgeReply(text="[[99]]"),
            JudgeReply(text="[[6]]"),
        ]
    )
    answers = answers_to(made)
    short = answers[3].model_copy(update={"turns": ("only one",)})
    verdicts = made.verdicts([*answers[:3], short], [], ScriptedAsk(lambda request: next(replies)))
    assert [v.value for v in verdicts] == [4, None, None, 8, None, 6, None, None]
    assert [v.invalid for v in verdicts] == [
        None,
        "HTTP 500",
        "no rating in the judge's reply",
        None,
        "the rating 99 is outside [1, 10]",
        None,
        "no answer",
        "no answer",
    ]
    metrics = made.metrics(answers, [], verdicts)
    score = metrics["mt_bench.score"]
    assert (score.value, score.n, score.n_invalid) == (6.0, 3, 5)
    assert (metrics["mt_bench.turn_1"].value, metrics["mt_bench.turn_2"].value) == (4.0, 7.0)
    assert (metrics["mt_bench.writing"].value, metrics["mt_bench.math"].value) == (6.0, 6.0)
    assert metrics["mt_bench.math"].n_invalid == 3


def test_nothing_scored_is_no_figure(tmp_path: Path, fastchat: ModuleType) -> None:
    made = builtin_like(tmp_path)
    metrics = made.metrics([], [], made.verdicts(answers_to(made), [], ScriptedAsk("hm")))
    assert all(m.value is None and m.n == 0 and m.n_invalid > 0 for m in metrics.values())


def test_a_judge_with_probabilities_gives_the_expected_rating(tmp_path: Path) -> None:
    made = builtin_like(tmp_path, each=1)
    logprobs = {f"[[{r}]]": math.log(p) for r, p in zip(range(1, 11), [0.4, 0.6] + [1e-12] * 8, strict=True)}
    ask = ScriptedAsk(JudgeReply(text="[[2]]", logprobs=logprobs))
    verdicts = made.verdicts(answers_to(made), [], ask)
    assert {r.choices for r in ask.requests} == {tuple(logprobs)}
    assert [v.value for v in verdicts] == pytest.approx([1.6] * len(verdicts))
    assert {v.detail["rating_from"] for v in verdicts} == {"probabilities"}


def test_first_token_log_probabilities_of_a_server_are_not_ratings(tmp_path: Path, fastchat: ModuleType) -> None:
    made = builtin_like(tmp_path, each=1)
    reply = JudgeReply(text="Fine. [[9]]", logprobs={"Fine": -0.1, "[[": -3.0})
    verdicts = made.verdicts(answers_to(made), [], ScriptedAsk(reply))
    assert {(v.value, v.detail["rating_from"]) for v in verdicts} == {(9.0, "text")}


def test_turns_of_a_question_go_together_in_the_interval(tmp_path: Path) -> None:
    made = builtin_like(tmp_path, each=10)
    verdicts = [
        Verdict(question_id=q.id, turn=t, category=q.category, value=1.0 + i)
        for i, q in enumerate(made.load_questions())
        for t in (1, 2)
    ]
    metrics = made.metrics([], [], verdicts)
    # Two turns that always agree tell no more than one.
    assert metrics["mt_bench.score"].stderr == pytest.approx(metrics["mt_bench.turn_1"].stderr)
    assert metrics["mt_bench.score"].ci95 == pytest.approx(metrics["mt_bench.turn_1"].ci95)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{question:>1000000000} {answer}", "{question} has a format; expected only its name"),
        ("{question.__class__} {answer}", "'question.__class__'"),
        ("{question!r} {answer}", "{question} has a format"),
        ("{answers}", "'answers'"),
        ("{question} {answer" , "can't be filled in"),
        ("{answer}" * 5_000, "more than 4,000,000 characters"),
    ],
)  # fmt: skip
def test_a_template_only_names_its_fields(text: str, said: str) -> None:
    question = MtQuestion("1", "writing", ("Write.",), None)
    templates = {"single-v1": {"prompt_template": text, "system_prompt": ""}}
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        rating_request(templates, question, ["A" * 1_000], 1)
    assert "\n" not in str(caught.value)
    templates["single-v1"]["prompt_template"] = "{{json}} {question} {answer}"
    assert rating_request(templates, question, ["{x}"], 1).messages[-1].content == "{json} Write. {x}"
