"""Judgments and answers of several models and judges in one file: those that are meant count, or one line asks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.benchmark import Names, Wanted
from harness.benchmarks.mt_bench.benchmark import MtBench
from harness.errors import DataError
from harness.types import Answer, Verdict
from tests.benchmarks.mt_bench.test_files import answers_of, judgments_of, written

Rows = list[dict[str, Any]]
Read = Callable[..., tuple[list[Verdict], dict[str, int], str]]

SYS = Wanted(known_as=("sys",))

SHORT = ("4", "Yes")


@pytest.fixture
def answers(two: MtBench) -> list[Answer]:
    """Answers so short that they stand in many prompts."""
    return [Answer(question_id=q.id, turns=SHORT, finish_reasons=(), tokens=None) for q in two.load_questions()]


@pytest.fixture
def read(two: MtBench, tmp_path: Path, answers: list[Answer]) -> Read:
    def one(rows: Rows, wanted: Wanted = SYS) -> tuple[list[Verdict], dict[str, int], str]:
        return two.recorded_verdicts(written(tmp_path / "j.jsonl", rows), answers, wanted)

    return one


def by(two: MtBench, model: str | None, score: Any, judge: str = "j", shown: str = "4 Yes") -> Rows:
    changes: dict[str, Any] = {"score": score, "judge": [judge, "single-v1"], "user_prompt": f"[Answer] {shown} [End]"}
    rows = [row | changes | ({"model": model} if model else {}) for row in judgments_of(two)]
    return rows if model else [{k: v for k, v in row.items() if k != "model"} for row in rows]


def values(verdicts: list[Verdict]) -> list[float | None]:
    return [verdict.value for verdict in verdicts]


@pytest.mark.parametrize("first", [True, False])
def test_another_models_judgments_are_not_the_rows(two: MtBench, read: Read, first: bool) -> None:
    others, ours = by(two, "other", 2, shown="It must be 42. Yes, I said so."), by(two, "sys", 9)
    verdicts, counts, _ = read([*others, *ours] if first else [*ours, *others])
    assert values(verdicts) == [9.0] * 4
    assert (counts["of_other_models"], counts["repeated"], counts["of_other_answers"]) == (4, 0, 0)


def test_interleaved_rows_of_many_models(two: MtBench, read: Read) -> None:
    files = [by(two, f"m{i}", i % 10 + 1) for i in range(20)] + [by(two, "sys", 9)]
    verdicts, counts, _ = read([row for rows in zip(*files, strict=True) for row in rows])
    assert values(verdicts) == [9.0] * 4
    assert counts["of_other_models"] == 80


def test_the_name_is_the_recipes_then_that_of_the_answers_then_the_rows(two: MtBench, read: Read) -> None:
    rows = [*by(two, "a", 2), *by(two, "b", 3), *by(two, "row", 4)]
    assert values(read(rows, Wanted("a", None, ("b", "row")))[0]) == [2.0] * 4
    assert values(read(rows, Wanted(None, None, ("b", "row")))[0]) == [3.0] * 4
    assert values(read(rows, Wanted(None, None, ("none of them", "row")))[0]) == [4.0] * 4
    with pytest.raises(DataError, match=r"no model 'c' in it; available: a, b, row"):
        read(rows, Wanted("c"))


def test_without_a_name_the_texts_decide_if_they_can(two: MtBench, read: Read) -> None:
    rows = [*by(two, "x", 9), *by(two, "other", 2, shown="nothing of it")]
    assert values(read(rows)[0]) == [9.0] * 4
    with pytest.raises(DataError) as caught:
        read([*by(two, "x", 9), *by(two, "other", 2)])
    text = str(caught.value)
    assert "judgments of one model expected, found other, x; name one in the recipe" in text
    assert "{file: j.jsonl, model: other}" in text
    assert "\n" not in text


def test_a_model_of_another_name_alone_in_its_file_is_the_rows(two: MtBench, read: Read) -> None:
    assert values(read(by(two, "renamed", 7))[0]) == [7.0] * 4
    assert values(read(by(two, None, 7))[0]) == [7.0] * 4


def test_two_judges_are_not_repetitions(two: MtBench, read: Read) -> None:
    rows = [*by(two, "sys", 9), *by(two, "sys", 2, judge="k")]
    with pytest.raises(
        DataError, match=r"judgments of one judge expected, found j, k; name one in the recipe, as \{file"
    ):
        read(rows)
    verdicts, counts, judge = read(rows, Wanted(None, "k", ("sys",)))
    assert (values(verdicts), judge) == ([2.0] * 4, "k")
    assert (counts["of_other_judges"], counts["repeated"]) == (4, 0)
    with pytest.raises(DataError, match="no judge 'l' in it"):
        read(rows, Wanted(None, "l", ("sys",)))


def test_another_judge_of_another_model_is_no_matter(two: MtBench, read: Read) -> None:
    verdicts, counts, judge = read([*by(two, "sys", 9), *by(two, "other", 2, judge="k")])
    assert (values(verdicts), judge, counts["of_other_models"]) == ([9.0] * 4, "j", 4)


def test_rows_of_the_model_and_judge_that_occur_twice_are_repeated(two: MtBench, read: Read) -> None:
    verdicts, counts, _ = read([*by(two, "other", 2), *by(two, "sys", 9), *by(two, "sys", 3)])
    assert values(verdicts) == [9.0] * 4
    assert counts["repeated"] == 4


@pytest.mark.parametrize("score", [-9999, 0, 10.5, 11, 10**30, "9", None, True, [9], float("-1e300")])
def test_what_is_no_rating_is_not_scored_and_counted(two: MtBench, read: Read, score: Any) -> None:
    rows = by(two, "sys", 9)
    rows[0]["score"] = score
    verdicts, counts, _ = read(rows)
    assert values(verdicts) == [None, 9.0, 9.0, 9.0]
    assert counts["failed"] == 1
    assert len(str(verdicts[0].invalid)) < 120


def test_judgments_of_pairs_are_refused(two: MtBench, read: Read) -> None:
    rows = [{"question_id": 1, "model_1": "a", "model_2": "b", "g1_judgment": "x", "judge": ["j", "p"], "turn": 1}]
    with pytest.raises(DataError, match="row 1: a judgment of a pair; expected FastChat's judgments of single answers"):
        read(rows)


def test_answers_of_several_models(two: MtBench, tmp_path: Path) -> None:
    ours = answers_of(two)
    theirs = [{**row, "model_id": "n", "choices": [{"turns": ["theirs", "theirs too"]}]} for row in ours]
    path = written(tmp_path / "a.jsonl", [*ours, *theirs])
    assert two.recorded_names(path) == Names(("m", "n"))
    with pytest.raises(DataError, match=r"answers of one model expected, found m, n; name one .* model: m\}"):
        two.recorded_answers(path)
    for wanted in (Wanted("n"), Wanted(known_as=("x", "n", "m"))):
        answers, counts = two.recorded_answers(path, wanted)
        assert [a.turns for a in answers] == [("theirs", "theirs too")] * 2
        assert (counts["of_other_models"], counts["repeated"]) == (2, 0)


def test_the_names_in_a_file_of_judgments(two: MtBench, tmp_path: Path) -> None:
    path = written(tmp_path / "j.jsonl", [*by(two, "a", 1), *by(two, "b", 2, judge="k")])
    assert two.recorded_names(path) == Names(("a", "b"), ("j", "k"))
