"""AlpacaEval's data: the official files, files of one's own, recorded ones, and what is wrong with them."""

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.benchmark import JudgedRow
from harness.benchmarks.alpaca_eval.benchmark import AlpacaEval
from harness.errors import DataError, RecipeError
from harness.types import Verdict
from tests.benchmarks.alpaca_eval.helpers import answer, benchmark, official, prompts_file


def test_official_data_from_a_folder_or_the_environment(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_folder = official(shared_data)
    from_folder.check()
    monkeypatch.setenv("HARNESS_DATA", str(shared_data))
    from_environment = benchmark()
    from_environment.check()
    assert from_folder.load_questions() == from_environment.load_questions()
    assert len(from_folder.load_questions()) == 805
    assert from_folder.identity() == from_environment.identity()
    unpacked = tmp_path / "alpaca_eval_gpt4_baseline.json"
    unpacked.write_bytes(gzip.decompress((shared_data / "alpaca_eval" / f"{unpacked.name}.gz").read_bytes()))
    assert benchmark(data_dir=str(tmp_path)).load_questions() == from_folder.load_questions()
    named = benchmark(prompts=str(unpacked), reference="file")
    assert named.identity() == benchmark(data_dir=str(tmp_path), length_control="minimal").identity()


def test_without_the_official_file_there_is_no_length_controlled_rate(shared_data: Path, tmp_path: Path) -> None:
    made = official(shared_data)
    assert made.identity()["lc_glm"] == "length_controlled_v1"
    with pytest.raises(
        DataError, match=r"the official df_gamed.csv .* name it as df_gamed; or set length_control: min"
    ):
        made.prepare()
    with pytest.raises(DataError, match=r"df_gamed: no file .*nowhere.csv; the length-controlled rate needs"):
        official(shared_data, df_gamed=str(tmp_path / "nowhere.csv")).check()
    with pytest.raises(ValueError, match="df_gamed is for the official prompts"):
        benchmark(prompts="builtin", df_gamed="x.csv")


def test_odd_recorded_files_are_counted(three: AlpacaEval, tmp_path: Path) -> None:
    outputs = [{"instruction": f"Do thing {i}.", "output": f"o{i}"} for i in (0, 1, 1, 9)]
    (tmp_path / "o.json").write_text(json.dumps(outputs))
    answers, odd = three.recorded_answers(tmp_path / "o.json")
    assert odd == {"repeated": 1, "of_other_questions": 1, "missing": 1}
    rows = [
        {"instruction": f"Do thing {i}.", "output_2": text, "preference": value, "annotator": "a"}
        for i, text, value in [(0, "o0", 1.75), (0, "o0", 1.0), (1, "another", 2.0), (2, "o2", None), (7, "o", 1.0)]
    ]
    (tmp_path / "v.json").write_text(json.dumps(rows))
    verdicts, odd, annotator = three.recorded_verdicts(tmp_path / "v.json", answers)
    assert odd == {"repeated": 1, "of_other_questions": 1, "missing": 0, "on_other_text": 2, "failed": 0}
    assert [v.value for v in verdicts] == [1.75, None, None]
    assert annotator == "a"
    assert three.metrics(answers, [], verdicts)["alpaca_eval.win_rate"].n_invalid == 2


def test_public_files_are_read_by_the_package_and_by_us(three: AlpacaEval, tmp_path: Path) -> None:
    answers = [answer(f"Do thing {i}.", f"own {i}") for i in range(3)]
    values = [1.25, None, 2.0]
    verdicts = [Verdict(question_id=a.question_id, value=v) for a, v in zip(answers, values, strict=True)]
    files = three.public_files("a judge", [JudgedRow("mine", answers, [], verdicts)])
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    folder = tmp_path / "data" / "alpaca_eval" / "mine"
    again, odd = three.recorded_answers(folder / "model_outputs.json")
    assert [a.turns for a in again] == [a.turns for a in answers]
    assert not any(odd.values())
    read, _, judge = three.recorded_verdicts(folder / "annotations.json", again)
    assert [v.value for v in read] == values
    assert judge == "a judge"
    from alpaca_eval.metrics import get_winrate

    rows = json.loads((folder / "annotations.json").read_text())
    assert get_winrate([r for r in rows if r["preference"]])["n_total"] == 2


def test_changed_official_data_is_refused(shared_data: Path, tmp_path: Path) -> None:
    rows = json.loads(gzip.decompress((shared_data / "alpaca_eval/alpaca_eval_gpt4_baseline.json.gz").read_bytes()))
    (tmp_path / "alpaca_eval_gpt4_baseline.json").write_text(json.dumps(rows[:-1]))
    with pytest.raises(DataError, match=r"not the official file: SHA-256 .* expected 83db546b"):
        benchmark(data_dir=str(tmp_path)).check()


def test_without_the_data_and_the_network_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    made = benchmark()
    made.check()  # it may be fetched when it is needed
    made.identity()
    with pytest.raises(DataError, match=r"tatsu-lab/alpaca_eval at revision 2edc6fad.*set data_dir"):
        made.load_questions()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [{"instruction": "a", "output": "x"}, {"instruction": "a", "output": "y"}],
            "row 2: its instruction is repeated",
        ),
        ([{"instruction": "a", "output": "x"}, {"output": "y"}], "row 2: expected a text under `instruction`"),
        ([{"instruction": "a"}], "row 1: expected the reference's text under `output`"),
        ([], "no rows"),
    ],
)
def test_rows_that_can_not_be_used_are_named(tmp_path: Path, rows: list[dict[str, str]], said: str) -> None:
    with pytest.raises(DataError, match=said):
        benchmark(prompts=str(prompts_file(tmp_path, rows)), reference="file").check()


def test_files_that_can_not_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file .*oficial; expected builtin, official, or a JSON file"):
        benchmark(prompts="oficial").check()
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        benchmark(prompts=str(tmp_path / "bad.json")).check()
    with pytest.raises(DataError, match=r"has no alpaca_eval_gpt4_baseline\.json"):
        benchmark(data_dir=str(tmp_path)).check()


def test_limit_is_evenly_spaced_and_part_of_the_identity(tmp_path: Path) -> None:
    path = prompts_file(tmp_path, [{"instruction": f"i{i}", "output": "x"} for i in range(10)])
    made = benchmark(prompts=str(path), limit=4)
    assert [q.turns for q in made.load_questions()] == [("i0",), ("i2",), ("i5",), ("i7",)]
    assert made.identity()["limit"] == 4
    assert len(benchmark(prompts=str(path), limit=99).load_questions()) == 10


def test_identity_is_content_not_place(tmp_path: Path) -> None:
    path = prompts_file(tmp_path, [{"instruction": "a", "output": "x"}])
    (tmp_path / "moved").mkdir()
    copy = shutil.copy(path, tmp_path / "moved" / "other.json")
    assert benchmark(prompts=str(path)).identity() == benchmark(prompts=copy).identity()
    path.write_text(path.read_text() + " ")
    assert benchmark(prompts=str(path)).identity() != benchmark(prompts=copy).identity()
    changed = [
        benchmark(prompts=copy, **f).identity() for f in ({"reference": "file"}, {"annotator": "alpaca_eval_gpt4"})
    ]
    assert benchmark(prompts=copy).identity() not in changed


def test_builtin_prompts_are_there() -> None:
    made = benchmark(prompts="builtin", reference="file")
    made.check()
    assert len(made.load_questions()) >= 8
    assert {q.temperature for q in made.load_questions()} == {0.0}


@pytest.mark.parametrize(
    "name", ["weighted_alpaca_eval_gpt4_turb", "alpaca_eval_vllm_llama3_70b_fn", "alpaca_farm", "claude"]
)
def test_annotators_that_are_unknown_or_need_more_are_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=r"did you mean 'weighted_alpaca_eval_gpt4_turbo'|not supported; use"):
        benchmark(prompts="builtin", annotator=name).check()


def test_validating_does_not_import_the_package() -> None:
    script = (
        "import sys; from harness.components import build\n"
        "made = build('benchmark', {'name': 'alpaca_eval', 'prompts': 'builtin'})\n"
        "made.check(); made.identity(); made.load_questions()\n"
        "heavy = {'alpaca_eval', 'pandas', 'numpy', 'scipy', 'sklearn', 'torch', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
