"""HumanEval: OpenAI's own solutions pass, other code doesn't, and nothing runs unless it is allowed."""

import json
from pathlib import Path

import pytest

from harness.benchmark import JudgedRow
from harness.benchmarks.humaneval.benchmark import HumanEval
from harness.benchmarks.humaneval.programs import Problem, parse_problems
from harness.components import build
from harness.errors import DataError, HarnessError
from harness.recipe.load import load_recipe
from harness.stages.verdicts import NOBODY
from harness.types import Answer
from tests.benchmarks.tax.data import folder

ADD = Problem(
    id="x-0",
    prompt='def half(x: int) -> int:\n    return x // 2\n\n\ndef add(a, b):\n    """The sum."""\n',
    entry_point="add",
    test="def check(candidate):\n    assert candidate(1, 2) == 3\n",
    canonical_solution="    return a + b\n",
)


def answered(problem: Problem, text: str) -> Answer:
    return Answer(question_id=problem.id, turns=(text,), finish_reasons=("stop",), tokens=1)


def benchmark(**fields: object) -> HumanEval:
    found = build(
        "benchmark", {"name": "humaneval", "allow_code": True, "data_dir": str(folder("tax/humaneval"))} | fields
    )
    assert isinstance(found, HumanEval)
    return found


def test_it_needs_to_be_allowed(tmp_path: Path) -> None:
    text = "name: x\nsystems: [{id: a, answers: {humaneval: a.jsonl}}]\nevaluation: {benchmarks: [{name: humaneval}]}\n"
    (tmp_path / "x.yaml").write_text(text)
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(HarnessError, match=r"allow_code: true") as caught:
        load_recipe(tmp_path / "x.yaml")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "answer",
    [
        "    return a + b\n",
        "def add(a, b):\n    return a + b",
        "Sure!\n```python\ndef add(a, b):\n    return half(2 * a) + b\n```\nIt adds.",
        "```\ndef other():\n    pass\n```\nand\n```py\ndef add(a, b):\n    return a + b\n```",
        "```python\n    return a + b\n```",
        "```python\ndef add(a, b):\n    return a + b",
    ],
)
def test_an_answer_becomes_a_program(answer: str) -> None:
    exec(ADD.program(answer), {})  # our own answers


def test_a_wrong_answer_is_a_wrong_program() -> None:
    with pytest.raises(AssertionError):
        exec(ADD.program("```python\ndef add(a, b):\n    return a - b\n```"), {})


def test_what_is_no_problem_is_refused() -> None:
    row = {"task_id": "a", "prompt": "def f():\n", "entry_point": "g", "test": "x", "canonical_solution": "y"}
    with pytest.raises(DataError, match="has no `def g`"):
        parse_problems(json.dumps(row).encode(), "file")
    with pytest.raises(DataError, match="expected texts under task_id"):
        parse_problems(b'{"task_id": 1}', "file")


def test_half_of_some_solutions() -> None:
    own = benchmark(limit=4)
    problems = {problem.id: problem for problem in own._problems()}
    texts = [problems[q.id].canonical_solution for q in own.load_questions()]
    answers = [
        answered(p, text if i % 2 else "    pass\n")
        for i, (p, text) in enumerate(zip(problems.values(), texts, strict=True))
    ]
    verdicts = own.verdicts(answers[:3], [], NOBODY)
    assert [v.value for v in verdicts] == [0.0, 1.0, 0.0, None]
    assert verdicts[3].invalid == "no answer"
    metric = own.metrics(answers, [], verdicts)["humaneval.pass_at_1"]
    assert metric.value == pytest.approx(100 / 3)
    assert metric.n_invalid == 1


def test_official_samples_are_read(tmp_path: Path) -> None:
    own = benchmark(limit=2)
    ids = [question.id for question in own.load_questions()]
    rows = [{"task_id": ids[0].replace("-", "/"), "completion": "  1"}, {"task_id": "HumanEval/x", "completion": "2"}]
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    answers, counts = own.recorded_answers(path)
    assert [(a.question_id, a.turns) for a in answers] == [(ids[0], ("  1",))]
    assert counts == {"missing": 1, "unknown": 1, "further_samples": 1}


@pytest.mark.slow
def test_all_canonical_solutions_pass() -> None:
    own = benchmark()
    problems = own._problems()
    verdicts = own.verdicts([answered(p, p.canonical_solution) for p in problems], [], NOBODY)
    assert sum(v.value or 0 for v in verdicts) == len(verdicts) == 164


def test_the_page_shows_an_answer_with_its_value(tmp_path: Path) -> None:
    own = benchmark(limit=1)
    (problem,) = own._problems()
    answers = [answered(problem, "    pass\n")]
    files = own.public_files("none", [JudgedRow("a", answers, [], own.verdicts(answers, [], NOBODY))])
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    shown = HumanEval.examples(tmp_path / "data" / "humaneval", ["a"]).answers["a"][problem.id]
    assert (shown.turns, shown.values) == (["    pass\n"], [0.0])
    assert shown.replies[0].startswith("failed: ")
