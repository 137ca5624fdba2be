"""Boards as records of Every Eval Ever: what its schema and its validator ask, all figures, and the same bytes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.boards.entry import Entry
from harness.boards.read import read_board
from harness.cli.app import app
from harness.errors import DataError, StoreError
from harness.report.every_eval_ever.export import export_records
from harness.report.write import write_board
from harness.types import Metric
from tests.report.every_eval_ever.checks import BUILTINS, checked
from tests.sample_boards import contents, entry, four_rows

RECORDED = sorted(Path(__file__).parents[3].joinpath("leaderboards").glob("*/board.json"))


def exported(board: Path, out: Path, owner: str | None = None) -> dict[str, tuple[dict[str, Any], list[Any]]]:
    export_records(board, out, owner, BUILTINS)
    return checked(out)


def board(folder: Path, *rows: Entry) -> Path:
    write_board(folder, folder.name, rows)
    return folder


def scores(record: dict[str, Any]) -> dict[str, Any]:
    return {result["metric_config"]["metric_id"]: result for result in record["evaluation_results"]}


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda path: path.parent.name)
def test_recorded_boards_are_records_with_all_their_figures(recorded: Path, tmp_path: Path) -> None:
    found = exported(recorded.parent, tmp_path)
    rows = {record["source_metadata"]["additional_details"]["row"]: scores(record) for record, _ in found.values()}
    entries = read_board(recorded).entries
    assert rows.keys() == {e.id for e in entries}
    for e in entries:
        measured = {name: metric for name, metric in e.metrics.items() if metric.value is not None}
        assert rows[e.id].keys() == measured.keys()
        for name, metric in measured.items():
            details = rows[e.id][name]["score_details"]
            about = details["uncertainty"]
            interval, error = about.get("confidence_interval"), about.get("standard_error")
            assert details["score"] == metric.value
            assert (about["num_samples"], details["details"]["n_invalid"]) == (metric.n, str(metric.n_invalid))
            assert (error and error["value"]) == metric.stderr
            assert (interval and (interval["lower"], interval["upper"])) == metric.ci95
            assert interval is None or interval["confidence_level"] == 0.95


def test_a_record_says_who_was_measured_by_whom_with_what_and_when(tmp_path: Path) -> None:
    recorded = next(path for path in RECORDED if path.parent.name == "orca-smollm2")
    found = exported(recorded.parent, tmp_path, "acme")
    records = {record["source_metadata"]["additional_details"]["row"]: record for record, _ in found.values()}
    base, dpo = records["base"], records["dpo"]
    assert base["model_info"]["id"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert "quantised to 4 bits" in base["model_info"]["additional_details"]["base_weights"]
    model = dpo["model_info"]
    assert (model["id"], model["developer"]) == ("acme/orca-smollm2-dpo", "acme")
    assert model["inference_engine"]["name"] == "transformers"
    assert model["additional_details"]["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert json.loads(model["additional_details"]["loss"])["beta"] == 0.1
    relations = [r["source_metadata"]["evaluator_relationship"] for r in (base, dpo)]
    assert relations == ["third_party", "first_party"]
    generated = read_board(recorded).generated
    assert dpo["evaluation_timestamp"] == generated
    assert dpo["eval_library"]["name"] == "preference-harness"
    assert dpo["eval_library"]["additional_details"]["licence"] == "Apache-2.0"
    rate = scores(dpo)["alpaca_eval.win_rate"]
    scoring = rate["metric_config"]["llm_scoring"]
    assert "{output_1}" in scoring["input_prompt"], "the annotator's template"
    assert scoring["judges"][0]["model_info"]["id"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert scoring["additional_details"]["calibration"] == "uncalibrated"
    assert rate["generation_config"]["generation_args"] == {"max_tokens": 64, "top_p": 1.0}
    assert "llm_scoring" not in scores(dpo)["heldout.pair_accuracy"]["metric_config"]
    truncated = scores(dpo)["alpaca_eval.truncated"]["metric_config"]
    assert truncated["lower_is_better"]
    assert "llm_scoring" not in truncated


def test_a_row_that_is_its_own_reference_was_scored_by_nobody(tmp_path: Path) -> None:
    recorded = next(path for path in RECORDED if path.parent.name == "orca-smollm2")
    copy = shutil.copytree(recorded.parent, tmp_path / "board")
    for path in (copy / "board.json", copy / "entries" / "base.json"):
        about = json.loads(path.read_text())
        row = about if "provenance" in about else next(r for r in about["rows"] if r["id"] == "base")
        row["provenance"].setdefault("judging", {})["alpaca_eval"] = {"replies": 0}
        path.write_text(json.dumps(about))
    found = exported(copy, tmp_path / "records", "acme")
    (base,) = (r for r, _ in found.values() if r["source_metadata"]["additional_details"]["row"] == "base")
    assert "llm_scoring" not in scores(base)["alpaca_eval.win_rate"]["metric_config"]


def test_a_rule_is_no_model_that_scores(tmp_path: Path) -> None:
    quickstart = next(path for path in RECORDED if path.parent.name == "quickstart")
    found = exported(quickstart.parent, tmp_path, "acme")
    (dpo,) = (r for r, _ in found.values() if r["source_metadata"]["additional_details"]["row"] == "dpo")
    rate = scores(dpo)["alpaca_eval.win_rate"]
    assert "llm_scoring" not in rate["metric_config"]


def test_the_same_board_gives_the_same_bytes_and_other_records_stay(tmp_path: Path) -> None:
    one = board(tmp_path / "one", *four_rows())
    exported(one, tmp_path / "a")
    exported(one, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    before = contents(tmp_path / "a")
    exported(board(tmp_path / "two", *four_rows()), tmp_path / "a")
    assert before.items() < contents(tmp_path / "a").items()
    assert len(contents(tmp_path / "a")) == 2 * len(before)


def test_what_was_not_scored_is_no_result(tmp_path: Path) -> None:
    nothing = entry("silent", "dpo", {"alpaca_eval.win_rate": Metric(value=None, n_invalid=4)})
    some = entry("half", "dpo", {**nothing.metrics, "mt_bench.score": Metric(value=5.0, n=1)})
    done = export_records(board(tmp_path / "b", nothing, some), tmp_path / "out")
    assert done.left_out == ("silent",)
    ((record, _),) = checked(tmp_path / "out").values()
    assert scores(record).keys() == {"mt_bench.score"}


@pytest.mark.parametrize("name", ["..", "a/b", "CON", "data", "unknown", "x" * 300, "ünï", "\u202e", "a b", "-"])
def test_any_name_of_a_row_has_a_path_of_its_own(name: str, tmp_path: Path) -> None:
    figures = {"mt_bench.score": Metric(value=5.0, n=1)}
    rows = [entry(row, "dpo", figures) for row in (name, f"{name}'", "a-b")]
    assert len(exported(board(tmp_path / "b", *rows), tmp_path / "out", name)) == 3


@pytest.mark.parametrize("odd", [5, "x", [1], {"a": None}, None, True])
def test_a_strangers_recipe_may_hold_anything(odd: Any, tmp_path: Path) -> None:
    recipe = {"training": odd, "methods": odd, "evaluation": {"answers": {"temperature": odd, "max_new_tokens": odd}}}
    others = [{"methods": [odd, {"id": "dpo-0", "loss": odd, "training": odd}]}, {"evaluation": odd}, recipe]
    judge = {"name": odd, "model": odd, "judges": odd, "temperature": odd}
    rows = [
        entry(
            f"dpo-{i}", "dpo", policy={"model": odd, "revision": odd}, recipe=one, judge=judge, made_by={"harness": odd}
        )
        for i, one in enumerate(others)
    ]
    assert len(exported(board(tmp_path / "b", *rows), tmp_path / "out")) == 3


def test_local_paths_stay_at_home(tmp_path: Path) -> None:
    policy = {"model": "/home/jane/models/secret-7b", "dtype": "float32", "sha256": "ab" * 32}
    rows = [entry("base", "base", policy=policy), entry("dpo", "dpo", policy=policy)]
    for record, _ in exported(board(tmp_path / "b", *rows), tmp_path / "out").values():
        assert record["model_info"]["additional_details"]["base_model"] == "secret-7b"
        assert "jane" not in json.dumps(record)


def test_a_board_without_a_time_or_a_folder_that_is_a_link_is_one_line(tmp_path: Path) -> None:
    one = board(tmp_path / "one", *four_rows())
    with pytest.raises(DataError, match=r"has no board\.json"):
        export_records(one / "entries", tmp_path / "out")
    text = json.loads((one / "board.json").read_text())
    (one / "board.json").write_text(json.dumps({**text, "generated": "yesterday"}))
    with pytest.raises(DataError, match="says 'yesterday'; expected an ISO 8601 time"):
        export_records(one, tmp_path / "out")
    (one / "board.json").write_text(json.dumps(text))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir(exist_ok=True)
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="symbolic link"):
        export_records(one, tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_the_commands(tmp_path: Path) -> None:
    one, out = str(board(tmp_path / "one", *four_rows())), str(tmp_path / "out")
    done = CliRunner().invoke(app, ["export", one, "--format", "every-eval-ever", "-o", out, "--owner", "acme"])
    assert done.exit_code == 0, done.output
    assert "4 records with 0 samples" in done.output
    checked(tmp_path / "out")
    back = str(tmp_path / "back")
    done = CliRunner().invoke(app, ["import", out, "--format", "every-eval-ever", "-o", back])
    assert done.exit_code == 0, done.output
    assert "4 rows of 4 records" in done.output
    for words, why in (
        (["export", one, "--format", "every-eval-ever"], "expected a board and -o FOLDER"),
        (["export", one, "--format", "every-eval-ever", "-o", out, "--merge"], "beside them only --owner"),
        (["export", one, "-o", f"{out}.jsonl", "--owner", "acme"], "--owner is for --format every-eval-ever"),
        (["import", out, "--format", "every-eval-ever", "-o", back, "--source", "x"], "--source is for datasets"),
        (["import", out, "--format", "every-eval-ever", "-o", back], "exists; expected a new folder"),
    ):
        failed = CliRunner().invoke(app, words)
        assert failed.exit_code != 0
        assert why in str(failed.exception)
