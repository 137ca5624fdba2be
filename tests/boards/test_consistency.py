"""Figures that a row's outcomes contradict are refused, whichever figure it is and whoever reads the board; figures
that follow from them never are."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from harness.benchmarks.alpaca_eval.unpenalised import lc_unpenalised
from harness.boards.consistency import contradiction, unreasonable
from harness.boards.entry import BoardRow, Entry
from harness.boards.read import read_board
from harness.cli.app import app
from harness.errors import DataError
from harness.stats.intervals import mean_metric
from harness.types import Metric
from tests.boards.measured import as_older_boards_have_it, measured
from tests.gate.rows import OLD, board, row
from tests.sample_boards import drawn


@pytest.mark.parametrize("pairwise", [False, True])
@pytest.mark.parametrize("missing", [0, 0.2, 1])
@pytest.mark.parametrize("n", [1, 2, 5, 30])
def test_what_follows_from_outcomes_is_read(n: int, missing: float, pairwise: bool) -> None:
    for seed in range(3):
        assert contradiction(measured(random.Random(seed), n, missing, pairwise)) is None


@pytest.mark.parametrize("pairwise", [False, True])
@pytest.mark.parametrize("missing", [0, 0.2])
@pytest.mark.parametrize("n", [2, 5, 30, 60])
def test_what_older_boards_have_is_read(n: int, missing: float, pairwise: bool) -> None:
    for seed in range(3):
        entry = as_older_boards_have_it(measured(random.Random(seed), n, missing, pairwise))
        assert contradiction(entry) is None
        unlike = entry.metrics.get("mt_bench.score") or entry.metrics["mt_bench.win_rate"]
        assert n < 30 or unlike.n > n


def test_few_prompts_of_one_value_may_have_wide_intervals() -> None:
    """Thirty ties but one have a standard error of next to nothing, and are no certainty."""
    preferences = [1.5] * 29 + [1.6]
    won = mean_metric([p - 1 for p in preferences], scale=100, limits=(0.0, 100.0))
    outcomes = {"alpaca_eval": {f"q{i}": p for i, p in enumerate(preferences)}}
    provenance = {"benchmarks": {"alpaca_eval": {}}}
    row = Entry(id="a", method="m", metrics={"alpaca_eval.win_rate": won}, outcomes=outcomes, provenance=provenance)
    assert contradiction(row) is None
    assert unreasonable(row) is None
    wider = won.model_copy(update={"ci95": (0.0, 100.0)})
    assert contradiction(row.model_copy(update={"metrics": {"alpaca_eval.win_rate": wider}})) is not None


def test_the_standard_error_within_strata_is_that_of_the_row_s_own_strata() -> None:
    entry = measured(random.Random(0), 60, 0)
    without = as_older_boards_have_it(entry).metrics["mt_bench.score"]
    score = entry.metrics["mt_bench.score"]
    assert score.stderr != pytest.approx(without.stderr, rel=1e-3)
    assert contradiction(entry) is None
    assert "a standard error of" in str(contradiction(entry.model_copy(update={"strata": {}})))
    moved = {key: ("math" if value == "writing" else value) for key, value in entry.strata["mt_bench"].items()}
    assert contradiction(entry.model_copy(update={"strata": {"mt_bench": moved}})) is not None


@pytest.mark.parametrize("n", [8, 60])
def test_a_rate_from_resamples_has_their_percentiles_or_the_interval_of_few(n: int) -> None:
    name, rng = "alpaca_eval.lc_unpenalised", np.random.default_rng(n)
    columns = rng.integers(50, 900, n).tolist(), rng.integers(50, 900, n).tolist(), (1 + rng.random(n)).tolist()
    metric = lc_unpenalised(*columns)
    rounded = [round(x, 4) for x in metric.resamples]
    row = Entry(
        id="a",
        method="m",
        metrics={name: metric},
        outcomes={"alpaca_eval": {f"q{i}": p for i, p in enumerate(columns[2])}},
        resamples={name: rounded},
        provenance={"benchmarks": {"alpaca_eval": {}}},
    )
    assert contradiction(row) is None
    assert unreasonable(row) is None
    low, high = metric.ci95 or (0.0, 0.0)
    for ends in ((low + 1, high), (low, high - 1)):
        other = row.model_copy(update={"metrics": {name: metric.model_copy(update={"ci95": ends})}})
        assert "its resamples give" in str(contradiction(other))


def test_figures_rounded_to_what_tables_show_are_read() -> None:
    entry = measured(random.Random(0), 30, 0.1)
    rounded = {}
    for name, m in entry.metrics.items():
        places = 1 if name == "alpaca_eval.win_rate" else 2 if name.startswith("mt") or "kept" in name else 4
        ends = m.ci95 and (round(m.ci95[0], places), round(m.ci95[1], places))
        stderr = None if m.stderr is None else round(m.stderr, places)
        rounded[name] = m.model_copy(update={"value": round(m.value or 0, places), "stderr": stderr, "ci95": ends})
    assert contradiction(entry.model_copy(update={"metrics": rounded})) is None


Edit = Callable[[dict[str, Any]], object]
EDITS: dict[str, tuple[Edit, str]] = {
    "win rate": (
        lambda e: e["metrics"]["alpaca_eval.win_rate"].update(value=99.9, ci95=None),
        "99.9, but its 40 scored",
    ),
    "win rate, a little": (lambda e: bump(e, "alpaca_eval.win_rate", "value", 0.2), "but its 40 scored outcomes give"),
    "score": (lambda e: bump(e, "mt_bench.score", "value", -0.05), "scored outcomes give"),
    "turn": (lambda e: bump(e, "mt_bench.turn_2", "value", 0.5), "turn_2: .* scored outcomes give"),
    "category": (lambda e: bump(e, "mt_bench.math", "value", 0.1), "math: .* scored outcomes give"),
    "category's error": (lambda e: bump(e, "mt_bench.math", "stderr", 0.1), "math: a standard error of"),
    "category's n": (lambda e: bump(e, "mt_bench.math", "n", 200), "math: n=213 and n_invalid=0, but"),
    "category without strata": (
        lambda e: e.update(strata={}, metrics=e["metrics"] | ratings(e, math=1.0)),
        "is not the mean of its categories",
    ),
    "strata": (lambda e: e["strata"]["mt_bench"].update({"0": "math"}), "a standard error of"),
    "strata of categories": (
        lambda e: e["metrics"].update(ratings(e)) or e["strata"]["mt_bench"].update({"0": "math"}),
        r"mt_bench\.\w+: .* scored outcomes give",
    ),
    "accuracy": (lambda e: bump(e, "heldout.pair_accuracy", "value", 0.01), "pair_accuracy: .* outcomes give"),
    "margin": (lambda e: bump(e, "heldout.margin", "value", 1.0), "margin: .* outcomes give"),
    "margin kept": (lambda e: bump(e, "heldout.margin_kept", "value", 0.02), "margin_kept: .* nats"),
    "margin of what was trained": (lambda e: bump(e, "heldout.trained_margin", "value", 0.1), "margin_kept: .* nats"),
    "margin kept of none": (lambda e: e["metrics"].pop("heldout.trained_margin"), "without heldout.trained_margin"),
    "margin kept of other pairs": (lambda e: bump(e, "heldout.margin_kept", "n", 1), "margin_kept: .* as many pairs"),
    "wins": (lambda e: bump(e, "alpaca_eval.wins", "value", 5), "wins: .* but its outcomes give"),
    "error": (lambda e: bump(e, "alpaca_eval.win_rate", "stderr", -2.0), "a standard error of"),
    "interval": (lambda e: e["metrics"]["heldout.margin"].update(ci95=[9.0, 9.5]), "interval of 9 to 9.5"),
    "narrow interval": (lambda e: narrow(e, "alpaca_eval.win_rate"), "an interval of"),
    "narrow share": (lambda e: narrow(e, "heldout.pair_accuracy"), "an interval of"),
    "turned interval": (lambda e: e["metrics"]["mt_bench.score"]["ci95"].reverse(), "ends before it begins"),
    "n": (lambda e: bump(e, "alpaca_eval.win_rate", "n", 765), "n=805 and n_invalid=0, but"),
    "n_invalid": (lambda e: bump(e, "mt_bench.score", "n_invalid", 7), "n_invalid=7, but"),
    "negative": (lambda e: e["metrics"]["alpaca_eval.wins"].update(n=-1), "negative count"),
    "no value": (lambda e: e["metrics"]["mt_bench.score"].update(value=None), "uncertainty without a value"),
    "probability of 7": (lambda e: e["outcomes"]["alpaca_eval"].update(q0=7), "q0: 7 is out of range"),
    "preference of 0": (lambda e: e["outcomes"]["alpaca_eval"].update(q0=0), "q0: 0 is out of range"),
    "rating of 99": (lambda e: e["outcomes"]["mt_bench"].update({"0/1": 99}), "0/1: 99 is out of range"),
    "rating of -1": (lambda e: e["outcomes"]["mt_bench"].update({"0/1": -1}), "0/1: -1 is out of range"),
    "1e308": (lambda e: e["outcomes"]["heldout"].update(p0=1e308), "is no outcome"),
    "one outcome": (lambda e: e["outcomes"]["alpaca_eval"].update(q0=1.777), "scored outcomes give"),
    "outcome as text": (lambda e: e["outcomes"]["alpaca_eval"].update(q0="1.5"), "valid number"),
    "outcome as truth": (lambda e: e["outcomes"]["alpaca_eval"].update(q0=True), "valid number"),
    "lost verdicts": (
        lambda e: [e["outcomes"]["alpaca_eval"].pop(f"q{i}") for i in range(9)],
        "its 31 scored outcomes give",
    ),
    "no outcomes": (lambda e: e["outcomes"].pop("mt_bench"), "without any outcomes of mt_bench"),
    "repeated": (lambda e: e["outcomes"]["alpaca_eval"].update(again=1.0), "its 41 scored outcomes give"),
    "tau of 3": (
        lambda e: e["metrics"].update({"heldout.kendall_tau": {"value": 3.0, "n": 9}}),
        "out of range, -1 to 1",
    ),
    "tau far from its interval": (
        lambda e: e["metrics"].update({"heldout.kendall_tau": {"value": 0.9, "ci95": [0.1, 0.2], "n": 9}}),
        "far from its interval",
    ),
    "huge": (lambda e: e["metrics"].update({"x.y": {"value": 1e300}}), "a figure beyond"),
    "long name": (lambda e: e["metrics"].update({"x" * 9999: {"value": 1.0}}), "a name of 9,999 characters"),
    "resamples": (lambda e: e["metrics"].update({"alpaca_eval.lc_win_rate": lc(50.0, 70.0)}), "its resamples give"),
    "LC interval": (
        lambda e: e["metrics"].update({"alpaca_eval.lc_win_rate": lc(50.0, None) | {"ci95": [49.0, 51.0]}}),
        "an interval that ends at 49, but its resamples give",
    ),
    "LC far off": (lambda e: e["metrics"].update({"alpaca_eval.lc_win_rate": lc(99.9, None)}), "its own resamples"),
}


def ratings(entry: dict[str, Any], **moved: float) -> dict[str, Any]:
    """The row's ratings, some of them moved. Without strata standard errors are those of all prompts: left out."""
    own = {name: m for name, m in entry["metrics"].items() if name.startswith("mt_bench")}
    return {
        name: m | {"stderr": None, "ci95": None, "value": m["value"] + moved.get(name.partition(".")[2], 0.0)}
        for name, m in own.items()
    }


def bump(entry: dict[str, Any], metric: str, field: str, by: float) -> None:
    entry["metrics"][metric][field] += by


def narrow(entry: dict[str, Any], metric: str) -> None:
    low, high = entry["metrics"][metric]["ci95"]
    entry["metrics"][metric]["ci95"] = [low + 0.3 * (high - low), high - 0.3 * (high - low)]


def lc(value: float, stderr: float | None) -> dict[str, Any]:
    return {"value": value, "stderr": stderr, "n": 40, "n_invalid": 0}


def test_the_share_of_the_margin_that_is_kept_in_a_board_json_alone() -> None:
    entry = measured(random.Random(0), 30, 0.1)
    row = BoardRow(id=entry.id, method=entry.method, metrics=entry.metrics)
    assert unreasonable(row) is None
    kept = entry.metrics["heldout.margin_kept"]
    wrong = row.model_copy(
        update={"metrics": {**row.metrics, "heldout.margin_kept": kept.model_copy(update={"value": 1.0})}}
    )
    assert "margin_kept: 1 is not" in str(unreasonable(wrong))


def test_a_policy_in_float32_keeps_its_margin() -> None:
    metrics = dict(measured(random.Random(0), 30, 0.1).metrics)
    del metrics["heldout.trained_margin"]
    counts = metrics["heldout.margin"].model_copy(update={"stderr": None, "ci95": None})
    for value, is_read in ((1.0, True), (None, True), (0.5, False)):
        metrics["heldout.margin_kept"] = counts.model_copy(update={"value": value})
        assert (unreasonable(BoardRow(id="a", method="m", metrics=metrics)) is None) == is_read


@pytest.mark.parametrize("name", EDITS)
def test_what_outcomes_contradict_is_refused(name: str, entry: Path) -> None:
    edit, said = EDITS[name]
    data = json.loads(entry.read_text())
    edit(data)
    entry.write_text(json.dumps(data))
    with pytest.raises(DataError, match=said) as refused:
        read_board(entry.parents[1])
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(str(entry))
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("spoilt", ["the board", "the baseline"])
def test_every_command_refuses(spoilt: str, entry: Path, tmp_path: Path) -> None:
    folder = entry.parents[1]
    baseline = folder / "baseline.json"
    file = entry if spoilt == "the board" else baseline
    data = json.loads(file.read_text())
    data.get("entry", data)["metrics"]["alpaca_eval.win_rate"]["value"] = 99.9
    file.write_text(json.dumps(data))
    commands = {
        "gate": ["gate", folder, "--baseline", baseline],
        "promote": ["baseline", "promote", folder],
        "show": ["show", folder],
        "report": ["report", folder],
        "merge": ["merge", folder, "-o", tmp_path / "both"],
    }
    for name, arguments in commands.items():
        done = CliRunner().invoke(app, list(map(str, arguments)))
        refused = isinstance(done.exception, DataError) and "win_rate: 99.9, but its 40 scored outcomes" in str(
            done.exception
        )
        assert refused == (spoilt == "the board" or name in ("gate", "promote")), (name, done.exception)
    assert not (tmp_path / "both").exists() or spoilt == "the baseline"


def test_without_outcomes_figures_are_marked_and_no_gate_takes_them(entry: Path, tmp_path: Path) -> None:
    alone = tmp_path / "board.json"
    alone.write_bytes((entry.parents[1] / "board.json").read_bytes())
    assert "dpo: without outcomes by prompt. These figures can't be checked" in drawn(alone, 200)
    assert "without outcomes" not in drawn(entry.parents[1], 200)
    for ways in (["--min", "1"], ["--baseline", str(entry.parents[1] / "baseline.json")]):
        done = CliRunner().invoke(app, ["gate", str(alone), *ways])
        assert done.exit_code == 2
        assert "has no outcomes by prompt" in done.output
    done = CliRunner().invoke(app, ["baseline", "promote", str(alone)])
    assert "has no outcomes by prompt: no gate could compare" in str(done.exception)
    data = json.loads(entry.read_text())
    data["provenance"]["public"] = "somewhere"
    del data["outcomes"]["mt_bench"]
    entry.write_text(json.dumps(data))
    assert "dpo: without outcomes by prompt" in drawn(entry.parents[1], 200)


def test_a_row_does_not_declare_what_the_harness_declares(tmp_path: Path) -> None:
    """A margin of a billion, and a win rate that follows from nothing."""
    new, old = board(tmp_path / "new", row("new", -6)), board(tmp_path / "old", OLD)
    path = new / "entries" / "new.json"
    data = json.loads(path.read_text())
    figure = {"metric": "alpaca_eval.win_rate", "group": "x", "title": "y", "margin": 1e9}
    path.write_text(json.dumps({**data, "figures": [figure | {"pairing": {"scale": 100, "offset": 1}}]}))
    assert CliRunner().invoke(app, ["gate", str(new), "--baseline", str(old)]).exit_code == 1
    data["metrics"]["alpaca_eval.win_rate"]["value"] = 99.9
    path.write_text(json.dumps({**data, "figures": [figure]}))
    with pytest.raises(DataError, match=r"99\.9, but its 400 scored"):
        read_board(new)


def test_of_a_benchmark_that_is_not_installed_values_must_follow_and_intervals_may_be_its_own(tmp_path: Path) -> None:
    figure = {"metric": "mine.score", "group": "Mine", "title": "score", "pairing": {"scale": 10}}
    values: dict[str, float | None] = {f"q{i}": i / 10 for i in range(10)}
    metric = Metric(value=4.5, stderr=0.1, ci95=(4.0, 5.0), n=10)
    mine = Entry(id="a", method="m", metrics={"mine.score": metric}, outcomes={"mine": values}, figures=(figure,))
    assert contradiction(mine) is None
    higher = metric.model_copy(update={"value": 4.8})
    assert "4.8, but its 10 scored" in str(contradiction(mine.model_copy(update={"metrics": {"mine.score": higher}})))
