"""Outputs and annotations of several models, annotators or references in one file."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.benchmark import Names, Wanted
from harness.benchmarks.alpaca_eval.benchmark import AlpacaEval
from harness.errors import DataError
from harness.types import Verdict
from tests.benchmarks.alpaca_eval.helpers import answer

Rows = list[dict[str, Any]]
Read = Callable[..., tuple[list[Verdict], dict[str, int], str]]

SYS = Wanted(known_as=("sys",))


@pytest.fixture
def read(three: AlpacaEval, tmp_path: Path) -> Read:
    def one(rows: Rows, wanted: Wanted = SYS) -> tuple[list[Verdict], dict[str, int], str]:
        (tmp_path / "v.json").write_text(json.dumps(rows))
        return three.recorded_verdicts(tmp_path / "v.json", [answer(f"Do thing {i}.", "4") for i in range(3)], wanted)

    return one


def by(preference: Any, model: str = "sys", annotator: str = "a", reference: str = "unknown", text: str = "4") -> Rows:
    names = {"generator_1": reference, "generator_2": model, "annotator": annotator}
    rows = [{"instruction": f"Do thing {i}.", "output_1": "r", "output_2": text} for i in range(3)]
    return [row | names | {"preference": preference} for row in rows]


def values(verdicts: Sequence[Verdict]) -> list[float | None]:
    return [verdict.value for verdict in verdicts]


@pytest.mark.parametrize("turn", [1, -1])
def test_another_models_verdicts_on_the_same_text_are_not_the_rows(read: Read, turn: int) -> None:
    verdicts, counts, _ = read([*by(1.1, "other"), *by(1.9)][::turn])
    assert values(verdicts) == [1.9] * 3
    assert (counts["of_others"], counts["repeated"], counts["on_other_text"]) == (3, 0, 0)


def test_without_a_name_the_texts_decide_if_they_can(read: Read) -> None:
    assert values(read([*by(1.1, "x", text="5"), *by(1.9, "y")])[0]) == [1.9] * 3
    with pytest.raises(DataError, match=r"verdicts on one model expected, found x, y; name one .* model: x\}"):
        read([*by(1.1, "x"), *by(1.9, "y")])
    assert values(read([*by(1.1, "x"), *by(1.9, "y")], Wanted("y"))[0]) == [1.9] * 3
    with pytest.raises(DataError, match="no model 'z' in it; available: x, y"):
        read([*by(1.1, "x"), *by(1.9, "y")], Wanted("z"))


def test_two_annotators(read: Read) -> None:
    rows = [*by(1.1, annotator="b"), *by(1.9)]
    with pytest.raises(DataError, match=r"verdicts of one annotator expected, found a, b; name one .* judge: a\}"):
        read(rows)
    verdicts, counts, annotator = read(rows, Wanted(None, "a", ("sys",)))
    assert (values(verdicts), annotator, counts["of_others"], counts["repeated"]) == ([1.9] * 3, "a", 3, 0)


def test_two_references(read: Read) -> None:
    verdicts, counts, _ = read([*by(1.1, reference="text_davinci_003"), *by(1.9, reference="g")])
    assert (values(verdicts), counts["of_others"]) == ([1.9] * 3, 3)
    with pytest.raises(DataError, match=r"verdicts against several references \(p, q\), none of them"):
        read([*by(1.1, reference="p"), *by(1.9, reference="q")])


def test_one_model_of_any_name_and_no_names_at_all(read: Read) -> None:
    assert values(read(by(1.9, "renamed"))[0]) == [1.9] * 3
    bare = [{k: v for k, v in row.items() if not k.startswith("generator")} for row in by(1.9)]
    assert values(read(bare)[0]) == [1.9] * 3


def test_repetitions_are_those_of_one_model_and_annotator(read: Read) -> None:
    verdicts, counts, _ = read([*by(1.1, "other"), *by(1.9), *by(1.2)])
    assert (values(verdicts), counts["repeated"]) == ([1.9] * 3, 3)


@pytest.mark.parametrize("preference", [-9999, 0.5, 2.5, 10**30, "1.9", True, None, [1.9]])
def test_what_is_no_preference_is_not_scored_and_counted(read: Read, preference: Any) -> None:
    rows = by(1.9)
    rows[0]["preference"] = preference
    verdicts, counts, _ = read(rows)
    assert (values(verdicts), counts["failed"]) == ([None, 1.9, 1.9], 1)


def test_outputs_of_several_models(three: AlpacaEval, tmp_path: Path) -> None:
    rows = [
        {"instruction": f"Do thing {i}.", "output": f"{model} {i}", "generator": model}
        for model in ("m", "n")
        for i in range(3)
    ]
    path = tmp_path / "o.json"
    path.write_text(json.dumps(rows))
    assert three.recorded_names(path) == Names(("m", "n"))
    with pytest.raises(DataError, match=r"outputs of one model expected, found m, n; name one .* model: m\}"):
        three.recorded_answers(path)
    answers, counts = three.recorded_answers(path, Wanted(known_as=("n",)))
    assert [a.turns for a in answers] == [("n 0",), ("n 1",), ("n 2",)]
    assert (counts["of_other_models"], counts["repeated"]) == (3, 0)
