"""Rows from files: published rows from recorded verdicts, the same answers judged again, and bad files."""

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.benchmarks.alpaca_eval import length_control
from harness.benchmarks.alpaca_eval.benchmark import AlpacaEval
from harness.boards.consistency import contradiction
from harness.boards.entry import Entry
from harness.components import build
from harness.engine.execute import execute
from harness.engine.store import Store
from harness.errors import DataError, RecipeError
from harness.pipeline.entries import make_entries
from harness.pipeline.plan import make_plan
from harness.pipeline.study import make_study_plan
from harness.recipe.load import load_recipe, load_study
from tests.benchmarks.alpaca_eval.helpers import official_row
from tests.fake_server import FakeServer, completion
from tests.stages.scripted import Silent

SYSTEMS = {"a": "Say {i}: yes.", "b": "Say {i}: no, and why not."}


def run(path: Path, store: Path) -> dict[str, Entry]:
    plan = make_study_plan(load_study(path))
    return {entry.id: entry for entry in make_entries(plan, execute(plan, Store(store), Silent()))}


def instructions() -> list[str]:
    benchmark = build("benchmark", {"name": "alpaca_eval", "prompts": "builtin", "reference": "file"})
    assert isinstance(benchmark, AlpacaEval)
    return [question.turns[0] for question in benchmark.load_questions()]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes the files of both systems, and a recipe on them."""

    def one(
        judge: Mapping[str, Any],
        answers: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = lambda rows: rows,
        verdicts: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = lambda rows: rows,
        **more: Any,
    ) -> Path:
        systems = []
        for number, (name, text) in enumerate(SYSTEMS.items()):
            texts = {q: text.format(i=i) for i, q in enumerate(instructions())}
            written = [{"instruction": q, "output": t, "generator": name, "dataset": "x"} for q, t in texts.items()]
            judged = [
                {"instruction": q, "output_1": "r", "output_2": t, "preference": 1.25 + number / 2, "annotator": "them"}
                for q, t in texts.items()
            ]
            (tmp_path / f"{name}.json").write_text(json.dumps(answers(written)))
            with gzip.open(tmp_path / f"{name}.verdicts.json.gz", "wt") as file:
                json.dump(verdicts(judged), file)
            files = {
                "answers": {"alpaca_eval": f"{name}.json"},
                "verdicts": {"alpaca_eval": f"{name}.verdicts.json.gz"},
            }
            systems.append({"id": name, **files})
        benchmark = {"name": "alpaca_eval", "prompts": "builtin", "reference": "file"}
        evaluation = {"judge": judge, "benchmarks": [benchmark]}
        recipe = {"name": "replayed", "evaluation": evaluation, "systems": systems} | more
        (tmp_path / "x.yaml").write_text(json.dumps(recipe))  # JSON is YAML
        return tmp_path / "x.yaml"

    return one


REPLAY = {"name": "replay"}


@pytest.mark.slow
def test_the_official_rows_come_out_of_a_recipe(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(length_control, "RESAMPLES", 100)  # a thousand take five seconds
    data = shared_data / "alpaca_eval"
    expected_lc = {"gemma-2b-it": 5.718, "FuseChat-Gemma-2-9B-Instruct": 69.980}
    recipe = f"""\
name: replayed
evaluation:
  judge: {{name: replay}}
  benchmarks: [{{name: alpaca_eval, data_dir: {data}, df_gamed: {data}/df_gamed_reconstructed.csv}}]
systems:
"""
    for name in expected_lc:
        folder = data / "recorded" / name
        recipe += f"  - id: {name}\n    answers: {{alpaca_eval: {folder}/model_outputs.json.gz}}\n"
        recipe += f"    verdicts: {{alpaca_eval: {folder}/annotations.json.gz}}\n"
    (tmp_path / "x.yaml").write_text(recipe)
    entries = run(tmp_path / "x.yaml", tmp_path / "store")
    assert list(entries) == list(expected_lc)
    for name, lc in expected_lc.items():
        official, figures = official_row(name), entries[name].metrics
        assert figures["alpaca_eval.win_rate"].value == pytest.approx(float(official["win_rate"]), abs=1e-9)
        assert figures["alpaca_eval.win_rate"].stderr == pytest.approx(float(official["standard_error"]), abs=1e-9)
        counts = [figures[f"alpaca_eval.{key}"].value for key in ("wins", "losses", "draws")]
        assert counts == [int(official[key]) for key in ("n_wins", "n_wins_base", "n_draws")]
        assert figures["alpaca_eval.win_rate"].n == int(official["n_total"])
        assert figures["alpaca_eval.avg_length"].value == int(official["avg_length"])
        assert figures["alpaca_eval.lc_win_rate"].value == pytest.approx(lc, abs=0.01)
        provenance = entries[name].provenance.plain()
        assert provenance["judge"]["recorded_by"] == "alpaca_eval: weighted_alpaca_eval_gpt4_turbo"
        assert "not the official file" in provenance["benchmarks"]["alpaca_eval"]["lc_unofficial"]
        assert str(data) not in entries[name].model_dump_json()


def test_recorded_verdicts_are_used_and_no_judge_is_asked(write: Callable[..., Path], tmp_path: Path) -> None:
    entries = run(write(REPLAY), tmp_path / "store")
    assert [entries[name].metrics["alpaca_eval.win_rate"].value for name in "ab"] == [25.0, 75.0]
    assert entries["a"].method == "system"
    assert entries["a"].provenance.plain()["judge"] == {"name": "replay", "recorded_by": "alpaca_eval: them"}
    assert "policy" not in entries["a"].provenance.plain()
    plan = make_plan(load_recipe(tmp_path / "x.yaml"))
    assert all(Store(tmp_path / "store").find(stage.key) for stage in plan.stages)


@pytest.mark.slow
def test_another_judge_judges_them_again(write: Callable[..., Path], tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> Any:  # the system's text wins, in either place
        shown = body["messages"][-1]["content"]
        best = "m" if '"output": """Say ' in shown[: shown.index('"model_identifier": "M"')] else "M"
        other = {"m": "M", "M": "m"}[best]
        return completion(best, {best: -0.01, other: -4.61})

    with FakeServer(answer).running() as server:
        judge = {"name": "openai", "model": "m", "base_url": server.url}
        entries = run(write(judge), tmp_path / "store")
    assert len(server.requests) == 2 * len(instructions())
    assert entries["a"].provenance.plain()["judge"]["model"] == "m"
    assert entries["a"].metrics["alpaca_eval.win_rate"].value == pytest.approx(99, abs=0.1)


def test_a_system_can_be_the_reference(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(REPLAY)
    path.write_text(path.read_text().replace('"reference": "file"', '"reference": "a"'))
    entries = run(path, tmp_path / "store")
    assert entries["b"].metrics["alpaca_eval.win_rate"].n == len(instructions())
    path.write_text(path.read_text().replace('"reference": "a"', '"reference": "base"'))
    with pytest.raises(RecipeError, match="no row 'base' in this recipe; available: a, b, file"):
        load_recipe(path)


@pytest.mark.slow
def test_missing_repeated_and_failed_rows_are_counted(write: Callable[..., Path], tmp_path: Path) -> None:
    def damaged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        rows[0]["preference"] = None
        rows[1]["output_2"] = "another text"
        return [*rows[:-1], {**rows[2], "preference": 2.0}, {**rows[3], "instruction": "Unknown?"}]

    entries = run(write(REPLAY, answers=lambda rows: rows[:-1], verdicts=damaged), tmp_path / "store")
    provenance, n = entries["a"].provenance.plain(), len(instructions())
    assert provenance["answers"]["alpaca_eval"]["file"] == {"repeated": 0, "of_other_questions": 0, "missing": 1}
    counts = {"repeated": 1, "of_other_questions": 1, "missing": 1, "on_other_text": 1, "failed": 1}
    assert provenance["verdicts"]["alpaca_eval"]["file"] == counts
    figure = entries["a"].metrics["alpaca_eval.win_rate"]
    assert (figure.value, figure.n, figure.n_invalid) == (25.0, n - 3, 3)


@pytest.mark.slow
def test_the_model_and_the_judge_of_a_file_can_be_named(write: Callable[..., Path], tmp_path: Path) -> None:
    def of_several(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        others = [{**row, "annotator": "others", "preference": 1.5} for row in rows]
        return [*others, *rows]

    path = write(REPLAY, verdicts=of_several)
    with pytest.raises(DataError, match="verdicts of one annotator expected, found others, them; name one in the rec"):
        run(path, tmp_path / "store")
    recipe = json.loads(path.read_text())
    keys = []
    for judge, expected in (("them", 25.0), ("others", 50.0)):
        file = {"file": "a.verdicts.json.gz", "judge": judge}
        systems = [{**recipe["systems"][0], "verdicts": {"alpaca_eval": file}}]
        path.write_text(json.dumps({**recipe, "systems": systems}))
        entry = run(path, tmp_path / "store")["a"]
        assert entry.metrics["alpaca_eval.win_rate"].value == expected
        assert entry.provenance.plain()["judge"]["recorded_by"] == f"alpaca_eval: {judge}"
        keys.append({stage.name: stage.key for stage in make_plan(load_recipe(path)).stages})
    assert keys[0]["recorded_answers"] == keys[1]["recorded_answers"]
    assert keys[0]["recorded_verdicts"] != keys[1]["recorded_verdicts"]


@pytest.mark.slow
def test_the_model_of_the_answers_is_the_one_that_was_judged(write: Callable[..., Path], tmp_path: Path) -> None:
    """Of two models that wrote the same texts."""

    def of_two(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        named = {"them": rows} if "generator" in rows[0] else {"others": rows, "them": rows}
        key = "generator" if "generator" in rows[0] else "generator_2"
        return [{**row, key: name, "preference": 1.25 if name == "them" else 2.0} for name in named for row in rows]

    entries = run(write(REPLAY, answers=of_two, verdicts=of_two), tmp_path / "store")
    assert entries["a"].metrics["alpaca_eval.win_rate"].value == 25.0
    provenance = entries["a"].provenance.plain()
    assert provenance["verdicts"]["alpaca_eval"]["file"]["of_others"] == len(instructions())


def test_a_file_that_can_not_be_read_is_named(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(REPLAY)
    (tmp_path / "a.json").write_text('[{"instruction": "x"}]')
    with pytest.raises(DataError, match=r"a\.json, row 1: expected texts under `instruction` and `output`"):
        run(path, tmp_path / "store")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"id": "b"}, "systems.1.id: another row has the id 'b'; choose a different one"),
        ({"id": "../b"}, "systems.0.id: expected letters, digits"),
        ({"answers": {}}, "systems.0.answers: expected at least 1 item"),
        ({"answers": {"alpaca_eval": "no.json"}}, "systems.0.answers.alpaca_eval: no file "),
        (
            {"answers": {"alpaca_evil": "a.json"}},
            "no benchmark 'alpaca_evil' in evaluation; did you mean 'alpaca_eval'",
        ),
        ({"verdicts": {}}, "no recorded verdicts for judge 'replay': give verdicts.alpaca_eval, or another judge"),
        ({"judgments": {}}, "systems.0.judgments: unknown field"),
        ({"answers": {"alpaca_eval": {"file": "no.json", "model": "x"}}}, "systems.0.answers.alpaca_eval: no file "),
        (
            {"answers": {"alpaca_eval": {"file": "a.json", "judge": "x"}}},
            "answers have no judge; name it at the verdicts",
        ),
        ({"answers": {"alpaca_eval": {"model": "x"}}}, "systems.0.answers.alpaca_eval.file: missing"),
    ],
)
def test_mistakes_end_in_one_line(write: Callable[..., Path], edit: dict[str, Any], message: str) -> None:
    path = write(REPLAY)
    recipe = json.loads(path.read_text())
    recipe["systems"][0] |= edit
    path.write_text(json.dumps(recipe, indent=1))
    with pytest.raises(RecipeError) as raised:
        load_recipe(path)
    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"evaluation": None}, "systems need `evaluation`, which is missing"),
        ({"policy": {"model": "smollm2-135m-instruct"}}, "'replay' only has verdicts on the systems' answers"),
        ({"methods": [{"id": "x", "loss": {"name": "nca"}}]}, "methods need `policy`, which is missing"),
        ({"data": {"seeds": [{"name": "builtin"}]}}, "data is for training a policy, but `policy` is missing"),
        ({"systems": []}, "policy: missing; this field must be given (and 1 more)"),
    ],
)
def test_contradictions_are_refused(write: Callable[..., Path], more: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as raised:
        load_recipe(write(REPLAY, **more))
    assert message in str(raised.value)


def test_mt_benchs_recorded_rows_come_out_of_a_recipe(shared_data: Path, tmp_path: Path) -> None:
    data = shared_data / "mt_bench"
    expected = {"mistral-orpo-capybara": (7.1250, 6.5125, 6.8188), "claude-3-opus-20240229": (9.04375, 8.30625, 8.6750)}
    systems = [
        {
            "id": name,
            "answers": {"mt_bench": str(data / "recorded" / name / "model_answer.jsonl")},
            "verdicts": {"mt_bench": str(data / "recorded" / name / "gpt-4_single.jsonl.gz")},
        }
        for name in expected
    ]
    evaluation = {"judge": REPLAY, "benchmarks": [{"name": "mt_bench", "data_dir": str(data)}]}
    (tmp_path / "x.yaml").write_text(json.dumps({"name": "replayed", "evaluation": evaluation, "systems": systems}))
    entries = run(tmp_path / "x.yaml", tmp_path / "store")
    for name, (first, second, both) in expected.items():
        figures = {key: entries[name].metrics[f"mt_bench.{key}"].value for key in ("turn_1", "turn_2", "score")}
        assert figures == pytest.approx({"turn_1": first, "turn_2": second, "score": both}, abs=6e-5)
        assert entries[name].metrics["mt_bench.score"].n == 80
        assert len(entries[name].strata["mt_bench"]) == 80
        assert contradiction(entries[name]) is None
        assert entries[name].provenance.plain()["judge"]["recorded_by"] == "mt_bench: gpt-4"
