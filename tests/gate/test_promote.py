"""Baselines: what is promoted, its anchor and its history; and that small losses don't add up."""

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.boards.entry import Entry
from harness.cli.app import app
from harness.errors import DataError
from harness.gate.ask import ask
from harness.gate.baseline import is_drift, power_of_equal, promote
from harness.gate.check import INCONCLUSIVE, PASS, REFUSED, WORSE, run_gate
from harness.gate.margins import Check
from harness.gate.record import Baseline, read_baseline
from harness.stats.bounds import mean_of
from harness.stats.noninferiority import non_inferiority
from tests.gate.rows import OLD, N, board, measured, row, without
from tests.sample_boards import LOCAL, with_provenance


def read(path: Path) -> Baseline:
    found = read_baseline(path)
    assert isinstance(found, Baseline)
    return found


def test_a_promoted_row_is_the_baseline_with_its_history(tmp_path: Path) -> None:
    folder = board(tmp_path / "new", OLD, row("new", 0), row("newer", 1))
    runner = CliRunner()
    for name in ("old", "new", "newer"):
        done = runner.invoke(app, ["baseline", "promote", str(folder), "--row", name])
        assert done.exit_code == 0, done.output
    found = read(folder / "baseline.json")
    assert (found.entry.id, found.anchor, [line.row for line in found.history]) == (
        "newer",
        OLD,
        ["old", "new", "newer"],
    )
    assert [line.anchor for line in found.history] == [True, False, False]
    assert found.history[0].figures["alpaca_eval.win_rate"] == OLD.value("alpaca_eval.win_rate")
    assert found.history[2].at == found.at
    assert found.history[2].by == found.by
    with pytest.raises(DataError, match="is not a baseline, so it is not replaced"):
        promote(folder, "new", folder / "board.json")


def test_what_no_gate_could_use_is_not_promoted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="30 of 400 verdicts of alpaca_eval are missing"):
        promote(board(tmp_path / "holes", without(OLD, 30, none=True)), None, None)
    promote(board(tmp_path / "few", without(OLD, 3, none=True)), None, None)
    flagged = with_provenance(OLD, guards={"row": [{"name": "x", "text": "it speaks to the judge"}]})
    folder = board(tmp_path / "flagged", flagged)
    with pytest.raises(DataError, match="is flagged: it speaks to the judge; --allow promotes it"):
        promote(folder, None, None)
    assert "allowed: flagged: it speaks to the judge" in promote(folder, None, None, Check(allow=True)).lines
    assert read(folder / "baseline.json").history[-1].allowed == ("flagged: it speaks to the judge",)


def test_a_worse_row_is_promoted_only_when_that_is_allowed(tmp_path: Path) -> None:
    folder = board(tmp_path / "x", OLD, row("bad", -5))
    path = promote(folder, "old", None).path
    with pytest.raises(
        DataError, match=r"by alpaca_eval\.win_rate it is worse than the baseline that it replaces, 'old'"
    ):
        promote(folder, "bad", None)
    assert read(path).entry == OLD
    done = CliRunner().invoke(app, ["baseline", "promote", str(folder), "--row", "bad", "--allow-worse"])
    assert done.exit_code == 0, done.output
    assert "is worse than the baseline" in read(path).history[-1].allowed[0]
    # Its anchor is still the first: a gate compares with both.
    result = ask(folder, path, Check(), "bad", None)
    assert result.code == WORSE
    assert result.reason.startswith("against the anchor old: alpaca_eval.win_rate −")
    assert "worse than the anchor by more than allowed" in result.reason
    assert "not worse than allowed" in result.reason
    assert ask(folder, path, Check(anchor_margin=9), "bad", None).code == PASS
    assert ask(folder, path, Check(anchor_margin=4.9), "bad", None).code == INCONCLUSIVE


def test_a_new_anchor_begins_anew(tmp_path: Path) -> None:
    other = with_provenance(row("other", 0), judge={**LOCAL, "model": "other"})
    folder, changed = board(tmp_path / "x", OLD), board(tmp_path / "y", other)
    path = promote(folder, "old", None).path
    with pytest.raises(DataError, match=r"different judge.*--new-anchor begins anew"):
        promote(changed, "other", path)
    promote(changed, "other", path, new_anchor=True)
    found = read(path)
    assert found.other_anchor is None
    assert [line.anchor for line in found.history] == [True, True]


def test_thirty_promotions_of_half_a_point_stop_early(tmp_path: Path) -> None:
    """Each passes its gate against the one before; without an anchor the last would be 15 points worse."""
    rows = [row(f"r{k}", -0.5 * k) for k in range(12)]
    folder = board(tmp_path / "x", *rows)
    path = tmp_path / "baseline.json"
    promoted = 0

    def promote_all() -> None:
        nonlocal promoted
        for entry in rows:
            promote(folder, entry.id, path)
            promoted += 1

    with pytest.raises(DataError, match="the anchor, 'r0'"):
        promote_all()
    assert 2 <= promoted <= 6
    assert run_gate(rows[promoted], read(path).entry, Check(margin=3)).code == PASS


@pytest.mark.parametrize("n", [40, 80, 805])
def test_drift_stops_long_before_seven_points_however_noisy_verdicts_are(n: int) -> None:
    rng = random.Random(n)
    losses = []
    for _ in range(15 if n < 100 else 5):
        quality = [rng.gauss(0.5, 0.25) for _ in range(n)]

        def drawn(k: int, quality: list[float] = quality) -> Entry:
            won = [min(2.0, max(1.0, 1 + q - 0.005 * k + rng.gauss(0, 0.15))) for q in quality]
            outcomes: dict[str, Any] = {
                "alpaca_eval": {f"q{i}": w for i, w in enumerate(won)},
                "mt_bench": {"1/1": 5.0},
            }
            return OLD.model_copy(update={"id": f"r{k}", "outcomes": outcomes, "metrics": measured(outcomes)})

        anchor = current = drawn(0)
        for k in range(1, 31):
            new = drawn(k)
            result = run_gate(new, current, Check(), anchor if current is not anchor else None)
            if any(is_drift(t) for t in (result.tested, result.drift) if t is not None):
                break
            current = new
        losses.append(0.5 * (k - 1))
    assert max(losses) < 7
    assert sum(losses) / len(losses) < 4


def test_baselines_of_earlier_versions_are_read(tmp_path: Path) -> None:
    folder = board(tmp_path / "x", OLD, row("new", 0))
    path = promote(folder, "old", None).path
    plain = json.loads(path.read_text())
    before = {"row": "ancient", "by": "somebody", "at": "2026-01-01T00:00:00+00:00", "commit": None}
    old = {key: plain[key] for key in ("board", "by", "at", "commit", "entry")} | {"before": before}
    path.write_text(json.dumps(old))
    assert ask(folder, path, Check(), "new", None).code == PASS
    promote(folder, "new", None)
    found = read(path)
    assert (found.anchor, [line.row for line in found.history]) == (OLD, ["ancient", "old", "new"])
    path.write_text(json.dumps(old | {"before": None}))
    promote(folder, "new", None)
    assert [line.row for line in read(path).history] == ["old", "new"]


def test_a_number_that_is_none_in_a_file_is_one_line(tmp_path: Path) -> None:
    folder = board(tmp_path / "x", OLD, row("new", 0))
    path = promote(folder, "old", None).path
    value = json.loads(path.read_text())["entry"]["metrics"]["alpaca_eval.win_rate"]["value"]
    path.write_text(path.read_text().replace(str(value), "NaN"))
    done = CliRunner().invoke(app, ["gate", str(folder), "--baseline", str(path), "--row", "new"])
    assert isinstance(done.exception, DataError)
    assert str(path) in str(done.exception)


def test_the_power_that_is_promised_is_the_power_there_is(tmp_path: Path) -> None:
    rng = random.Random(1)
    n, sd, margin = 200, 20.0, 4.0
    seen = mean_of([rng.gauss(0, sd) for _ in range(n)], 100.0)
    promised = power_of_equal(seen._replace(stderr=sd / n**0.5), margin, 0.05)
    outcomes = [
        non_inferiority(mean_of([rng.gauss(0, sd) for _ in range(n)], 100.0), margin, 0.05).outcome for _ in range(1500)
    ]
    assert outcomes.count("not worse") / 1500 == pytest.approx(promised, abs=0.05)
    folder = board(tmp_path / "x", OLD, row("new", 0))
    (line,) = promote(folder, "old", None).lines
    assert re.fullmatch(
        rf"with these {N} prompts a gate on alpaca_eval\.win_rate at margin 2 points passes an equal row with "
        r"\d+ % power \(one-sided 95 % bound; if the two rows' values correlate at 0.5\)",
        line,
    )
    assert "by the differences to the row that it replaces" in promote(folder, "new", None).lines[-1]


def test_a_row_without_the_usual_figure_goes_by_its_own(tmp_path: Path) -> None:
    only = {"mt_bench": OLD.outcomes["mt_bench"]}
    metrics = {name: metric for name, metric in OLD.metrics.items() if name.startswith("mt_bench")}
    folder = board(tmp_path / "x", OLD.model_copy(update={"outcomes": only, "metrics": metrics}))
    assert "at margin 0.2" in promote(folder, None, None).lines[-1]
    with pytest.raises(DataError, match=r"it has no alpaca_eval\.win_rate that a gate tests"):
        promote(folder, None, None, Check(metric="alpaca_eval.win_rate"))


def test_an_anchor_that_can_not_be_compared_is_no_pass() -> None:
    anchor = with_provenance(OLD, judge={**LOCAL, "model": "other"})
    result = run_gate(row("new", 0), OLD, Check(), anchor)
    assert (result.code, result.reason.startswith("the anchor: different judge")) == (REFUSED, True)
