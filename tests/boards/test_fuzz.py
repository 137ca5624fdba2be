"""A thousand spoilt and forged boards, with five commands each: no traceback, no hanging, and no figure that its own
outcomes contradict. What follows from outcomes is computed here by formulas of their own."""

import csv
import json
import math
import random
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from harness.cli.start import main
from harness.gate.baseline import promote
from harness.gate.margins import Check
from harness.report.write import write_board
from harness.stats.intervals import mean_metric
from harness.types import Metric
from tests.boards.mutants import mutate
from tests.gate.rows import row
from tests.sample_boards import seed_row, with_provenance

MUTANTS, SHARDS = 1000, 8
COMMITTED = Path(__file__).parents[2] / "leaderboards"


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A committed board, and one with resamples, training seeds, and a benchmark that is not installed."""
    folder = tmp_path_factory.mktemp("boards")
    for name in ("quickstart", "orca-smollm2"):
        shutil.copytree(COMMITTED / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("*.svg", "*.png"))
        promote(folder / name, "dpo", None, Check(allow=True))
    made = []
    for i, name in enumerate(("base", "dpo", "other")):
        one = row(name, i, 30)
        drawn = [50 + i + random.Random(k).gauss(0, 5) for k in range(60)]
        drawn = [round(x, 4) for x in drawn]
        spread = (fmean((x - fmean(drawn)) ** 2 for x in drawn) * 60 / 59) ** 0.5
        lc = Metric(value=50.0 + i, stderr=spread, n=30)
        metrics = {**one.metrics, "alpaca_eval.lc_win_rate": lc, "mine.score": mean_metric([1.0, 2.0])}
        figure = {"metric": "mine.score", "group": "Mine", "title": "score", "pairing": {}, "compared": True}
        changed = one.model_copy(
            update={"metrics": metrics, "resamples": {"alpaca_eval.lc_win_rate": drawn}}
        ).model_dump(mode="json")
        made.append(
            type(one).model_validate(
                {**changed, "figures": [figure], "outcomes": {**changed["outcomes"], "mine": {"a": 1.0, "b": 2.0}}}
            )
        )
    made += [with_provenance(seed_row("s", k, {}), "data") for k in (0, 1)]
    write_board(folder / "own", "own", made)
    promote(folder / "own", "dpo", None, Check(allow=True))
    return sorted(folder.iterdir())


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    yield
    signal.alarm(0)
    for number, handler in before.items():
        signal.signal(number, handler)


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """(exit code, output, errors) of a command that is run in this process."""
    sys.argv = ["harness", *arguments]
    signal.alarm(60)
    with pytest.raises(SystemExit) as ended:
        main()
    signal.alarm(0)
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


@pytest.mark.slow
@pytest.mark.parametrize("shard", [0, *(pytest.param(n, marks=pytest.mark.soak) for n in range(1, SHARDS))])
def test_spoilt_boards_end_in_one_line_or_in_right_figures(
    shard: int, boards: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    wrong = []
    for number in range(shard, MUTANTS, SHARDS):
        rng = random.Random(number)
        board, out = tmp_path / "board", tmp_path / "merged"
        source = boards[number % len(boards)]
        shutil.copytree(source, board)
        done = mutate(board, rng)
        metric = rng.choice(["alpaca_eval.win_rate", "mt_bench.score", "heldout.margin", "alpaca_eval.lc_win_rate"])
        gate = ("gate", str(board), "--baseline", str(board / "baseline.json"), "--row", "dpo", "--metric", metric)
        results = {
            "show": command(capsys, "show", str(board)),
            "merge": command(capsys, "merge", str(board), "-o", str(out)),
            "gate": command(capsys, *gate),
            "promote": command(
                capsys, "baseline", "promote", str(board), "--row", "dpo", "-o", str(tmp_path / "b.json")
            ),
            "report": command(capsys, "report", str(board)),
        }
        wrong += [f"{number} {done}: {name}: {problem}" for name, problem in problems(results, board, out)]
        for folder in (board, out):
            shutil.rmtree(folder, ignore_errors=True)
        (tmp_path / "b.json").unlink(missing_ok=True)
    assert not wrong, "\n".join(wrong)


def problems(results: dict[str, tuple[int, str, str]], board: Path, out: Path) -> Iterator[tuple[str, str]]:
    """(command, what is wrong with its end)."""
    for name, (code, printed, errors) in results.items():
        if code not in ((0, 1, 2, 3) if name == "gate" else (0, 2)):
            yield name, f"exit code {code}"
        if "Traceback" in printed + errors or "should not occur" in errors:
            yield name, errors[-400:]
        if code == 2 and (errors.count("\n") != 1 or not errors.startswith("harness")):
            yield name, f"not one line: {errors[:300]!r}"
        if "\x1b" in printed + errors or "\n::" in printed + errors:
            yield name, "raw control characters or a CI command"
    if results["merge"][0] == 0:
        entries = {e["id"]: e for e in (_json(f) for f in (out / "entries").iterdir())}
        yield from (("merge", text) for text in contradictions(entries))
        with (out / "comparisons.csv").open(encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        yield from (("merge", text) for text in wrong_comparisons(lines, entries))
        if results["show"][0] == 0:
            yield from (("show", text) for text in not_shown(results["show"][1], entries, lines))
    if results["gate"][0] in (0, 1, 3) and "95 % CI" in results["gate"][1]:
        yield from (("gate", text) for text in wrong_gate(results["gate"][1], board))


def _json(path: Path) -> Any:
    data = path.read_bytes()
    return json.loads(data.decode("utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"))


def derived(outcomes: dict[str, dict[str, float | None]]) -> dict[str, float]:
    """What outcomes say of the figures that follow from them."""

    def mean(group: str, of: Any, turn: str = "") -> float:
        by_question: dict[str, list[float]] = {}
        for key, value in outcomes.get(group, {}).items():
            if value is not None and (not turn or key.split("/")[1:2] == [turn]):
                question, slash, number = key.partition("/")
                by_question.setdefault(question.split("#")[0] + slash + number, []).append(value)
        return fmean(of(fmean(values)) for values in by_question.values()) if by_question else math.nan

    def sign(x: float) -> float:
        return 0.5 + (x > 0) / 2 - (x < 0) / 2

    return {
        "alpaca_eval.win_rate": mean("alpaca_eval", lambda x: 100 * (x - 1)),
        "alpaca_eval.discrete_win_rate": mean("alpaca_eval", lambda x: 100 * sign(x - 1.5)),
        "mt_bench.score": mean("mt_bench", float),
        "mt_bench.turn_1": mean("mt_bench", float, "1"),
        "mt_bench.turn_2": mean("mt_bench", float, "2"),
        "heldout.margin": mean("heldout", float),
        "heldout.pair_accuracy": mean("heldout", sign),
        "mine.score": mean("mine", float),
    }


def contradictions(entries: dict[str, Any]) -> Iterator[str]:
    for row_id, entry in entries.items():
        values = derived(entry["outcomes"])
        for name, metric in entry["metrics"].items():
            value, count = metric["value"], metric["n"]
            if name in values and not math.isnan(values[name]) and value is None:
                yield f"{row_id} {name} has no value"
            elif name in values and value is not None and not abs(value - values[name]) < 0.051:
                yield f"{row_id} {name} is {value}, outcomes say {values[name]}"
            if name in ("alpaca_eval.win_rate", "heldout.margin", "alpaca_eval.lc_win_rate"):
                scored = [x for x in entry["outcomes"].get(name.split(".")[0], {}).values() if x is not None]
                if not any("#" in k for k in entry["outcomes"].get(name.split(".")[0], {})) and count != len(scored):
                    yield f"{row_id} {name} has n={count}, outcomes {len(scored)}"
            # Wilson's interval of a share near 0 or 1 is not symmetric, and few prompts have wider ones.
            shared = "accuracy" in name or name.startswith("mine")
            if value is not None and metric["ci95"] and name in values and metric["stderr"] and not shared:
                low, high = metric["ci95"]
                reach = 4 * metric["stderr"] + 4 * (10 if name.startswith("mt_bench") else 100) / count + 1e-6
                if not value - reach <= low <= high <= value + reach:
                    yield f"{row_id} {name} is {value} in {low} to {high}"
        bad = [x for x in entry["outcomes"].get("alpaca_eval", {}).values() if x is not None and not 1 <= x <= 2]
        if bad and "alpaca_eval.win_rate" in entry["metrics"]:
            yield f"{row_id} has preferences {bad}"


def wrong_comparisons(lines: list[dict[str, str]], entries: dict[str, Any]) -> Iterator[str]:
    for line in lines:
        first, second = (derived(entries[line[side]]["outcomes"]) for side in ("first", "second"))
        name = line["metric"]
        if line["left_out"] == "0" and name in first and name != "heldout.pair_accuracy":
            difference = first[name] - second[name]
            if abs(difference - float(line["difference"])) > 1e-6:
                yield f"{name} of {line['first']} and {line['second']}: {line['difference']}, outcomes say {difference}"


def not_shown(printed: str, entries: dict[str, Any], lines: list[dict[str, str]]) -> Iterator[str]:
    """Win rates and numbers of differences that the terminal does not show as the outcomes give them."""
    words = " ".join(printed.split())
    for name in {line["metric"] for line in lines} if all(entry["outcomes"] for entry in entries.values()) else ():
        pairs = [line for line in lines if line["metric"] == name]
        real = sum(float(line["adjusted_p"]) < 0.05 for line in pairs)
        if f"{real} of {len(pairs)} pair{'s of rows differ' if len(pairs) > 1 else ' of rows differs'}" not in words:
            yield f"{name}: {real} of {len(pairs)} pairs differ, which is not shown"
    for row_id, entry in entries.items():
        value = derived(entry["outcomes"])["alpaca_eval.win_rate"]
        if "alpaca_eval.win_rate" in entry["metrics"] and not math.isnan(value):
            near = {f"{value + x:.1f}" for x in (-0.05, 0, 0.05)}
            if not any(text in printed for text in near):
                yield f"{row_id}: {value:.1f} is not shown"


def wrong_gate(printed: str, board: Path) -> Iterator[str]:
    """A difference in the gate's line that the two rows' outcomes don't give."""
    told = re.search(r"([a-z_]+\.[a-z_]+) ([+−]?[\d.]+)[^:]* \(95 % CI", " ".join(printed.split()))
    assert told, printed
    name, shown = told[1], float(told[2].replace("−", "-"))
    mine, theirs = _json(board / "entries" / "dpo.json"), _json(board / "baseline.json")["entry"]
    difference = derived(mine["outcomes"]).get(name, math.nan) - derived(theirs["outcomes"]).get(name, math.nan)
    if not math.isnan(difference) and abs(difference - shown) > 0.051:
        yield f"{name} differs by {shown}, outcomes say {difference}"
