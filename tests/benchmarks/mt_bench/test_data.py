"""MT-bench's questions, references and judge prompts: the official files, one's own, and what is wrong with them."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from harness.benchmarks.mt_bench import benchmark as mt_bench
from harness.benchmarks.mt_bench.benchmark import MtBench
from harness.errors import DataError
from tests.benchmarks.mt_bench.helpers import CATEGORIES, benchmark


def test_limit_covers_the_categories(official: MtBench, shared_data: Path) -> None:
    made = benchmark(data_dir=str(shared_data / "mt_bench"), limit=16)
    assert [q.category for q in made.load_questions()] == [c for c in CATEGORIES for _ in range(2)]
    assert made.identity() == official.identity() | {"limit": 16}


def test_identity_is_content(official: MtBench, shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(shared_data))
    assert benchmark().identity() == official.identity()
    own = benchmark(questions=str(shared_data / "mt_bench" / "question.jsonl"))
    assert own.identity() == official.identity()
    assert benchmark(questions="builtin").identity() != official.identity()


def test_changed_official_data_is_refused(shared_data: Path, tmp_path: Path) -> None:
    for name in mt_bench.OFFICIAL_SHA256:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((shared_data / "mt_bench" / name).read_bytes())
    made = benchmark(data_dir=str(tmp_path))
    made.check()
    references = tmp_path / "reference_answer" / "gpt-4.jsonl"
    references.write_text(references.read_text().replace("second", "first", 1))
    with pytest.raises(DataError, match=r"gpt-4\.jsonl is not the official file"):
        made.check()
    references.unlink()
    with pytest.raises(DataError, match=r"has no reference_answer/gpt-4\.jsonl"):
        made.check()


def test_without_the_data_and_the_network_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.delenv("HARNESS_DATA", raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", offline)
    made = benchmark()
    made.check()
    made.identity()
    with pytest.raises(DataError, match=r"587d5cfa.*can't be downloaded .*set HARNESS_DATA"):
        made.load_questions()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question_id": 1, "category": "writing", "turns": []}, "question 1: expected .* a list of texts under turns"),
        ({"question_id": 1, "turns": ["a", "b"]}, "question 1: expected question_id, category"),
        ({"question_id": 7, "category": "math", "turns": ["a", "b"]}, "question 7: math needs a reference answer"),
    ],
)
def test_rows_that_can_not_be_used_are_named(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    (tmp_path / "q.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=said):
        benchmark(questions=str(tmp_path / "q.jsonl"), judge_prompts="builtin").check()


def test_files_that_can_not_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"question_id": 1, "category": "writing", "turns": ["a", "b"]}\n{"x":\n')
    with pytest.raises(DataError, match="line 2: not JSON"):
        benchmark(questions=str(tmp_path / "q.jsonl"), judge_prompts="builtin").check()
    with pytest.raises(DataError, match="expected builtin, official, or a JSONL file"):
        benchmark(questions="oficial", judge_prompts="builtin").check()
