"""Answers of a row: its benchmarks share one load, one batch and a journal of turns."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from harness.components import build
from harness.engine.stage import Context, Stage
from harness.engine.store import Store
from harness.models import decoding
from harness.pipeline.progress import SilentView
from harness.recipe.evaluation import AnswerSampling
from harness.recipe.policy import Policy
from harness.stages.answers import answers_stage
from harness.training.checkpoint import RowModel

CONFIG = AnswerSampling(max_new_tokens=6)


class Row:
    """A row with two benchmarks, of 6 and (twice) 4 turns."""

    def __init__(self, folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.loads = folder, 0
        self.policy = Policy(model=str(model), dtype="float32")
        common: dict[str, Any] = {"prompts": "builtin", "reference": "base", "limit": 6}
        self.alpaca: Any = build("benchmark", {"name": "alpaca_eval", **common})
        self.mt: Any = build("benchmark", {"name": "mt_bench", "questions": "builtin", "limit": 4})
        load = RowModel.load

        def counted(model: RowModel, ctx: Context) -> Any:
            self.loads += 1
            return load(model, ctx)

        monkeypatch.setattr(RowModel, "load", counted)

    def stage(self, benchmark: Any, *siblings: Any) -> Stage:
        return answers_stage("base", RowModel(self.policy), CONFIG, benchmark, 0, siblings)

    def answer(self, stage: Stage, store: str = "store") -> list[Any]:
        folder = self.folder / f"{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        place = Store(self.folder / store)
        stage.body(Context(folder, {}, SilentView(), logging.getLogger(), place, folder / "partial", "k"))
        return [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]


@pytest.fixture
def row(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Row:
    return Row(tmp_path, tiny_model, monkeypatch)


def test_the_first_benchmark_answers_the_questions_of_all(row: Row) -> None:
    alone = [row.answer(row.stage(b), f"alone-{b.name}") for b in (row.alpaca, row.mt)]
    assert row.loads == 2
    both = [row.answer(row.stage(b, row.alpaca, row.mt)) for b in (row.alpaca, row.mt)]
    assert row.loads == 3
    assert both == alone
    assert {len(answer["turns"]) for answer in both[1]} == {2}


def test_siblings_change_no_key_and_nothing_else_is_answered(row: Row) -> None:
    assert row.stage(row.mt).key == row.stage(row.mt, row.alpaca, row.mt).key
    row.answer(row.stage(row.mt))
    (journal,) = (row.folder / "store" / "journals" / "answers").glob("*.jsonl")
    assert len(journal.read_text().splitlines()) == 8
    row.answer(row.stage(row.mt))
    assert row.loads == 1


def test_a_killed_run_goes_on_where_it_was(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = row.answer(row.stage(row.mt), "whole")
    decode, asked = decoding.decode, []

    def killed(*args: Any, arrived: Any, **options: Any) -> None:
        def few(rows: Any) -> None:
            if len(asked) >= 4:
                raise KeyboardInterrupt
            asked.extend(rows)
            arrived(rows)

        decode(*args, arrived=few, **options)

    monkeypatch.setattr(decoding, "decode", killed)
    with pytest.raises(KeyboardInterrupt):
        row.answer(row.stage(row.mt))
    monkeypatch.setattr(decoding, "decode", decode)
    again: list[Any] = []
    monkeypatch.setattr(
        decoding, "decode", lambda *a, arrived, **o: decode(*a, arrived=lambda r: (again.extend(r), arrived(r)), **o)
    )
    assert row.answer(row.stage(row.mt)) == whole
    assert len(asked) + len(again) == 8
    assert asked
    assert again
