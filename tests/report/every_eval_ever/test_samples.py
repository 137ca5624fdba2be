"""Answers beside a board as samples: scores that average to the figure, and lines that every reader reads."""

import json
import shutil
from pathlib import Path

import pytest

from harness.boards.read import read_board
from harness.report.every_eval_ever.export import export_records
from harness.report.every_eval_ever.reading import import_records
from tests.report.boards import board_with_answers
from tests.report.every_eval_ever.checks import checked

MEANS = {"alpaca_eval": "alpaca_eval.win_rate", "mt_bench": "mt_bench.score"}


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rows of nasty answers; one answer of each row and turn was not scored."""
    folder = tmp_path_factory.mktemp("boards") / "nasty"
    board_with_answers(folder, rows=2)
    return folder


def test_answers_become_samples_whose_scores_average_to_the_figure(nasty: Path, tmp_path: Path) -> None:
    export_records(nasty, tmp_path)
    found = checked(tmp_path)
    assert len(found) == 2
    for record, samples in found.values():
        by_id = {result["evaluation_result_id"]: result for result in record["evaluation_results"]}
        for benchmark, kinds in (("alpaca_eval", {"single_turn"}), ("mt_bench", {"single_turn", "multi_turn"})):
            own = [line for line in samples if line["evaluation_name"] == benchmark]
            (result,) = {line["evaluation_result_id"] for line in own}
            mean = sum(line["evaluation"]["score"] for line in own) / len(own)
            assert mean == pytest.approx(by_id[result]["score_details"]["score"], abs=1e-9)
            assert {line["interaction_type"] for line in own} == kinds
        assert record["detailed_evaluation_results"]["additional_details"]["not_scored"] == "3"  # of both benchmarks
        (two_turns, *_) = [line for line in samples if line["interaction_type"] == "multi_turn"]
        assert [m["role"] for m in two_turns["messages"]] == ["user", "assistant", "user", "assistant"]
        alpaca = next(line for line in samples if line["evaluation_name"] == "alpaca_eval")
        assert alpaca["input"]["reference"], "what the answer was compared with"
        assert "The judge says" in alpaca["metadata"]["judge_reply"]


def test_samples_are_one_line_each_for_every_reader(nasty: Path, tmp_path: Path) -> None:
    shutil.copytree(nasty, tmp_path / "nasty")
    answers = sorted((tmp_path / "nasty/data/mt_bench/model_answer").glob("*.jsonl"))[0]
    answers.write_text(answers.read_text().replace("Answer 0", r"A\u2028B\u0085C\ud800D", 3))
    export_records(tmp_path / "nasty", tmp_path / "out")
    found = checked(tmp_path / "out")  # its lines are those of str.splitlines
    assert any(
        "A\u2028B\x85C?D" in json.dumps(line, ensure_ascii=False) for _, lines in found.values() for line in lines
    )


def test_answers_that_were_not_scored_come_back_as_not_scored(nasty: Path, tmp_path: Path) -> None:
    export_records(nasty, tmp_path / "out")
    import_records(tmp_path / "out", tmp_path / "back")
    back = {e.id: e for e in read_board(tmp_path / "back").entries}
    for e in read_board(nasty).entries:
        assert (back[e.id].metrics, back[e.id].outcomes) == (e.metrics, e.outcomes)
        assert any(metric.n_invalid for metric in e.metrics.values())


def test_prompts_that_no_figure_is_of_have_no_samples(nasty: Path, tmp_path: Path) -> None:
    shutil.copytree(nasty, tmp_path / "some")
    left_out = {}
    for path in (tmp_path / "some/entries").glob("*.json"):
        entry, figures = json.loads(path.read_text()), {}
        for benchmark, outcomes in entry["outcomes"].items():
            prompt = sorted(outcomes)[0].split("/")[0]  # of which MT-bench has two turns
            left_out[benchmark] = prompt
            kept = {k: v for k, v in outcomes.items() if k.split("/")[0] != prompt}
            scored = [v for v in kept.values() if v is not None]
            mean = sum(scored) / len(scored)
            name, value = MEANS[benchmark], mean if benchmark == "mt_bench" else 100 * (mean - 1)
            entry["outcomes"][benchmark] = kept
            figures[name] = {"value": value, "n": len(scored), "n_invalid": len(kept) - len(scored)}
        entry["metrics"] = figures
        path.write_text(json.dumps(entry))
    export_records(nasty, tmp_path / "all")
    export_records(tmp_path / "some", tmp_path / "out")
    for (_, every), (_, fewer) in zip(*(checked(tmp_path / o).values() for o in ("all", "out")), strict=True):
        kept = [line for line in every if line["sample_id"].split("/")[0] != left_out[line["evaluation_name"]]]
        assert [line["sample_id"] for line in fewer] == [line["sample_id"] for line in kept]
        assert len(fewer) < len(every)
