"""MT-bench's public files: FastChat's own `show_result` reads what is written, and recorded ones are read."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.benchmark import JudgedRow
from harness.benchmarks.mt_bench.benchmark import MtBench
from harness.benchmarks.mt_bench.files import pairs_text
from harness.errors import DataError
from harness.types import Answer, JudgeReply, JudgeRequest, Verdict
from tests.benchmarks.mt_bench.helpers import benchmark
from tests.stand_ins import ScriptedAsk, last_text

SYSTEMS = ("mistral-orpo-capybara", "claude-3-opus-20240229")


def recorded(made: MtBench, data: Path, name: str) -> JudgedRow:
    folder = data / "recorded" / name
    answers, odd = made.recorded_answers(folder / "model_answer.jsonl")
    assert not any(odd.values())
    verdicts, odd, judge = made.recorded_verdicts(folder / "gpt-4_single.jsonl.gz", answers)
    assert not any(odd.values())
    assert judge == "gpt-4"
    return JudgedRow(name, answers, [], verdicts)


def test_the_prompts_and_the_parse_are_those_of_the_recorded_judge(shared_data: Path) -> None:
    data = shared_data / "mt_bench"
    made = benchmark(data_dir=str(data))
    for name in SYSTEMS:
        row = recorded(made, data, name)
        # A prompt that is not the recorded one, byte for byte, has no reply here.
        replies = {v.prompt: v.reply for v in row.verdicts}
        assert len(replies) == 160
        ask = ScriptedAsk(lambda request, replies=replies: JudgeReply(text=replies[last_text(request)]))
        judged = made.verdicts(row.answers, [], ask)
        assert len(ask.requests) == 160
        assert all(isinstance(r, JudgeRequest) for r in ask.requests)
        assert [(v.question_id, v.turn, v.value) for v in judged] == [
            (v.question_id, v.turn, v.value) for v in row.verdicts
        ]
        assert [v.detail["template"] for v in judged] == [v.detail["template"] for v in row.verdicts]


def test_fastchats_show_result_prints_the_same_from_our_files(shared_data: Path, tmp_path: Path) -> None:
    data = shared_data / "mt_bench"
    made = benchmark(data_dir=str(data))
    rows = [recorded(made, data, name) for name in SYSTEMS]
    for path, text in made.public_files("gpt-4", rows).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    command = [sys.executable, "-m", "fastchat.llm_judge.show_result", "--judge-model", "gpt-4"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    figures = {name: made.metrics(r.answers, [], r.verdicts) for name, r in zip(SYSTEMS, rows, strict=True)}
    printed = [line.split() for line in done.stdout.splitlines()]
    for name in SYSTEMS:
        lines = [line for line in printed if line[:1] == [name]]
        expected = [figures[name][f"mt_bench.{key}"].value for key in ("turn_1", "turn_2", "score")]
        assert [float(line[-1]) for line in lines] == pytest.approx(expected, abs=5e-5)
    from fastchat.llm_judge.common import load_model_answers, load_questions

    questions = load_questions(str(tmp_path / "data/mt_bench/question.jsonl"), None, None)
    assert [q["turns"] for q in questions] == [list(q.turns) for q in made.load_questions()]
    answers = load_model_answers(str(tmp_path / "data/mt_bench/model_answer"))
    assert {name: len(a) for name, a in answers.items()} == dict.fromkeys(SYSTEMS, 80)


def answers_of(made: MtBench) -> list[dict[str, Any]]:
    return [
        {"question_id": q.id, "model_id": "m", "choices": [{"turns": [f"{q.id} first", f"{q.id} second"]}]}
        for q in made.load_questions()
    ]


def judgments_of(made: MtBench) -> list[dict[str, Any]]:
    return [
        {
            "question_id": q.id,
            "model": "m",
            "judge": ["j", "single-v1"],
            "user_prompt": f"... {q.id} first ... {q.id} second ...",
            "judgment": f"[[{turn + 4}]]",
            "score": turn + 4,
            "turn": turn,
        }
        for q in made.load_questions()
        for turn in (1, 2)
    ]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        with gzip.open(path, "wt") as file:
            file.write(text)
    else:
        path.write_text(text)
    return path


def test_what_fastchat_would_average_or_drop_is_counted(two: MtBench, tmp_path: Path) -> None:
    rows = answers_of(two)
    again = {**rows[0], "choices": [{"turns": ["newer", "newer still"]}]}
    other = {**rows[0], "question_id": 999}
    answers, counts = two.recorded_answers(written(tmp_path / "a.jsonl", [*rows, again, other]))
    assert counts == {"repeated": 1, "of_other_questions": 1, "missing": 0, "failed": 0}
    assert answers[0].turns == ("newer", "newer still")
    answers, _ = two.recorded_answers(written(tmp_path / "a.jsonl", rows))
    judged = judgments_of(two)
    judged[1] |= {"score": -1, "judgment": "no rating"}
    more = [{**judged[0], "score": 9}, {**judged[2], "user_prompt": "another model's"}, {**judged[0], "turn": 7}]
    verdicts, counts, judge = two.recorded_verdicts(
        written(tmp_path / "j.jsonl.gz", [*judged[:2], *more, *judged[2:3]]), answers
    )
    told = {"repeated": 1, "of_other_questions": 1, "of_other_answers": 1, "missing": 1, "failed": 1}
    assert (counts, judge) == (told, "j")
    assert [v.value for v in verdicts] == [5.0, None, 5.0, None]
    assert verdicts[1].invalid == "the recorded judgment has no rating in [1, 10] but -1"
    assert verdicts[3].invalid == "no judgment recorded"
    figure = two.metrics(answers, [], verdicts)["mt_bench.score"]
    assert (figure.value, figure.n, figure.n_invalid) == (5.0, 2, 2)


def test_failed_and_short_answers_are_not_answers(two: MtBench, tmp_path: Path) -> None:
    rows = answers_of(two)
    rows[0]["choices"][0]["turns"][1] = "$ERROR$"
    rows[1]["choices"][0]["turns"].pop()
    answers, counts = two.recorded_answers(written(tmp_path / "a.jsonl", rows))
    assert answers == []
    assert counts == {"repeated": 0, "of_other_questions": 0, "missing": 1, "failed": 1}


def test_what_is_written_is_read_again(two: MtBench, tmp_path: Path) -> None:
    answers = [
        Answer(question_id=q.id, turns=("a\u2028 b\n", '"{c}" [[10]]'), finish_reasons=(), tokens=None)
        for q in two.load_questions()
    ]
    verdicts = [
        Verdict(question_id=a.question_id, turn=t, value=None if t == 2 else 7.0, invalid="lost" if t == 2 else None)
        for a in answers
        for t in (1, 2)
    ]
    verdicts = [v.model_copy(update={"prompt": " ".join(answers[0].turns)}) for v in verdicts]
    files = two.public_files("a/judge", [JudgedRow("x/y", answers, [], verdicts)])
    assert sorted(files) == [
        "data/mt_bench/model_answer/x%2Fy.jsonl",
        "data/mt_bench/model_judgment/a%2Fjudge_single.jsonl",
        "data/mt_bench/question.jsonl",
    ]
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    again, counts = two.recorded_answers(tmp_path / "data/mt_bench/model_answer/x%2Fy.jsonl")
    assert (again, any(counts.values())) == (answers, False)
    judged, counts, judge = two.recorded_verdicts(
        tmp_path / "data/mt_bench/model_judgment/a%2Fjudge_single.jsonl", answers
    )
    assert ([v.value for v in judged], judge, counts["failed"]) == ([7.0, None, 7.0, None], "a/judge", 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"choices": []}, "row 1: expected a list of texts under choices"),
        ({"model_id": "n"}, "answers of one model expected, found m, n"),
    ],
)
def test_answers_that_can_not_be_used_are_named(
    two: MtBench, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    rows = answers_of(two)
    path = written(tmp_path / "a.jsonl", [rows[0] | change, *rows[1:]])
    with pytest.raises(DataError, match=said):
        two.recorded_answers(path)


def test_judgments_that_can_not_be_used_are_named(two: MtBench, tmp_path: Path) -> None:
    answers, _ = two.recorded_answers(written(tmp_path / "a.jsonl", answers_of(two)))
    rows = judgments_of(two)
    for change, said in (
        ({"judge": "j"}, "row 1: expected question_id, turn, score and judge"),
        ({"judge": ["k", "single-v1"]}, "judgments of one judge expected, found j, k"),
    ):
        path = written(tmp_path / "j.jsonl", [rows[0] | change, *rows[1:]])
        with pytest.raises(DataError, match=said):
            two.recorded_verdicts(path, answers)
    path = written(tmp_path / "j.jsonl", [row | {"user_prompt": "x"} for row in rows])
    with pytest.raises(DataError, match="no judgment on any of these answers"):
        two.recorded_verdicts(path, answers)


def test_a_pair_that_was_not_judged_is_an_error_and_not_a_tie() -> None:
    """FastChat's show_result leaves errors out; equal answers, which nobody is asked about, are a tie."""
    unscored = Verdict(question_id="1", turn=1, category=None, value=None, invalid="no answer", prompt="", reply="")
    equal = Verdict(question_id="2", turn=1, category=None, value=0.5, invalid=None, prompt="", reply="")
    rows = [json.loads(line) for line in pairs_text([unscored, equal], "row", "base", "j").splitlines()]
    assert [(row["g1_winner"], row["g2_winner"]) for row in rows] == [("error", "error"), ("tie", "tie")]
