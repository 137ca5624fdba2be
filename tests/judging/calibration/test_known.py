"""LLMBar: a judge on pairs whose better answer is known, set by set, by a count made without the code."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from harness.benchmarks.alpaca_eval.evaluators import load_annotator
from harness.components import build
from harness.errors import DataError
from harness.judging.asker import Asker, make_ask
from harness.judging.calibration.known import ADVERSARIAL, NATURAL, on_known_pairs, read_llmbar

LENGTH = build("judge", {"name": "reward_model", "reward": {"name": "length"}})


def ask(tmp_path: Path) -> Any:
    def asker(member: Any) -> Asker:
        return make_ask(member, tmp_path / "journal.jsonl", concurrency=1, advance=lambda _: None)

    return asker


def write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    for name in (NATURAL, *ADVERSARIAL):
        (folder / f"{name}.json").write_text(json.dumps(rows))
    return folder


def pair(first: str, second: str, label: int, asked: str = "Write.") -> dict[str, Any]:
    return {"input": asked, "output_1": first, "output_2": second, "label": label}


def test_right_wrong_and_tied(tmp_path: Path) -> None:
    """The judge prefers the longer answer."""
    rows = [pair("longer text", "x", 1), pair("x", "longer text", 2), pair("x", "longer text", 1), pair("ab", "cd", 1)]
    sets, _ = on_known_pairs(
        LENGTH,
        load_annotator("weighted_alpaca_eval_gpt4_turbo"),
        read_llmbar(write(tmp_path, rows)),
        asker=ask(tmp_path),
    )
    assert [known.name for known in sets] == [NATURAL, *ADVERSARIAL, "all adversarial"]
    assert [known.accuracy.value for known in sets] == [pytest.approx(62.5)] * 6  # two right, one wrong, one tie
    assert sets[-1].accuracy.n == 16
    assert sets[0].consistency.value == 100.0


def test_the_real_sets(tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "llmbar"
    sets, ledger = on_known_pairs(
        LENGTH, load_annotator("weighted_alpaca_eval_gpt4_turbo"), read_llmbar(folder), asker=ask(tmp_path)
    )
    assert ledger.asked == 2 * 419
    for known in sets[:-1]:
        with gzip.open(folder / f"{known.name}.json.gz", "rt", encoding="utf-8") as file:
            rows = json.load(file)
        longer = [(len(r["output_2"]) > len(r["output_1"])) - (len(r["output_2"]) < len(r["output_1"])) for r in rows]
        right = sum(
            0.5 if way == 0 else float((way > 0) == (r["label"] == 2)) for way, r in zip(longer, rows, strict=True)
        )
        assert known.accuracy.value == pytest.approx(100 * right / len(rows)), known.name


@pytest.mark.parametrize(
    "row", [{"input": "a"}, pair("a", "b", 3), {"input": 1, "output_1": "", "output_2": "", "label": 1}]
)
def test_what_is_no_pair_is_one_line(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"Natural.json, pair 1: expected texts under input"):
        read_llmbar(write(tmp_path, [row]))
    with pytest.raises(DataError, match=r"no file .*Natural.json; expected LLMBar's sets"):
        read_llmbar(tmp_path / "nowhere")
