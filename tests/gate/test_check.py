"""The gate: its four exit codes on boards made for each, from files, from the command line and in a recipe."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats as scipy_stats
from typer.testing import CliRunner

from harness.boards.entry import Entry
from harness.boards.read import choose_row
from harness.cli.app import app
from harness.errors import DataError
from harness.gate.baseline import promote, read_baseline
from harness.gate.check import Check, run_gate, worst
from harness.gate.ci import junit_xml, summary_markdown
from harness.report.write import write_board
from harness.stats.intervals import mean_metric
from harness.stats.noninferiority import non_inferiority
from harness.types import Metric
from tests.sample_boards import BENCHMARKS, LOCAL, markdown_tables, with_provenance

N = 400


def row(name: str, shift: float, n: int = N, seed: int = 0, **provenance: Any) -> Entry:
    """A row whose verdicts are those of a common draw moved by `shift` percent points, with a little noise."""
    rng, own = random.Random(seed), random.Random(f"{name}{shift}")
    base = [rng.uniform(1.3, 1.7) for _ in range(n)]
    values = {f"q{i}": b + shift / 100 + own.gauss(0, 0.05) for i, b in enumerate(base)}
    turns = {f"{i}/{t}": float(own.randint(3, 8)) + shift / 10 for i in range(n // 4) for t in (1, 2)}
    return Entry(
        id=name,
        method="dpo_best_worst",
        metrics={
            "alpaca_eval.win_rate": mean_metric([v - 1 for v in values.values()], scale=100),
            "mt_bench.score": mean_metric(list(turns.values())),
            "mt_bench.turn_1": mean_metric([v for k, v in turns.items() if k.endswith("/1")]),
        },
        provenance={"judge": LOCAL, "judge_calibration": "uncalibrated", "benchmarks": BENCHMARKS, **provenance},
        outcomes={"alpaca_eval": dict(values), "mt_bench": dict(turns)},
    )


def board(folder: Path, *rows: Entry) -> Path:
    write_board(folder, folder.name, rows)
    return folder


OLD = row("old", 0)


@pytest.mark.parametrize(
    ("shift", "n", "code", "said"),
    [
        (0.0, N, 0, "not worse|by more than"),
        (3.0, N, 0, "differs by +"),
        (-6.0, N, 1, "differs by -"),
        (-4.0, 12, 3, "can't be told at this n"),
    ],
)
def test_not_worse_worse_and_not_settled(shift: float, n: int, code: int, said: str) -> None:
    result = run_gate(row("new", shift, n), row("old", 0, n), Check())
    assert result.code == code
    assert any(part in result.reason for part in said.split("|"))
    assert result.test is not None
    assert result.test.n == n
    assert len(result.reason.splitlines()) == 1


def test_bounds_are_those_of_scipys_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    differences = list(rng.normal(-0.4, 2, 60))
    found = non_inferiority(differences, margin=1, alpha=0.05)
    two_sided = scipy_stats.ttest_1samp(differences, 0).confidence_interval(0.90)
    assert (found.lower, found.upper) == pytest.approx((two_sided.low, two_sided.high))
    doubled = [x for d in differences for x in (d, d)]
    groups = [i for i in range(60) for _ in (1, 2)]
    again = non_inferiority(doubled, margin=1, alpha=0.05, groups=groups)
    assert (again.lower, again.upper, again.n) == pytest.approx((found.lower, found.upper, 60))


def test_at_the_margin_it_passes_and_fails_in_five_cases_of_a_hundred() -> None:
    """Verdicts as judges give them: near 1 and 2, of rows that agree on most prompts."""
    rng = np.random.default_rng(1)
    outcomes = []
    for _ in range(1500):
        theirs = rng.beta(0.3, 0.5, 200) * 100
        mine = np.where(rng.random(200) < 0.7, theirs, rng.beta(0.3, 0.5, 200) * 100)
        shift = 2.0  # both rows have one distribution; the new one is then moved to the margin
        outcomes.append(non_inferiority(list(mine - theirs - shift), margin=2.0, alpha=0.05).outcome)
    assert 0.03 < outcomes.count("not worse") / 1500 < 0.07
    assert 0.03 < outcomes.count("worse") / 1500 < 0.07


def test_what_is_said_to_be_detectable_is_detected_in_four_cases_of_five() -> None:
    rng = np.random.default_rng(2)
    sd, n = 30.0, 300
    detectable = non_inferiority(list(rng.normal(0, sd, n)), margin=2.0, alpha=0.05).detectable
    settled = [
        non_inferiority(list(rng.normal(detectable - 2.0, sd, n)), margin=2.0, alpha=0.05).outcome for _ in range(1000)
    ]
    assert 0.75 < settled.count("not worse") / 1000 < 0.85
    seen = non_inferiority(list(rng.normal(1.0, sd, 1000)), margin=2.0, alpha=0.05)
    assert seen.needed is not None
    effect = seen.difference + 2.0
    again = [
        non_inferiority(list(rng.normal(effect - 2.0, sd, seen.needed)), margin=2.0, alpha=0.05).outcome
        for _ in range(500)
    ]
    assert 0.75 < again.count("not worse") / 500 < 0.85


def without(entry: Entry, count: int, group: str = "alpaca_eval", *, none: bool = False) -> Entry:
    kept = dict(entry.outcomes[group])
    for key in list(kept)[:count]:
        if none:
            kept[key] = None
        else:
            del kept[key]
    return entry.model_copy(update={"outcomes": {**entry.outcomes, group: kept}})


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (without(row("new", 5), 5), "5 of the baseline's are missing"),
        (without(row("new", 5), 5, none=True), "5 of 400 verdicts of alpaca_eval are missing"),
        (with_provenance(row("new", 5), judge={**LOCAL, "model": "other"}), "different judge: model:"),
        (
            with_provenance(row("new", 5), benchmarks={"alpaca_eval": {**BENCHMARKS["alpaca_eval"], "limit": 3}}),
            "different alpaca_eval: limit: None -> 3",
        ),
        (with_provenance(row("new", 5), references={"alpaca_eval": "k"}), "against different answers of row"),
        (row("new", 5).model_copy(update={"outcomes": {}}), "no outcomes by prompt"),
        (row("new", 5).model_copy(update={"metrics": {}}), "row 'new' has no alpaca_eval.win_rate"),
    ],
)
def test_what_can_not_be_compared_is_no_pass(new: Entry, said: str) -> None:
    result = run_gate(new, OLD, Check())
    assert result.code == 2
    assert said in result.reason
    assert result.test is None


def test_another_metric_has_its_own_unit_and_prompts() -> None:
    new, old = row("new", 0), row("old", 0)
    found = run_gate(new, old, Check(metric="mt_bench.score", margin=1.0))
    assert found.test is not None
    assert found.test.n == N // 4  # both turns of a question go together
    mean = new.metrics["mt_bench.score"].value - old.metrics["mt_bench.score"].value  # type: ignore[operator]
    assert found.test.difference == pytest.approx(mean)
    first = run_gate(new, old, Check(metric="mt_bench.turn_1", margin=1.0)).test
    assert first is not None
    turn = new.metrics["mt_bench.turn_1"].value - old.metrics["mt_bench.turn_1"].value  # type: ignore[operator]
    assert first.difference == pytest.approx(turn)
    assert run_gate(new, old, Check(metric="mt_bench.sore")).reason.startswith(
        "unknown metric 'mt_bench.sore'; did you"
    )


def test_length_controlled_rates_are_compared_by_their_resamples() -> None:
    rng = np.random.default_rng(3)
    common = rng.normal(0, 1.5, 1000)
    lc = "alpaca_eval.lc_win_rate"

    def with_lc(entry: Entry, value: float, noise: float = 0.3) -> Entry:
        drawn = [float(x) for x in value + common + rng.normal(0, noise, 1000)]
        metrics = {**entry.metrics, lc: Metric(value=value, n=N)}
        return entry.model_copy(update={"metrics": metrics, "resamples": {lc: drawn}})

    old = with_lc(OLD, 50.0)
    check = Check(metric=lc, margin=1.0)
    assert run_gate(with_lc(row("new", 0), 50.0), old, check).code == 0
    assert run_gate(with_lc(row("new", 0), 47.0), old, check).code == 1
    unsettled = run_gate(with_lc(row("new", 0), 49.0, noise=3.0), old, check)
    assert unsettled.code == 3
    apart = np.array(with_lc(OLD, 50.0).resamples[lc]) - np.array(old.resamples[lc])
    assert unsettled.test is not None
    assert unsettled.test.upper - unsettled.test.lower > np.ptp(np.percentile(apart, [5, 95]))
    bare = with_lc(row("new", 0), 50.0).model_copy(update={"resamples": {}})
    refused = run_gate(bare, old, check)
    assert (refused.code, "has no resamples of alpaca_eval.lc_win_rate" in refused.reason) == (2, True)


def test_a_floor_needs_no_baseline() -> None:
    assert run_gate(row("new", 0), None, Check(minimum=40)).code == 0
    below = run_gate(row("new", 0), None, Check(minimum=90))
    assert (below.code, "below the floor of 90" in below.reason) == (1, True)
    assert run_gate(row("new", 0), None, Check()).code == 2
    assert run_gate(row("new", 5), OLD, Check(minimum=90)).code == 1


def test_the_worst_decides() -> None:
    results = [run_gate(row("new", s), OLD, Check()) for s in (0, -6)]
    assert worst(results) == 1
    assert worst([*results, run_gate(row("new", 0), None, Check())]) == 2
    assert worst(results[:1]) == worst([]) == 0


def gate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness.cli", "gate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_from_the_command_line(tmp_path: Path) -> None:
    new = board(tmp_path / "new", row("a", 0), row("b", -6), row("c", -2, 40))
    old = board(tmp_path / "old", OLD)
    written = str(tmp_path / "gate.xml"), str(tmp_path / "gate.md")
    done = gate(str(new), "--baseline", str(old), "--row", "b", "--junit", written[0], "--markdown", written[1])
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("harness gate: worse: row b against old: alpaca_eval.win_rate differs by -")
    suite = ElementTree.parse(written[0]).getroot()
    assert (suite.get("failures"), suite.get("errors")) == ("1", "0")
    assert "differs by" in (suite.find("testcase/failure").get("message") or "")  # type: ignore[union-attr]
    assert "| b" in Path(written[1]).read_text()
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
    assert "5 of the baseline's are missing" in done.stderr


def test_a_promoted_row_is_the_baseline(tmp_path: Path) -> None:
    folder = board(tmp_path / "new", OLD, row("new", 0))
    runner = CliRunner()
    assert runner.invoke(app, ["baseline", "promote", str(folder), "--row", "old"]).exit_code == 0
    path = folder / "baseline.json"
    first = read_baseline(path)
    assert first.entry == OLD  # type: ignore[union-attr]
    assert gate(str(folder), "--baseline", str(path), "--row", "new").returncode == 0
    assert runner.invoke(app, ["baseline", "promote", str(folder), "--row", "new"]).exit_code == 0
    again = json.loads(path.read_text())
    assert again["entry"]["id"] == "new"
    assert again["before"] == {"row": "old", "by": again["by"], "at": first.at, "commit": first.commit}  # type: ignore[union-attr]
    with pytest.raises(DataError, match="is not a baseline, so it is not replaced"):
        promote(folder, "new", folder / "board.json")
    board(tmp_path / "holes", without(OLD, 3, none=True))
    with pytest.raises(DataError, match=r"lacks verdicts \(3 of alpaca_eval\)"):
        promote(tmp_path / "holes", None, None)


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
        ("{row: new, baseline_row: old}", 1, 0.01, 0, "pass: row new against old"),
        ("{row: new, baseline_row: old}, {row: new, min: 90}", 1, 0.01, 1, "below the floor of 90"),
        ("{row: new, baseline_row: old}", -9, 0.01, 1, "worse: row new against old"),
        ("{row: new, baseline_row: old}", -2, 0.4, 3, "inconclusive"),
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
    assert (tmp_path / "boards" / "gated" / "board.json").exists() == (code != 2)
