"""Gates from the command line and in recipes."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from harness.boards.read import choose_row
from harness.cli.app import app
from harness.errors import DataError
from harness.gate.check import run_gate
from harness.gate.ci import junit_xml, summary_markdown
from harness.gate.margins import Check
from tests.gate.rows import OLD, N, board, row
from tests.sample_boards import markdown_tables


def gate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness.cli", "gate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_from_the_command_line(tmp_path: Path) -> None:
    new = board(tmp_path / "new", row("a", 0), row("b", -6), row("c", -2, 40))
    old = board(tmp_path / "old", OLD)
    written = str(tmp_path / "gate.xml"), str(tmp_path / "gate.md")
    done = gate(str(new), "--baseline", str(old), "--row", "b", "--junit", written[0], "--markdown", written[1])
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("harness gate: worse: row b against old: alpaca_eval.win_rate −")
    suite = ElementTree.parse(written[0]).getroot()
    assert (suite.get("failures"), suite.get("errors")) == ("1", "0")
    assert "worse than allowed (margin 2;" in (suite.find("testcase/failure").get("message") or "")  # type: ignore[union-attr]
    assert "| b" in Path(written[1]).read_text()
    assert "one-sided bounds decide" in Path(written[1]).read_text()
    runner = CliRunner()
    for name, code in {"a": 0, "b": 1, "c": 2}.items():  # c has other prompts
        assert runner.invoke(app, ["gate", str(new), "--baseline", str(old), "--row", name]).exit_code == code
    small = board(tmp_path / "small", row("small", 0, 40))
    assert runner.invoke(app, ["gate", str(new), "--baseline", str(small), "--row", "c"]).exit_code == 3
    assert gate(str(new), "--baseline", str(old)).returncode == 2  # which of three rows?
    assert gate(str(new), "--baseline", str(tmp_path / "none"), "--row", "a").returncode == 2


def test_five_deleted_verdicts_are_no_pass(tmp_path: Path) -> None:
    old, new = board(tmp_path / "old", OLD), board(tmp_path / "new", row("new", 5))
    assert gate(str(new / "board.json"), "--baseline", str(old / "board.json")).returncode == 0
    path = new / "entries" / "new.json"
    entry = json.loads(path.read_text())
    for key in list(entry["outcomes"]["alpaca_eval"])[:5]:
        del entry["outcomes"]["alpaca_eval"][key]
    path.write_text(json.dumps(entry))
    done = gate(str(new / "board.json"), "--baseline", str(old / "board.json"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "its 395 scored outcomes give" in done.stderr
    new = board(tmp_path / "fewer", row("new", 5, N - 5))
    done = gate(str(new / "board.json"), "--baseline", str(old / "board.json"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "5 are missing, and 0 are new" in done.stderr


def test_two_rows_of_one_board(tmp_path: Path) -> None:
    folder = board(tmp_path / "x", OLD, row("new", 0), row("bad", -6))
    assert gate(str(folder), "--row", "new", "--baseline-row", "old").returncode == 0
    worse = gate(str(folder), "--row", "bad", "--baseline-row", "old")
    assert (worse.returncode, "row bad against old: alpaca_eval.win_rate −" in worse.stdout) == (1, True)
    assert gate(str(folder), "--row", "bad", "--baseline-row", "old", "--margin", "30%").returncode == 0
    assert gate(str(folder), "--row", "bad", "--baseline-row", "ol").returncode == 2
    assert gate(str(folder), "--row", "bad").returncode == 2  # against what?


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        (
            "--margin",
            "nan",
            "expected a number of at least 0, got 'nan'; or a share of the baseline's value, such as 10%",
        ),
        ("--margin", "-1", "expected a number of at least 0"),
        ("--margin", "0%", "expected a number of at least 0"),
        ("--anchor-margin", "inf", "expected a number of at least 0"),
        ("--alpha", "nan", "expected a number, got 'nan'"),
        ("--alpha", "0.5", "gate: alpha: expected a number above 0 and below 0.5, got 0.5"),
        ("--min", "nan", "expected a number, got 'nan'"),
        ("--until-settled", "none.yaml", "--until-settled judges --row and --baseline-row of its recipe"),
        ("--max-cost", "1", "go with --until-settled"),
    ],
)
def test_what_is_no_number_is_one_line(tmp_path: Path, option: str, value: str, said: str) -> None:
    done = gate(str(board(tmp_path / "x", OLD)), "--row", "old", "--baseline-row", "old", option, value)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_row_has_to_be_named_where_there_are_several(tmp_path: Path) -> None:
    folder = board(tmp_path / "x", OLD, row("new", 0))
    with pytest.raises(DataError, match="has 2 rows; name one with --row: old, new"):
        choose_row(folder, None)
    with pytest.raises(DataError, match="no row 'nw'; did you mean 'new'"):
        choose_row(folder, "nw")


def test_reports_survive_any_name() -> None:
    odd = row("a|b<script>\x07", 0)
    results = [run_gate(odd, OLD, Check()), run_gate(odd, None, Check())]
    suite = ElementTree.fromstring(junit_xml(results).split("\n", 1)[1])
    assert suite.find("testcase").get("classname") == "a|b<script>\N{REPLACEMENT CHARACTER}"  # type: ignore[union-attr]
    assert suite.get("errors") == "1"
    (table,) = markdown_tables(summary_markdown(results))
    assert {len(line) for line in table} == {9}
    assert table[1][0].startswith("a|b<script>")


RECIPE = """\
name: gated
evaluation:
  judge: {{name: replay}}
  benchmarks: [{{name: alpaca_eval, prompts: builtin, reference: file}}]
systems:
  - {{id: old, answers: {{alpaca_eval: old.json}}, verdicts: {{alpaca_eval: old.v.json}}}}
  - {{id: new, answers: {{alpaca_eval: new.json}}, verdicts: {{alpaca_eval: new.v.json}}}}
gates: [{gate}]
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Any:
    from tests.recipe.test_systems import instructions

    def write(gate: str, shift: float, noise: float = 0.01) -> Path:
        rng = random.Random(0)
        for name, by in {"old": 0.0, "new": shift}.items():
            rows = [{"instruction": q, "output": f"{name} {q}"} for q in instructions()]
            (tmp_path / f"{name}.json").write_text(json.dumps(rows))
            verdicts = [
                {
                    "instruction": r["instruction"],
                    "output_2": r["output"],
                    "preference": 1.5 + by / 100 + rng.uniform(-noise, noise),
                    "annotator": "them",
                }
                for r in rows
            ]
            (tmp_path / f"{name}.v.json").write_text(json.dumps(verdicts))
        (tmp_path / "x.yaml").write_text(RECIPE.format(gate=gate))
        return tmp_path / "x.yaml"

    return write


@pytest.mark.parametrize(
    ("gate", "shift", "noise", "code", "said"),
    [
        pytest.param(
            "{row: new, baseline_row: old, margin: 12, allow: true}",
            1,
            0.01,
            0,
            "pass: row new against old",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "{row: new, baseline_row: old, allow: true}, {row: new, min: 90, allow: true}",
            1,
            0.01,
            1,
            "below the floor of 90",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "{row: new, baseline_row: old, allow: true}",
            -30,
            0.01,
            1,
            "worse: row new against old",
            marks=pytest.mark.slow,
        ),
        pytest.param("{row: new, baseline_row: old, allow: true}", -2, 0.4, 3, "inconclusive", marks=pytest.mark.slow),
        pytest.param("{row: new, baseline_row: old}", 1, 0.01, 2, "is flagged: ", marks=pytest.mark.slow),
        ("{row: nw, baseline_row: old}", 0, 0.01, 2, "gates.0.row: no row 'nw' in this recipe; did you mean 'new'?"),
        ("{row: new, baseline: none.json}", 0, 0.01, 2, "gates.0.baseline: no file"),
        ("{row: new}", 0, 0.01, 2, "nothing to compare with"),
        ("{row: new, min: 1, metric: mt_bench.score}", 0, 0.01, 2, "does not measure mt_bench"),
    ],
)
def test_in_a_recipe(recipe: Any, tmp_path: Path, gate: str, shift: float, noise: float, code: int, said: str) -> None:
    path = recipe(gate, shift, noise)
    command = [sys.executable, "-m", "harness.cli", "run", str(path), "--store", "store", "--leaderboards", "boards"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr
    written = code != 2 or "is flagged" in said
    assert (tmp_path / "boards" / "gated" / "board.json").exists() == written


@pytest.mark.parametrize(
    ("written", "margin"), [("10%", "10%"), (0.5, 0.5), ("0.5", 0.5), (None, None), (" 2.5 % ", "2.5%")]
)
def test_a_recipe_s_margin_may_be_a_share(written: Any, margin: Any) -> None:
    from harness.gate.recipe import check_of
    from harness.recipe.recipe import Gate

    gate = Gate.model_validate({"row": "a", "baseline_row": "b", "margin": written, "anchor_margin": 3, "allow": True})
    check = check_of(gate)
    assert (check.margin, check.anchor_margin, check.allow) == (margin, 3, True)


@pytest.mark.parametrize("field", ["margin", "anchor_margin", "min", "alpha"])
def test_a_recipe_takes_no_nan(field: str) -> None:
    from pydantic import ValidationError

    from harness.recipe.recipe import Gate

    for value in (float("nan"), float("inf"), True):
        with pytest.raises(ValidationError):
            Gate.model_validate({"row": "a", "baseline_row": "b", field: value})
