"""MT-bench's public files: FastChat's answers (`model_answer/<model>.jsonl`) and judgments
(`model_judgment/<judge>_single.jsonl`), as its `show_result` and `qa_browser` read them.

Rows that `show_result` would silently drop or average (scores of -1, several judgments of one turn) are counted.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.benchmark import ANY, ExampleAnswer, ExamplePrompt, Examples, Names, Wanted, ambiguous
from harness.errors import DataError
from harness.files import file_name, json_lines, read_json_lines
from harness.types import Answer, Question, Verdict

ERROR = "$ERROR$"
"""FastChat's text for an answer or a judgment that it could not get."""


def read_names(data: bytes, where: str) -> Names:
    """The models and judges of answers or judgments."""
    rows = json_lines(data, where)
    models = [row.get("model_id", row.get("model")) for row in rows]
    judges = [row["judge"][0] for row in rows if isinstance(row.get("judge"), list) and row["judge"]]
    return Names.among(models, judges)


def read_answers(
    data: bytes, where: str, questions: Sequence[Question], wanted: Wanted = ANY
) -> tuple[list[Answer], dict[str, int]]:
    """(answers in the order of `questions`, counts). Of several answers to one question the last one counts, as in
    FastChat, whose re-runs append; of each answer, the first choice. Counts: `repeated`, `of_other_questions`,
    `missing` (also for a missing turn), `failed` (`$ERROR$`), and `of_other_models` if there are several. Raises
    DataError, also for several models of which none is meant."""
    answers: dict[str, Answer] = {}
    counts = Counter(repeated=0, of_other_questions=0, missing=0, failed=0)
    rows = json_lines(data, where)
    models = [str(row.get("model_id")) for row in rows]
    model = wanted.model_of(models, where)
    if model is None and rows:
        raise ambiguous("answers of one model", "model", models, where)
    for number, row in enumerate(rows, start=1):
        key = str(row.get("question_id"))
        try:
            turns = tuple(row["choices"][0]["turns"])
        except (KeyError, IndexError, TypeError):
            turns = (None,)
        if not all(isinstance(turn, str) for turn in turns):
            raise DataError(f"{where}, row {number}: expected a list of texts under choices[0].turns")
        if models[number - 1] != model:
            counts["of_other_models"] += 1
            continue
        counts["repeated"] += key in answers
        answers[key] = Answer(question_id=key, turns=turns, finish_reasons=(), tokens=None)
    expected = {q.id: len(q.turns) for q in questions}
    counts["of_other_questions"] = len(answers.keys() - expected.keys())
    failed = {key for key, answer in answers.items() if key in expected and ERROR in answer.turns}
    complete = [
        answers[q]
        for q, turns in expected.items()
        if q in answers and q not in failed and len(answers[q].turns) >= turns
    ]
    counts["failed"] = len(failed)
    counts["missing"] = len(expected) - len(complete) - len(failed)
    return complete, dict(counts)


class _Judgment(NamedTuple):
    """A row of a file of judgments. `key`: (question id, turn)."""

    key: tuple[str, int]
    model: str
    judge: str
    row: Mapping[str, Any]

    def is_about(self, texts: Mapping[tuple[str, int], str]) -> bool:
        """Whether the judge was shown the answer to the turn."""
        return texts.get(self.key, ERROR) in str(self.row.get("user_prompt"))


def read_judgments(
    data: bytes, where: str, answers: Sequence[Answer], questions: Sequence[Question], wanted: Wanted = ANY
) -> tuple[list[Verdict], dict[str, int], str]:
    """(one verdict per turn, in the questions' order; counts; the judge's name).

    FastChat's files hold judgments of several models, and may hold those of several judges: the ones that are meant
    count; without names, those of the model whose answers were shown to the judge in every one of its judgments. A
    judgment whose prompt doesn't contain the answer is one of `of_other_answers`. Of several judgments of one turn the
    first counts (`show_result` averages them). A score outside [1, 10] is not scored (-1 is FastChat's mark of a reply
    without a rating). Counts: `repeated`, `of_other_questions`, `of_other_answers`, `missing`, `failed`, and
    `of_other_models`, `of_other_judges` if there are any. Raises DataError.
    """
    texts = {(a.question_id, turn): text for a in answers for turn, text in enumerate(a.turns, start=1)}
    expected = {(q.id, turn): q for q in questions for turn in range(1, len(q.turns) + 1)}
    recorded: dict[tuple[str, int], Verdict] = {}
    counts = Counter(repeated=0, of_other_questions=0, of_other_answers=0, missing=0, failed=0)
    rows = [_judgment(row, f"{where}, row {number}") for number, row in enumerate(json_lines(data, where), start=1)]
    judgments = [judgment for judgment in rows if judgment.key in expected]
    counts["of_other_questions"] = len(rows) - len(judgments)
    model = _model(judgments, where, texts, wanted)
    if others := sum(judgment.model != model for judgment in judgments):
        counts["of_other_models"] = others
    ours = [judgment for judgment in judgments if judgment.model == model]
    shown = [judgment for judgment in ours if judgment.is_about(texts)]
    counts["of_other_answers"] = len(ours) - len(shown)
    if not shown:
        raise DataError(f"{where}: no judgment on any of these answers; expected FastChat's file about this model")
    judge = wanted.judge_of((judgment.judge for judgment in shown), where)
    if judge is None:
        raise ambiguous("judgments of one judge", "judge", (judgment.judge for judgment in shown), where)
    if others := sum(judgment.judge != judge for judgment in shown):
        counts["of_other_judges"] = others
    for judgment in shown:
        if judgment.judge == judge:
            counts["repeated"] += judgment.key in recorded
            recorded.setdefault(judgment.key, _verdict(judgment.key, expected[judgment.key].category, judgment.row))
    verdicts = [
        recorded.get((q, turn))
        or Verdict(question_id=q, turn=turn, category=question.category, value=None, invalid="no judgment recorded")
        for (q, turn), question in expected.items()
    ]
    counts["missing"] = len(expected) - len(recorded)
    counts["failed"] = sum(v.value is None for v in recorded.values())
    return verdicts, dict(counts), judge


def _model(
    judgments: Sequence[_Judgment], where: str, texts: Mapping[tuple[str, int], str], wanted: Wanted
) -> str | None:
    """The model whose judgments are meant; None if there are none. Raises DataError if that can't be told."""
    model = wanted.model_of((judgment.model for judgment in judgments), where)
    if model is None and judgments:
        strange = {j.model for j in judgments if j.key in texts and not j.is_about(texts)}
        likely = dict.fromkeys(j.model for j in judgments if j.key in texts and j.model not in strange)
        if len(likely) != 1:
            raise ambiguous("judgments of one model", "model", (judgment.model for judgment in judgments), where)
        (model,) = likely
    return model


def _judgment(row: Mapping[str, Any], where: str) -> _Judgment:
    turn, judge = row.get("turn"), row.get("judge")
    if "g1_judgment" in row:
        raise DataError(f"{where}: a judgment of a pair; expected FastChat's judgments of single answers")
    if not isinstance(turn, int) or not isinstance(judge, list) or len(judge) != 2 or "score" not in row:
        raise DataError(f"{where}: expected question_id, turn, score and judge: [model, template]")
    return _Judgment((str(row.get("question_id")), turn), str(row.get("model")), str(judge[0]), row)


def _verdict(key: tuple[str, int], category: str | None, row: Mapping[str, Any]) -> Verdict:
    score = row["score"]
    is_rating = isinstance(score, (int, float)) and not isinstance(score, bool) and 1 <= score <= 10
    return Verdict(
        question_id=key[0],
        turn=key[1],
        category=category,
        value=float(score) if is_rating else None,
        invalid=None if is_rating else f"the recorded judgment has no rating in [1, 10] but {str(score)[:40]}",
        prompt=str(row.get("user_prompt")),
        reply=str(row.get("judgment") or ""),
        detail={"recorded": True, "template": str(row["judge"][1])},
    )


def answers_text(answers: Sequence[Answer], model: str) -> str:
    """Answers in FastChat's format, a JSON object a line."""
    rows = [
        {
            "question_id": _plain_id(a.question_id),
            "answer_id": f"{model}-{a.question_id}",
            "model_id": model,
            "choices": [{"index": 0, "turns": list(a.turns)}],
            "tstamp": 0.0,
        }
        for a in answers
    ]
    return _lines(rows)


def judgments_text(verdicts: Sequence[Verdict], model: str, judge: str) -> str:
    """Verdicts in FastChat's format. A verdict that is not scored has FastChat's -1, which `show_result` skips, and the
    reason under `invalid`."""
    rows = [
        {
            "question_id": _plain_id(v.question_id),
            "model": model,
            "judge": [judge, v.detail.get("template", "")],
            "user_prompt": v.prompt,
            "judgment": v.reply,
            "score": -1 if v.value is None else v.value,
            "turn": v.turn,
            "tstamp": 0.0,
            **({"invalid": v.invalid} if v.invalid else {}),
        }
        for v in verdicts
    ]
    return _lines(rows)


def pairs_text(verdicts: Sequence[Verdict], model: str, baseline: str, judge: str) -> str:
    """Choices between a model's answers and a baseline's in FastChat's format: two games, in the first of which the
    model is assistant A. A missing choice is an `error`."""
    rows = []
    for v in verdicts:
        # Equal answers are a tie without games; without games and a value, nothing was judged.
        games = v.detail.get("games", [v.value, v.value])
        rows.append(
            {
                "question_id": _plain_id(v.question_id),
                "model_1": model,
                "model_2": baseline,
                "g1_winner": _winner(games[0], "model_1", "model_2"),
                "g2_winner": _winner(games[1], "model_2", "model_1"),
                "judge": [judge, v.detail.get("template", "")],
                "g1_user_prompt": v.prompt,
                "g1_judgment": v.reply,
                "g2_user_prompt": v.detail.get("second_prompt", ""),
                "g2_judgment": v.detail.get("second_reply", ""),
                "turn": v.turn,
                "tstamp": 0.0,
                **({"invalid": v.invalid} if v.invalid else {}),
            }
        )
    return _lines(rows)


def _winner(score: float | None, first: str, second: str) -> str:
    """The winner of a game in which assistant A, `first`, got `score`."""
    if score is None:
        return "error"
    return "tie" if score == 0.5 else first if score > 0.5 else second


def questions_text(questions: Sequence[Question]) -> str:
    """Questions in FastChat's format."""
    return _lines([{"question_id": _plain_id(q.id), "category": q.category, "turns": list(q.turns)} for q in questions])


def _lines(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def _plain_id(question_id: str) -> int | str:
    """FastChat's ids are numbers; ours are texts."""
    return int(question_id) if question_id.isdecimal() and str(int(question_id)) == question_id else question_id


def read_examples(folder: Path, rows: Sequence[str]) -> Examples:
    """Questions, answers and ratings of a board's rows, from the files that the benchmark's `public_files` wrote."""
    prompts: dict[str, ExamplePrompt] = {}
    answers: dict[str, dict[str, ExampleAnswer]] = {}
    if not (folder / "question.jsonl").is_file():
        return Examples(prompts, answers)
    for question in read_json_lines(folder / "question.jsonl"):
        category = str(question.get("category") or "MT-bench")
        prompts[str(question["question_id"])] = ExamplePrompt(category, tuple(question["turns"]))
    for name in rows:
        path = folder / "model_answer" / f"{file_name(name)}.jsonl"
        for answer in read_json_lines(path) if path.is_file() else []:
            turns = answer["choices"][0]["turns"]
            unjudged = ExampleAnswer(turns, [None] * len(turns), [""] * len(turns), [None] * len(turns))
            answers.setdefault(name, {})[str(answer["question_id"])] = unjudged
    for path in sorted((folder / "model_judgment").glob("*_single.jsonl")):
        for judgment in read_json_lines(path):
            example = answers.get(str(judgment["model"]), {}).get(str(judgment["question_id"]))
            turn = int(judgment["turn"]) - 1
            if example is not None and turn < len(example.turns):
                scored = judgment["score"] != -1
                example.values[turn] = judgment["score"] if scored else None
                example.replies[turn] = str(judgment["judgment"])
                example.unscored[turn] = None if scored else str(judgment.get("invalid") or "not scored")
    return Examples(prompts, answers)
