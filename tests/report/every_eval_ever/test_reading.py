"""Records of Every Eval Ever as rows: our own to the digit, other people's only where their figures are ours."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.boards.entry import Entry, comparable
from harness.boards.read import read_board
from harness.errors import DataError
from harness.report.every_eval_ever.export import export_records
from harness.report.every_eval_ever.reading import Imported, import_records
from harness.report.merge import merge_boards
from harness.report.write import write_board
from tests.gate.rows import row
from tests.report.every_eval_ever.checks import AGGREGATE

RECORDED = sorted(Path(__file__).parents[3].joinpath("leaderboards").glob("*/board.json"))


def result(name: str, metric: str, score: Any, high: float = 100, **config: Any) -> dict[str, Any]:
    """A result as the schema's own adapters write it."""
    return {
        "evaluation_name": name,
        "source_data": {"dataset_name": name, "source_type": "hf_dataset", "samples_number": 805},
        "metric_config": {
            "metric_name": metric,
            "lower_is_better": False,
            "score_type": "continuous",
            "min_score": 0,
            "max_score": high,
            **config,
        },
        "score_details": {"score": score, "uncertainty": {"num_samples": 800, "standard_error": {"value": 1.25}}},
    }


def record(*results: dict[str, Any], model: str = "acme/m", evaluation: str = "e/acme/m/1") -> dict[str, Any]:
    return {
        "schema_version": "0.3.0",
        "evaluation_id": evaluation,
        "retrieved_timestamp": "1700000000",
        "source_metadata": {
            "source_name": "A leaderboard",
            "source_type": "documentation",
            "source_organization_name": "Somebody",
            "evaluator_relationship": "third_party",
        },
        "eval_library": {"name": "alpaca_eval", "version": "unknown"},
        "model_info": {
            "name": "m",
            "id": model,
            "additional_details": {"deployment_type": "unknown", "model_availability": "unknown"},
        },
        "evaluation_results": list(results),
    }


ALPACA = result("alpacaeval-2-0", "win_rate", 17.188240356708075, metric_id="win-rate", metric_unit="percent")
MT = result("MT-Bench (overall)", "MT-Bench (overall)", 8.6751, 10, metric_id="mt_bench/overall", min_score=1.0)


def read(folder: Path, *records: Any) -> tuple[Imported, dict[str, Entry]]:
    source = folder / "records"
    for number, one in enumerate(records):
        (source / str(number)).mkdir(parents=True, exist_ok=True)
        text = one if isinstance(one, str) else json.dumps(one)
        (source / str(number) / "r.json").write_text(text)
    done = import_records(source, folder / "board")
    return done, {e.id: e for e in read_board(folder / "board").entries}


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda path: path.parent.name)
def test_out_and_in_again_is_the_same_to_the_digit(recorded: Path, tmp_path: Path) -> None:
    export_records(recorded.parent, tmp_path / "out")
    done = import_records(tmp_path / "out", tmp_path / "back")
    back = {e.id: e for e in read_board(tmp_path / "back").entries}
    before = read_board(recorded).entries
    assert (done.records, dict(done.left_out)) == (len(before), {})
    assert back.keys() == {e.id for e in before}
    for e in before:
        assert back[e.id].metrics == e.metrics
        assert (back[e.id].outcomes, back[e.id].strata) == (e.outcomes, e.strata)
        assert back[e.id].method == "reported"


def test_our_own_records_are_compared_with_rows_of_the_same_judge(tmp_path: Path) -> None:
    for name, rows in (("mine", [row("a", 0)]), ("theirs", [row("b", 5)])):
        write_board(tmp_path / name, name, rows)
    export_records(tmp_path / "theirs", tmp_path / "out")
    import_records(tmp_path / "out", tmp_path / "back")
    both = read_board(merge_boards([tmp_path / "mine", tmp_path / "back"], tmp_path / "both"))
    same = read_board(merge_boards([tmp_path / "mine", tmp_path / "theirs"], tmp_path / "same"))
    assert both.comparisons == same.comparisons
    assert both.comparisons["alpaca_eval.win_rate"]
    assert "Reported elsewhere, unchanged: b." in (tmp_path / "both/board.md").read_text()


def test_of_a_method_with_several_checkpoints_the_same_row_is_compared(tmp_path: Path) -> None:
    about = {
        "metric": "alpaca_eval.win_rate",
        "prompts": 2,
        "over": ["checkpoint"],
        "candidates": {"0.5": 2, "last": 1},
    }
    chosen, last = ({"selection": {**about, "candidate": name, "is_chosen": name == "0.5"}} for name in ("0.5", "last"))
    point = {"checkpoint": {"row": "a", "point": "0.5", "steps": 3}}
    rows = [row("a", 0, **last), row("a.at-0.5", 5, **chosen, **point), row("b", 9), row("b.at-0.5", 7, **point)]
    write_board(tmp_path / "mine", "mine", rows)
    export_records(tmp_path / "mine", tmp_path / "out")
    import_records(tmp_path / "out", tmp_path / "back")
    before, after = (read_board(tmp_path / name).comparisons["alpaca_eval.win_rate"] for name in ("mine", "back"))
    assert [(c.first, c.second) for c in before] == [("a.at-0.5", "b")]
    assert [(c.first, c.second) for c in after] == [("a.at-0.5", "b")]


def test_what_came_in_goes_out_again_under_its_name(tmp_path: Path) -> None:
    read(tmp_path, record(ALPACA, model="meta/llama"))
    (name,) = export_records(tmp_path / "board", tmp_path / "out", "acme").files
    again = json.loads((tmp_path / "out" / name).read_text())
    assert (again["model_info"]["id"], again["model_info"]["developer"]) == ("meta/llama", "meta")
    assert again["source_metadata"]["evaluator_relationship"] == "other"
    assert again["source_metadata"]["source_type"] == "documentation"
    assert "A leaderboard" in again["source_metadata"]["additional_details"]["reported_by"]
    (entry,) = import_records(tmp_path / "out", tmp_path / "back").rows
    assert entry.metrics == read_board(tmp_path / "board").entries[0].metrics


def test_figures_that_contradict_their_outcomes_are_refused(tmp_path: Path) -> None:
    write_board(tmp_path / "b", "b", [row("a", 0)])
    (name,) = export_records(tmp_path / "b", tmp_path / "out").files
    path = tmp_path / "out" / name
    told = json.loads(path.read_text())
    told["evaluation_results"][0]["score_details"]["score"] += 1
    path.write_text(json.dumps(told))
    with pytest.raises(DataError, match=r"\.json: metrics\.alpaca_eval\.win_rate: .* outcomes give"):
        import_records(path, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_other_peoples_figures_have_a_table_of_their_own(tmp_path: Path) -> None:
    judge = {"model_info": {**record()["model_info"], "name": "gpt-4", "id": "openai/gpt-4"}}
    scoring = {"judges": [judge], "input_prompt": "Which one?"}
    lc = result("AlpacaEval 2.0", "length_controlled_win_rate", 0.25, 1, llm_scoring=scoring)
    one = record(json.loads(json.dumps(ALPACA)), MT, result("MMLU", "accuracy", 0.5, 1))
    two = record(lc, model="acme/n", evaluation="f")
    for each in (one, two):
        AGGREGATE.validate(each)
    done, rows = read(tmp_path, one, two)
    assert dict(done.left_out) == {"results of other benchmarks": 1}
    rate, score = (rows["acme/m"].metrics[name] for name in ("alpaca_eval.win_rate", "mt_bench.score"))
    assert (rate.value, rate.stderr, rate.ci95, rate.n) == (17.188240356708075, 1.25, None, 800)
    assert (score.value, score.n) == (8.6751, 800)
    assert rows["acme/n"].metrics["alpaca_eval.lc_win_rate"].value == 25.0
    assert rows["acme/n"].provenance.judge == {"name": "reported", "model": "openai/gpt-4"}
    write_board(tmp_path / "mine", "mine", [row("a", 0), row("b", 1)])
    both = read_board(merge_boards([tmp_path / "mine", tmp_path / "board"], tmp_path / "both"))
    assert [[e.id for e in group] for group in comparable(both.entries)] == [["a", "b"], ["acme/m"], ["acme/n"]]
    assert {id for c in both.comparisons["alpaca_eval.win_rate"] for id in (c.first, c.second)} == {"a", "b"}
    text = (tmp_path / "both/board.md").read_text()
    assert "Reported elsewhere, unchanged: acme/m, acme/n." in text


def test_the_names_of_several_records_of_one_model(tmp_path: Path) -> None:
    other = record(MT, evaluation="f")
    other["source_metadata"]["source_name"] = "Another"
    assert set(read(tmp_path, record(ALPACA), other)[1]) == {"acme/m (A leaderboard)", "acme/m (Another)"}
    third = record(MT, evaluation="g")
    assert "acme/m (g)" in read(tmp_path / "more", record(ALPACA), other, third)[1]
    with pytest.raises(DataError, match=r"1/r\.json: evaluation_id: that of .*0/r\.json; remove one"):
        read(tmp_path / "twice", record(ALPACA), record(MT))


def without_samples() -> dict[str, Any]:
    one = json.loads(json.dumps(ALPACA))
    del one["score_details"]["uncertainty"], one["source_data"]["samples_number"]
    return one


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (result("Japanese MT-Bench", "score", 5, 10), "other benchmarks"),
        (result("MT-bench-101", "score", 5, 10), "other benchmarks"),
        (result("AlpacaEval Hard", "win_rate", 5), "other benchmarks"),
        (result("AlpacaEval", "score", 5), "of which no figure is named"),
        (result("AlpacaEval", "win_rate", 5, metric_id="lc_win_rate"), "names are of different figures"),
        (result("AlpacaEval", "win_rate", 0.5, 1, metric_unit="percent"), "clear whether it is in percent"),
        (result("AlpacaEval", "win_rate", 0.5, 1000), "clear whether it is in percent"),
        (result("AlpacaEval", "avg_length", 300, "Infinity", metric_unit="tokens"), "in tokens, not in characters"),  # type: ignore[arg-type]
        (result("MT-Bench", "score", 0.8, 1), "on another scale than 1 to 10"),
        (without_samples(), "without a number of samples"),
    ],
)
def test_what_is_not_surely_a_figure_of_ours_is_left_out_and_told(
    one: dict[str, Any], why: str, tmp_path: Path
) -> None:
    done, rows = read(tmp_path / "a", record(one, MT))
    assert list(rows["acme/m"].metrics) == ["mt_bench.score"]
    assert why in next(iter(done.left_out))
    with pytest.raises(DataError, match=f"no figure that boards have; left out: 1 .*{why}"):
        read(tmp_path / "b", record(one))


def changed(edit: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    one: dict[str, Any] = json.loads(json.dumps(record(ALPACA, MT)))
    edit(one)
    return one


def details(one: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = one["evaluation_results"][0]["score_details"]
    return found


def two_baselines() -> dict[str, Any]:
    metrics = {"win_rate": "x", "lc_win_rate": "y"}
    return record(
        *(
            result("AlpacaEval", m, 5, metric_unit="percent", metric_parameters={"baseline": b})
            for m, b in metrics.items()
        )
    )


BAD: list[tuple[Any, str]] = [
    (two_baselines(), "alpaca_eval's results differ in their parameters, expected one"),
    (changed(lambda r: details(r).update(score=None)), r"evaluation_results\.0\.score_details\.score"),
    (changed(lambda r: details(r).update(score="17")), r"evaluation_results\.0\.score_details\.score"),
    (changed(lambda r: details(r).update(score=True)), r"evaluation_results\.0\.score_details\.score"),
    (changed(lambda r: details(r).update(score=float("nan"))), "NaN is not a figure"),
    (changed(lambda r: details(r).update(score=10**60)), "an integer of 61 characters"),
    (changed(lambda r: details(r).update(score=101)), r"evaluation_results\.0\.score_details\.score: 101 is outside"),
    (json.dumps(record(ALPACA)).replace("17.188240356708075", "1e999"), "out of range"),
    (changed(lambda r: details(r)["uncertainty"].update(num_samples=-1)), r"uncertainty\.num_samples"),
    (changed(lambda r: details(r)["uncertainty"].update(num_samples=10**15)), r"metrics\.alpaca_eval\.win_rate"),
    (changed(lambda r: details(r)["uncertainty"]["standard_error"].update(value=-1)), r"standard_error\.value"),
    (
        changed(lambda r: details(r)["uncertainty"].update(confidence_interval={"lower": 9, "upper": 1})),
        r"evaluation_results\.0\.score_details\.uncertainty\.confidence_interval: its lower",
    ),
    (changed(lambda r: r["evaluation_results"][0]["metric_config"].update(lower_is_better=True)), "lower_is_better"),
    (changed(lambda r: r["evaluation_results"][0]["metric_config"].update(min_score=200)), "is above max_score"),
    (changed(lambda r: r["evaluation_results"][0]["metric_config"].pop("lower_is_better")), "lower_is_better"),
    (
        changed(lambda r: r["evaluation_results"].append(ALPACA)),
        r"evaluation_results\.2: a second alpaca_eval\.win_rate",
    ),
    (changed(lambda r: r["model_info"].update(id="")), r"model_info\.id"),
    (changed(lambda r: r["model_info"].update(id="x" * 1001)), r"model_info\.id"),
    (changed(lambda r: r.pop("eval_library")), "eval_library: Field required"),
    (changed(lambda r: r.update(schema_version="1.0")), r"schema_version: 1\.0; expected 0\.3\.0"),
    (changed(lambda r: r.update(evaluation_results={})), "evaluation_results"),
    ('{"evaluation_results": [], "evaluation_results": []}', "occurs twice"),
    (json.dumps(record(ALPACA)).replace('"acme/m"', '"\\ud800"', 1), "hex escape"),
    ([record(ALPACA)], "expected one aggregate record"),
    ("[" * 200, "levels deep"),
    ("{", "can't be read"),
]


@pytest.mark.parametrize(("bad", "why"), BAD, ids=range(len(BAD)))
def test_what_can_not_be_right_is_one_line_with_file_and_field(bad: Any, why: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"0/r\.json.*{why}") as caught:
        read(tmp_path, bad)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "board").exists()


def test_only_an_interval_that_says_95_percent_is_taken_for_one(tmp_path: Path) -> None:
    for level, expected in ((0.95, (15.0, 19.5)), (0.9, None), (None, None)):
        said = {"lower": 15.0, "upper": 19.5} | ({} if level is None else {"confidence_level": level})
        one = changed(lambda r, said=said: details(r)["uncertainty"].update(confidence_interval=said))
        rows = read(tmp_path / str(level), one)[1]
        assert rows["acme/m"].metrics["alpaca_eval.win_rate"].ci95 == expected


def test_hostile_names_change_no_table_and_no_file(tmp_path: Path) -> None:
    name = "../../x\n| <script>alert(1)</script> \x1b[31m"
    _, rows = read(tmp_path, record(ALPACA, model=name))
    assert set(rows) == {name}
    text = (tmp_path / "board/board.md").read_text()
    assert "<script>" not in text
    assert "\x1b" not in text
    assert [path.parent.name for path in (tmp_path / "board").rglob("*script*")] == ["entries"]


def test_a_link_out_of_the_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text(json.dumps(record(ALPACA)))
    (tmp_path / "records").mkdir()
    (tmp_path / "records/r.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(DataError, match="leads out of"):
        import_records(tmp_path / "records", tmp_path / "board")
