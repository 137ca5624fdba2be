"""Figures that a row's outcomes contradict are refused, whichever figure it is and whoever reads the board; figures
that follow from them never are."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.benchmarks.mt_bench.verdicts import verdict_metrics
from harness.boards import comparisons
from harness.boards.consistency import contradiction
from harness.boards.entry import Entry
from harness.boards.read import boards_in, read_board
from harness.cli.app import app
from harness.errors import DataError
from harness.report.page import page
from harness.report.write import write_board
from harness.stats.intervals import accuracy_metric, mean_metric
from harness.types import Metric, Verdict
from tests.gate.rows import OLD, board, row
from tests.sample_boards import drawn

COMMITTED = sorted(path.parent for path in (Path(__file__).parents[2] / "leaderboards").glob("*/board.json"))
CATEGORIES = ("writing", "math", "coding", "an-own-one")


def measured(rng: random.Random, n: int, missing: float, pairwise: bool = False) -> Entry:
    """A row with figures of all kinds, computed from its outcomes as runs do."""

    def gone(value: float) -> float | None:
        return None if rng.random() < missing else value

    preferences = [gone(rng.choice([1.0, 1.5, 2.0, rng.uniform(1, 2)])) for _ in range(n)]
    verdicts = []
    for i in range(n):
        for sample, turn in ((s, t) for s in range(rng.choice([1, 2])) for t in (1, 2)):
            value = gone(rng.choice([0.0, 0.5, 1.0]) if pairwise else float(rng.randint(1, 10)))
            key = f"{i}#{sample}" if sample else str(i)
            verdicts.append(
                Verdict(question_id=key, turn=turn, category=CATEGORIES[i % (3 if n == 40 else 4)], value=value)
            )
    margins = [gone(rng.choice([0.0, rng.gauss(0, 3)])) for _ in range(n)]
    scored = [p for p in preferences if p is not None]
    won = mean_metric([None if p is None else p - 1 for p in preferences], scale=100)
    metrics = {
        "alpaca_eval.win_rate": won,
        **{f"mt_bench.{k}": m for k, m in verdict_metrics(verdicts, pairwise=pairwise).items()},
        "heldout.margin": mean_metric(margins),
        "heldout.pair_accuracy": accuracy_metric([None if m is None else (m > 0) + 0.5 * (m == 0) for m in margins]),
    }
    for name, of in {"wins": lambda p: p > 1.5, "draws": lambda p: p == 1.5, "losses": lambda p: p < 1.5}.items():
        value = float(sum(map(of, scored))) if scored else None
        metrics[f"alpaca_eval.{name}"] = Metric(value=value, n=won.n, n_invalid=won.n_invalid)
    return Entry(
        id="dpo",
        method="sdpo",
        metrics=metrics,
        provenance={"benchmarks": {"mt_bench": {"mode": "pairwise"} if pairwise else {}, "alpaca_eval": {}}},
        outcomes={
            "alpaca_eval": {f"q{i}": p for i, p in enumerate(preferences)},
            "mt_bench": {v.key: v.value for v in verdicts},
            "heldout": {f"p{i}": m for i, m in enumerate(margins)},
        },
    )


@pytest.mark.parametrize("pairwise", [False, True])
@pytest.mark.parametrize("missing", [0, 0.2, 1])
@pytest.mark.parametrize("n", [1, 2, 5, 30])
def test_what_follows_from_outcomes_is_read(n: int, missing: float, pairwise: bool) -> None:
    for seed in range(3):
        assert contradiction(measured(random.Random(seed), n, missing, pairwise)) is None


def test_figures_rounded_to_what_tables_show_are_read() -> None:
    entry = measured(random.Random(0), 30, 0.1)
    rounded = {}
    for name, m in entry.metrics.items():
        places = 1 if name == "alpaca_eval.win_rate" else 2 if name.startswith("mt") else 4
        ends = m.ci95 and (round(m.ci95[0], places), round(m.ci95[1], places))
        stderr = None if m.stderr is None else round(m.stderr, places)
        rounded[name] = m.model_copy(update={"value": round(m.value or 0, places), "stderr": stderr, "ci95": ends})
    assert contradiction(entry.model_copy(update={"metrics": rounded})) is None


@pytest.mark.parametrize("folder", COMMITTED, ids=[path.name for path in COMMITTED])
def test_committed_boards_are_read_and_their_comparisons_are_right(folder: Path, monkeypatch: Any) -> None:
    opened = read_board(folder)
    monkeypatch.setattr(comparisons, "paired_comparisons", lambda rows: pytest.fail("computed anew"))
    assert opened.comparisons == opened.listed


Edit = Callable[[dict[str, Any]], object]
EDITS: dict[str, tuple[Edit, str]] = {
    "win rate": (
        lambda e: e["metrics"]["alpaca_eval.win_rate"].update(value=99.9, ci95=None),
        "99.9, but its 40 scored",
    ),
    "win rate, a little": (lambda e: bump(e, "alpaca_eval.win_rate", "value", 0.2), "but its 40 scored outcomes give"),
    "score": (lambda e: bump(e, "mt_bench.score", "value", -0.05), "scored outcomes give"),
    "turn": (lambda e: bump(e, "mt_bench.turn_2", "value", 0.5), "turn_2: .* scored outcomes give"),
    "category": (lambda e: bump(e, "mt_bench.math", "n", 200), "is not the mean of its categories"),
    "accuracy": (lambda e: bump(e, "heldout.pair_accuracy", "value", 0.01), "pair_accuracy: .* outcomes give"),
    "margin": (lambda e: bump(e, "heldout.margin", "value", 1.0), "margin: .* outcomes give"),
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


def bump(entry: dict[str, Any], metric: str, field: str, by: float) -> None:
    entry["metrics"][metric][field] += by


def narrow(entry: dict[str, Any], metric: str) -> None:
    low, high = entry["metrics"][metric]["ci95"]
    entry["metrics"][metric]["ci95"] = [low + 0.3 * (high - low), high - 0.3 * (high - low)]


def lc(value: float, stderr: float | None) -> dict[str, Any]:
    return {"value": value, "stderr": stderr, "n": 40, "n_invalid": 0}


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    """The entry's file of a board with one row and a baseline."""
    made = measured(random.Random(0), 40, 0)
    drawn_at_random = [round(random.Random(i).gauss(50, 2), 4) for i in range(50)]
    made = made.model_copy(update={"resamples": {"alpaca_eval.lc_win_rate": drawn_at_random}})
    write_board(tmp_path / "board", "board", [made])
    assert CliRunner().invoke(app, ["baseline", "promote", str(tmp_path / "board")]).exit_code == 0
    return tmp_path / "board" / "entries" / "dpo.json"


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


@pytest.mark.parametrize(
    "bare", ["NaN", "1e999", "-Infinity", '"1.5"', '1.5, "q0": 1.5', "[" * 999 + "]" * 999, "9" * 99]
)
def test_numbers_that_json_does_not_know_are_refused(bare: str, entry: Path) -> None:
    entry.write_text(entry.read_text().replace('"q0": ', f'"q0": {bare}, "q00": ', 1))
    with pytest.raises(DataError, match=r"dpo\.json"):
        read_board(entry.parents[1])


@pytest.mark.parametrize("kind", ["FIFO", "device", "secret", "nowhere", "folder", "sparse"])
@pytest.mark.parametrize("file", ["entries/dpo.json", "board.json", "entries"])
def test_what_is_no_file_of_the_boards_own_ends_in_a_line(kind: str, file: str, entry: Path, tmp_path: Path) -> None:
    path = entry.parents[1] / file
    path.rename(tmp_path / "kept")
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "sparse":
        with path.open("wb") as large:
            large.truncate(100 << 20)
    else:
        path.symlink_to({"device": Path("/dev/zero"), "secret": tmp_path / "kept", "nowhere": Path("/none")}[kind])
    with pytest.raises(DataError, match=r"can't be read|is not a board"):
        read_board(entry.parents[1])


def test_a_board_may_itself_be_a_link(entry: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(entry.parents[1])
    (tmp_path / "linked.json").symlink_to(entry.parents[1] / "board.json")
    assert read_board(tmp_path / "latest").entries == read_board(entry.parents[1]).entries
    assert read_board(tmp_path / "linked.json").entries == read_board(entry.parents[1]).entries


# --- comparisons, seeds and declarations beside the rows


def test_another_boards_comparisons_are_computed_anew(tmp_path: Path) -> None:
    one = board(tmp_path / "one", row("a", 0, 40), row("b", 0.5, 40), row("c", 1, 40))
    two = board(tmp_path / "two", row("a", 0, 40), row("b", 20, 40), row("c", 40, 40))
    right = read_board(one).comparisons
    shown, html = drawn(one, 200), page(one)
    file = json.loads((one / "board.json").read_text())
    file["comparisons"] = json.loads((two / "board.json").read_text())["comparisons"]
    (one / "board.json").write_text(json.dumps(file))
    assert read_board(one).listed != right
    assert {m: list(map(tuple, cs)) for m, cs in read_board(one).comparisons.items()} == {
        m: list(map(tuple, cs)) for m, cs in right.items()
    }
    assert drawn(one, 200) == shown
    assert page(one) == html


@pytest.mark.parametrize(
    "field", ["difference", "stderr", "unpaired_stderr", "p", "adjusted_p", "detectable", "prompts"]
)
def test_a_comparison_that_was_changed_is_computed_anew(field: str, tmp_path: Path) -> None:
    folder = board(tmp_path / "one", row("a", 0, 60), row("b", 3, 60), row("c", -2, 60))
    right = read_board(folder).comparisons
    file = json.loads((folder / "board.json").read_text())
    for pair in file["comparisons"]["alpaca_eval.win_rate"]:
        pair[field] = pair[field] * 2 + 1
    (folder / "board.json").write_text(json.dumps(file))
    assert read_board(folder).comparisons == {name: tuple(pairs) for name, pairs in right.items()}


def test_the_entries_count_where_board_json_says_something_else(entry: Path) -> None:
    path = entry.parents[1] / "board.json"
    file = json.loads(path.read_text())
    file["rows"][0]["metrics"]["alpaca_eval.win_rate"]["value"] = 99.9
    path.write_text(json.dumps(file))
    assert read_board(entry.parents[1]).entries[0].value("alpaca_eval.win_rate") != 99.9


def test_a_row_twice_is_refused(entry: Path) -> None:
    (entry.parent / "copy.json").write_bytes(entry.read_bytes())
    (entry.parents[1] / "board.json").unlink()
    with pytest.raises(DataError, match="row 'dpo' is there twice"):
        read_board(entry.parents[1])


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


def test_a_folder_of_boards_lists_them(tmp_path: Path) -> None:
    made = [board(tmp_path / name, row("a", 0, 20)) for name in ("one", "two")]
    (tmp_path / "notes.txt").write_text("x")
    assert boards_in(tmp_path) == made
    assert boards_in(made[0]) == []
    done = CliRunner().invoke(app, ["show", str(tmp_path)])
    assert (done.exit_code, done.output.split()) == (0, [str(path) for path in made])
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert f"holds 2 boards; name one of them: {made[0]}, {made[1]}" in str(done.exception)
