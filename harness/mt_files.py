"""MT-bench's public files: FastChat's answers (`model_answer/<model>.jsonl`) and judgments (`gpt-4_single.jsonl`).

What FastChat's `show_result` would silently drop or average (scores of -1, several judgments of one turn) is counted
instead.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from harness.datafiles import json_lines
from harness.errors import DataError
from harness.types import Answer, Question, Verdict


class Recorded(NamedTuple):
    """One recorded judgment: the judge's model and template, the prompt that it was sent, its words and its score."""

    judge: str
    template: str
    prompt: str
    judgment: str
    score: float | None


def read_answers(data: bytes, where: str, questions: Sequence[Question]) -> tuple[list[Answer], dict[str, int]]:
    """(answers in the order of `questions`, counts). Of several answers to one question the last counts, as in
    FastChat, whose re-runs append; of each, the first choice. Counts: `repeated`, `of_other_questions`, `missing`,
    `failed` (`$ERROR$`, which FastChat writes for an answer that it could not get). Raises DataError."""
    found: dict[str, Answer] = {}
    counts = Counter(repeated=0, of_other_questions=0, missing=0, failed=0)
    for row in json_lines(data, where):
        key = str(row.get("question_id"))
        try:
            turns = tuple(row["choices"][0]["turns"])
        except (KeyError, IndexError, TypeError):
            raise DataError(f"{where}, question {key}: expected a list of texts under choices[0].turns") from None
        if not all(isinstance(turn, str) for turn in turns):
            raise DataError(f"{where}, question {key}: expected a list of texts under choices[0].turns")
        counts["repeated"] += key in found
        found[key] = Answer(question_id=key, turns=turns, finish_reasons=(), tokens=None)
    ids = [q.id for q in questions]
    counts["of_other_questions"] = len(found.keys() - set(ids))
    failed = {key for key, answer in found.items() if key in ids and "$ERROR$" in answer.turns}
    counts["failed"] = len(failed)
    answers = [found[i] for i in ids if i in found and i not in failed]
    counts["missing"] = len(ids) - len(answers) - len(failed)
    return answers, dict(counts)


def read_judgments(
    data: bytes, where: str, questions: Sequence[Question]
) -> tuple[dict[tuple[str, int], Recorded], dict[str, int], str]:
    """(judgments by question and turn, counts, the judge's name). Of several judgments of one turn the first counts
    (`show_result` would average them). Counts: `repeated`, `of_other_questions`, `missing`, `failed` (a score of -1, or
    none). Raises DataError."""
    found: dict[tuple[str, int], Recorded] = {}
    counts = Counter(repeated=0, of_other_questions=0, missing=0, failed=0)
    judges: dict[str, None] = {}
    wanted = {(q.id, turn + 1) for q in questions for turn in range(len(q.turns))}
    for number, row in enumerate(json_lines(data, where), start=1):
        turn, judge = row.get("turn"), row.get("judge")
        if not isinstance(turn, int) or not isinstance(judge, list) or len(judge) != 2:
            raise DataError(f"{where}, row {number}: expected question_id, turn, score and judge: [model, template]")
        key = (str(row.get("question_id")), turn)
        if key in found:
            counts["repeated"] += 1
            continue
        judges[str(judge[0])] = None
        prompt, judgment = (str(row.get(name) or "") for name in ("user_prompt", "judgment"))
        found[key] = Recorded(str(judge[0]), str(judge[1]), prompt, judgment, _rating(row.get("score")))
    if len(judges) != 1:
        raise DataError(f"{where}: judgments of one judge expected, found {', '.join(sorted(judges)) or 'none'}")
    counts["of_other_questions"] = len(found.keys() - wanted)
    kept = {key: judgment for key, judgment in found.items() if key in wanted}
    counts["missing"] = len(wanted) - len(kept)
    counts["failed"] = sum(j.score is None for j in kept.values())
    return kept, dict(counts), next(iter(judges))


def _rating(score: Any) -> float | None:
    """A recorded score, if it is a rating."""
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not 1 <= score <= 10:
        return None
    return float(score)


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
    """Verdicts in FastChat's format. One that is not scored has its -1, which `show_result` leaves out."""
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
        }
        for v in verdicts
    ]
    return _lines(rows)


def _lines(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def _plain_id(question_id: str) -> int | str:
    """FastChat's ids are numbers; ids are kept as texts here."""
    return int(question_id) if question_id.isdecimal() and str(int(question_id)) == question_id else question_id
