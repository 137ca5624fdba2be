"""The board on disk, as Markdown, as CSV and in the terminal."""

import csv
import html
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from harness.errors import DataError, StoreError
from harness.leaderboard import Entry, read_board, terminal_table, write_board
from harness.types import Metric

LOCAL = {"name": "local", "model": {"model": "smollm2-135m-instruct", "sha256": "ab" * 32}}
BENCHMARKS = {"alpaca_eval": {"prompts": "builtin", "sha256": "cd" * 32}, "mt_bench": {"questions": "builtin"}}


def metric(value: float, half: float = 1.0, n: int = 30, n_invalid: int = 0) -> Metric:
    return Metric(value=value, stderr=half / 2, ci95=(value - half, value + half), n=n, n_invalid=n_invalid)


def entry(row: str, method: str, metrics: dict[str, Metric] | None = None, **provenance: Any) -> Entry:
    figures = {
        "alpaca_eval.win_rate": metric(53.125, 5.0625),
        "mt_bench.score": metric(5.25, 0.5),
        "mt_bench.math": Metric(value=4.5, n=4),
        "heldout.kendall_tau": metric(0.0625, 0.125, n=12),
    }
    return Entry(
        id=row,
        method=method,
        metrics=figures if metrics is None else metrics,
        provenance={"judge": LOCAL, "judge_calibration": "uncalibrated", "benchmarks": BENCHMARKS, **provenance},
        outcomes={"alpaca_eval": {"q1": 0.5, "q2": None}, "mt_bench": {"81/1": 5.0}, "heldout": {"p1": -0.25}},
    )


def four_rows() -> list[Entry]:
    return [
        entry("base", "base"),
        entry("dpo", "dpo_best_worst"),
        entry("dpo-adjacent", "dpo_adjacent"),
        entry("multi-dpo", "mdpo_linear"),
    ]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def markdown_tables(text: str) -> list[list[list[str]]]:
    """Every pipe table of a Markdown text as rows of cells, character references resolved; the rule row left out."""
    tables: list[list[list[str]]] = []
    inside = False
    for line in text.split("\n"):
        if line.startswith("|"):
            if not inside:
                tables.append([])
            cells = [html.unescape(cell.strip(" ")) for cell in line.strip("|").split("|")]
            if not all(set(cell) <= {"-", ":"} for cell in cells):
                tables[-1].append(cells)
        inside = line.startswith("|")
    return tables


def drawn(folder: Path, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(terminal_table(read_board(folder)))
    return console.file.getvalue()  # type: ignore[attr-defined]


# --- on disk


@pytest.mark.parametrize("where", [".", "board.json"])
def test_round_trip_keeps_rows_and_order(tmp_path: Path, where: str) -> None:
    rows = [entry("zeta", "base"), entry("alpha", "dpo_adjacent", seed=3)]
    assert write_board(tmp_path, "quickstart", rows) == tmp_path / "board.json"
    board = read_board(tmp_path / where)
    assert (board.name, list(board.entries)) == ("quickstart", rows)
    assert board.generated is not None


def test_entries_alone_are_a_board(tmp_path: Path) -> None:
    folder = tmp_path / "quickstart"
    write_board(folder, "quickstart", [entry("zeta", "base"), entry("beta", "sdpo"), entry("alpha", "nca")])
    (folder / "board.json").unlink()
    for path in (folder, folder / "entries"):
        board = read_board(path)
        assert (board.name, [e.id for e in board.entries]) == ("quickstart", ["zeta", "alpha", "beta"])


def test_board_json_alone_has_rows_without_outcomes(tmp_path: Path) -> None:
    path = write_board(tmp_path / "a", "quickstart", four_rows())
    alone = tmp_path / "board.json"
    alone.write_bytes(path.read_bytes())
    board = read_board(alone)
    assert [e.metrics for e in board.entries] == [e.metrics for e in four_rows()]
    assert all(e.outcomes == {} for e in board.entries)


def test_board_json_has_the_names_that_other_work_reads(tmp_path: Path) -> None:
    data = json.loads(write_board(tmp_path, "quickstart", four_rows()).read_text())
    assert set(data) == {"board", "generated", "rows"}
    assert [row["id"] for row in data["rows"]] == ["base", "dpo", "dpo-adjacent", "multi-dpo"]
    assert set(data["rows"][1]) == {"id", "method", "metrics", "provenance"}
    win_rate = {"value": 53.125, "stderr": 2.53125, "ci95": [48.0625, 58.1875], "n": 30, "n_invalid": 0}
    assert data["rows"][1]["metrics"]["alpaca_eval.win_rate"] == win_rate


def test_writing_the_same_again_changes_no_byte(tmp_path: Path) -> None:
    path = write_board(tmp_path, "quickstart", four_rows())
    long_ago = path.read_text().replace(json.loads(path.read_text())["generated"], "2001-02-03T04:05:06+00:00")
    path.write_text(long_ago)
    before = contents(tmp_path)
    write_board(tmp_path, "quickstart", four_rows())
    assert contents(tmp_path) == before


@pytest.mark.parametrize("change", ["metric", "outcome", "row", "order"])
def test_any_change_is_a_new_board(tmp_path: Path, change: str) -> None:
    path = write_board(tmp_path, "quickstart", four_rows())
    path.write_text(path.read_text().replace(json.loads(path.read_text())["generated"], "2001-02-03T04:05:06+00:00"))
    rows = four_rows()
    if change == "metric":
        rows[1].metrics["mt_bench.score"] = metric(5.5)
    elif change == "outcome":
        rows[1].outcomes["alpaca_eval"]["q2"] = 1.0
    elif change == "row":
        del rows[1]
    else:
        rows.reverse()
    write_board(tmp_path, "quickstart", rows)
    board = read_board(tmp_path)
    assert board.generated != "2001-02-03T04:05:06+00:00"
    assert list(board.entries) == rows


def test_markdown_and_csv_hold_no_time(tmp_path: Path) -> None:
    write_board(tmp_path / "a", "quickstart", [entry("dpo", "sdpo", training={"steps": 4, "seconds": 12.5})])
    write_board(tmp_path / "b", "quickstart", [entry("dpo", "sdpo", training={"steps": 4, "seconds": 99.75})])
    for name in ("board.md", "board.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_rows_that_left_the_run_leave_the_folder(tmp_path: Path) -> None:
    write_board(tmp_path, "quickstart", four_rows())
    write_board(tmp_path, "quickstart", four_rows()[:2])
    assert sorted(p.name for p in (tmp_path / "entries").iterdir()) == ["base.json", "dpo.json"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
@pytest.mark.parametrize("call", range(1, 8))
def test_a_write_that_fails_leaves_a_readable_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, call: int
) -> None:
    write_board(tmp_path, "quickstart", four_rows())
    before = contents(tmp_path)
    changed = [e.model_copy(update={"metrics": {"mt_bench.score": metric(9)}}) for e in four_rows()]
    real, calls = getattr(os, failing), []

    def full_disk(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == call:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(os, failing, full_disk)
    with pytest.raises(StoreError, match="No space left on device"):
        write_board(tmp_path, "quickstart", changed)
    assert [e.id for e in read_board(tmp_path).entries] == [e.id for e in four_rows()]
    assert not list(tmp_path.rglob("*.tmp"))
    if failing == "fsync":
        assert contents(tmp_path) == before
    monkeypatch.undo()
    write_board(tmp_path, "quickstart", changed)
    assert list(read_board(tmp_path).entries) == changed


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", ["metric", "interval", "outcome", "provenance"])
def test_what_is_not_finite_is_never_written(tmp_path: Path, bad: float, place: str) -> None:
    row = entry("dpo", "sdpo")
    if place == "metric":
        row.metrics["mt_bench.score"] = Metric(value=bad)
    elif place == "interval":
        row.metrics["mt_bench.score"] = Metric(value=1.0, ci95=(0.0, bad))
    elif place == "outcome":
        row.outcomes["heldout"]["p1"] = bad
    else:
        row.provenance["training"] = {"losses": [0.7, bad]}
    with pytest.raises(DataError, match=r"row 'dpo': \S+ is -?(nan|inf)"):
        write_board(tmp_path, "quickstart", [entry("base", "base"), row])
    assert contents(tmp_path) == {}


def test_a_row_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'dpo' is there twice"):
        write_board(tmp_path, "quickstart", [entry("dpo", "sdpo"), entry("dpo", "nca")])


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ("remove board", "does not exist"),
        ("empty folder", "is not a board"),
        ("truncate board.json", r"board\.json can't be read"),
        ("foreign board.json", r"board\.json: board: Field required"),
        ("truncate entry", r"dpo\.json can't be read"),
        ("remove entry", r"dpo\.json can't be read"),
        ("unknown field", r"dpo\.json: scores: Extra inputs"),
        ("nan in entry", r"dpo\.json can't be read \(NaN is not a number"),
        ("wrong row", r"dpo\.json holds row 'base', expected 'dpo'"),
        ("not text", r"dpo\.json can't be read"),
    ],
)
def test_what_can_not_be_read_is_named_in_one_line(tmp_path: Path, damage: str, named: str) -> None:
    folder = tmp_path / "board"
    board = write_board(folder, "quickstart", four_rows())
    dpo = folder / "entries" / "dpo.json"
    text = dpo.read_text()
    match damage:
        case "remove board":
            folder = tmp_path / "elsewhere"
        case "empty folder":
            folder = tmp_path / "empty"
            folder.mkdir()
        case "truncate board.json":
            board.write_text(board.read_text()[:-9])
        case "foreign board.json":
            board.write_text('{"rows": []}')
        case "truncate entry":
            dpo.write_text(text[: len(text) // 2])
        case "remove entry":
            dpo.unlink()
        case "unknown field":
            dpo.write_text(text.replace('"outcomes"', '"scores"'))
        case "nan in entry":
            dpo.write_text(text.replace("53.125", "NaN"))
        case "wrong row":
            dpo.write_text((folder / "entries" / "base.json").read_text())
        case "not text":
            dpo.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=named) as raised:
        read_board(folder)
    assert "\n" not in str(raised.value)


# --- as text

any_text = st.text(max_size=40) | st.sampled_from(
    ["a|b", "`x`\n| y |", "<script>alert(1)</script>", "=1+1", "-cmd", "@SUM(A1)", "\t=1", "\r\n", "'=2", "''-x", "-5",
     "**b** _i_ [l](javascript:x)", "&lt;", "\\|", "#", " edge ", "\u202eevil", "</textarea>", "a\u2028b", "+1e5"]
)  # fmt: skip
no_controls = any_text.map(lambda s: "".join(c for c in s if c in "\t\r\n" or not (ord(c) < 32 or 127 <= ord(c) < 160)))


@settings(max_examples=150, deadline=None)
@given(ids=st.lists(no_controls.filter(bool), min_size=1, max_size=3, unique=True), method=no_controls, note=any_text)
def test_any_text_survives(ids: list[str], method: str, note: str) -> None:
    rows = [entry(row, method, data={"ranked": {note: 1}}, judge={"name": note}, reconstruction=note) for row in ids]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_board(folder, note, rows)
        board = read_board(folder)
        assert (board.name, list(board.entries)) == (note, rows)
        markdown = (folder / "board.md").read_bytes().decode()
        with (folder / "board.csv").open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file))
    figures, categories = markdown_tables(markdown)
    shown_method = "–" if method == "base" else method
    assert [line[:2] for line in figures[1:]] == [[row, shown_method] for row in ids]
    assert [line[0] for line in categories[1:]] == ids
    assert len({len(line) for line in figures}) == 1
    assert "<" not in markdown
    assert len({len(line) for line in lines}) == 1
    assert [[unprotected(cell) for cell in line[:2]] for line in lines[1:]] == [[row, method] for row in ids]
    for cell in (c for line in lines for c in line):
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) or is_number(cell)


def unprotected(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell.lstrip("'")[:1] in set("=+-@\t\r\n") else cell


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


@settings(max_examples=100, deadline=None)
@given(
    value=st.none() | st.floats(-1e6, 1e6),
    half=st.none() | st.floats(0, 1e6),
    n=st.integers(0, 10**6),
    n_invalid=st.integers(0, 10**6),
)
def test_csv_holds_every_figure_in_full(value: float | None, half: float | None, n: int, n_invalid: int) -> None:
    interval = None if value is None or half is None else (value - half, value + half)
    given_metric = Metric(value=value, stderr=half, ci95=interval, n=n, n_invalid=n_invalid)
    with tempfile.TemporaryDirectory() as scratch:
        write_board(Path(scratch), "b", [entry("dpo", "sdpo", {"mt_bench.score": given_metric}), entry("x", "nca", {})])
        lines = list(csv.DictReader((Path(scratch) / "board.csv").read_text().splitlines()))
    low, high = interval or (None, None)
    expected = dict(zip(("", ".stderr", ".ci95_low", ".ci95_high"), (value, half, low, high), strict=True))
    for suffix, figure in expected.items():
        cell = lines[0][f"mt_bench.score{suffix}"]
        assert (float(cell) if cell else None) == figure
    assert (int(lines[0]["mt_bench.score.n"]), int(lines[0]["mt_bench.score.n_invalid"])) == (n, n_invalid)
    assert all(cell == "" for name, cell in lines[1].items() if name.startswith("mt_bench"))


def test_figures_intervals_and_shared_counts(tmp_path: Path) -> None:
    write_board(tmp_path, "quickstart", four_rows())
    figures, categories = markdown_tables((tmp_path / "board.md").read_text())
    assert figures[0] == [
        "row",
        "loss",
        "AlpacaEval win rate, % (n=30)",
        "MT-bench score (n=30)",
        "Held-out Kendall tau (n=12)",
    ]
    assert figures[2] == ["dpo", "dpo_best_worst", "53.1 [48.1, 58.2]", "5.25 [4.75, 5.75]", "0.062 [-0.062, 0.188]"]
    assert categories[0] == ["row", "math (n=4)"]
    assert categories[1] == ["base", "4.50"]


def test_what_was_not_scored_is_counted(tmp_path: Path) -> None:
    rows = [
        entry("base", "base", {"alpaca_eval.win_rate": metric(50.0)}),
        entry("dpo", "sdpo", {"alpaca_eval.win_rate": metric(50.0, n=28, n_invalid=2)}),
        entry("lost", "nca", {"alpaca_eval.win_rate": Metric(value=None, n=0, n_invalid=30)}),
        entry("few", "nca", {"alpaca_eval.win_rate": Metric(value=None, n=3)}),
        entry("absent", "nca", {}),
    ]
    write_board(tmp_path, "quickstart", rows)
    (figures,) = markdown_tables((tmp_path / "board.md").read_text())
    assert figures[0][2] == "AlpacaEval win rate, %"
    assert [line[2] for line in figures[1:]] == [
        "50.0 [49.0, 51.0] (n=30)",
        "50.0 [49.0, 51.0] (n=28, 2 invalid)",
        "not scored (n_invalid=30)",
        "not computable (n=3)",
        "–",
    ]
    shown = drawn(tmp_path, 100)
    assert "2 invalid" in shown
    assert "30 invalid" in shown
    assert "not scored" in shown


def test_a_row_without_a_value_leaves_the_shared_count_in_the_head(tmp_path: Path) -> None:
    rows = [
        entry("base", "base", {"heldout.kendall_tau": Metric(value=None, n=0, n_invalid=16)}),
        entry("dpo", "sdpo", {"heldout.kendall_tau": metric(0.25, 0.125, n=16)}),
    ]
    write_board(tmp_path, "quickstart", rows)
    (figures,) = markdown_tables((tmp_path / "board.md").read_text())
    assert [line[2] for line in figures] == [
        "Held-out Kendall tau (n=16)",
        "not scored (n_invalid=16)",
        "0.250 [0.125, 0.375]",
    ]
    assert drawn(tmp_path, 100).count("n=16") == 1


def test_negative_zero_is_zero(tmp_path: Path) -> None:
    write_board(tmp_path, "quickstart", [entry("base", "base", {"heldout.margin": metric(-0.00001, 0.00002)})])
    assert "| 0.0000 [0.0000, 0.0000] |" in (tmp_path / "board.md").read_text()


@pytest.mark.parametrize(
    "other",
    [
        {"judge": {"name": "openai", "model": "gpt-4"}},
        {"benchmarks": {**BENCHMARKS, "alpaca_eval": {"sha256": "ef" * 32}}},
    ],
)
def test_rows_of_another_judge_or_prompt_set_stand_apart(tmp_path: Path, other: dict[str, Any]) -> None:
    rows = [entry("base", "base"), entry("guest", "sdpo", **other), entry("dpo", "dpo_adjacent")]
    write_board(tmp_path, "quickstart", rows)
    text = (tmp_path / "board.md").read_text()
    tables = [[line[0] for line in table[1:]] for table in markdown_tables(text)]
    assert tables == [["base", "dpo"], ["base", "dpo"], ["guest"], ["guest"]]
    assert "figures of different tables can't be compared" in text
    assert drawn(tmp_path, 100).count("not comparable with the other tables") == 2


def test_rows_of_other_held_out_pairs_stand_apart(tmp_path: Path) -> None:
    guest = entry("guest", "sdpo").model_copy(update={"outcomes": {"heldout": {"p2": 1.0}}})
    write_board(tmp_path, "quickstart", [entry("base", "base"), guest])
    assert len(markdown_tables((tmp_path / "board.md").read_text())) == 4


def test_an_uncalibrated_judge_is_named_in_words(tmp_path: Path) -> None:
    write_board(tmp_path / "a", "quickstart", four_rows())
    markdown, shown = (tmp_path / "a" / "board.md").read_text(), " ".join(drawn(tmp_path / "a", 300).split())
    for text in (markdown, shown):
        assert "The judge (local smollm2-135m-instruct) is not calibrated" in text
        assert "they do not measure quality" in text
    calibrated = entry("dpo", "sdpo", judge_calibration="kappa 0.71 against 500 official verdicts")
    unjudged = entry("x", "sdpo", judge=None, judge_calibration=None)
    for row in (calibrated, unjudged):
        write_board(tmp_path / row.id, "quickstart", [row])
        assert "not calibrated" not in (tmp_path / row.id / "board.md").read_text()
        assert "uncalibrated" not in drawn(tmp_path / row.id, 100)
    assert "kappa 0.71" in (tmp_path / "dpo" / "board.md").read_text()


def test_a_judge_without_a_calibration_on_record_is_uncalibrated(tmp_path: Path) -> None:
    row = entry("dpo", "sdpo")
    del row.provenance["judge_calibration"]
    write_board(tmp_path, "quickstart", [row])
    assert "is not calibrated" in (tmp_path / "board.md").read_text()


def test_multi_dpo_is_called_a_reconstruction(tmp_path: Path) -> None:
    write_board(tmp_path / "with", "quickstart", four_rows())
    write_board(tmp_path / "without", "quickstart", four_rows()[:3])
    said = "Multi-DPO here is a reconstruction of arXiv 2412.07812"
    assert said in (tmp_path / "with" / "board.md").read_text()
    assert said in " ".join(drawn(tmp_path / "with", 100).split())
    assert said not in (tmp_path / "without" / "board.md").read_text()
    assert said not in " ".join(drawn(tmp_path / "without", 100).split())


def test_data_and_training_are_shown_where_known(tmp_path: Path) -> None:
    known = {
        "data": {
            "ranked": {"train_prompts": 1080, "mean_score_spread": 2.718281828, "ranked_first_by_source": {"a": 3}},
            "reward": {"training": {}, "heldout_accuracy": metric(0.75, 0.125, n=12).model_dump(mode="json")},
        },
        "seed": 7,
        "training": {"steps": 16, "tokens": 48213, "first_loss": 0.6931, "last_loss": 0.61},
    }
    write_board(tmp_path / "a", "quickstart", [entry("base", "base"), entry("dpo", "sdpo", **known)])
    text = (tmp_path / "a" / "board.md").read_text()
    assert "- Ranked data: 2.718 mean score spread, 1,080 train prompts\n" in text
    assert "- Reward model: accuracy on held-out seed pairs 0.750 [0.625, 0.875] (n=12)\n" in text
    training = markdown_tables(text)[-1]
    assert training[1:] == [["dpo", "sdpo", "7", "16", "48,213", "0.6931", "0.6100"]]
    write_board(tmp_path / "b", "quickstart", [entry("base", "base")])
    assert "Data and training" not in (tmp_path / "b" / "board.md").read_text()


def test_metrics_without_a_place_are_still_shown(tmp_path: Path) -> None:
    figures = {"alpaca_eval.wins": Metric(value=12.0, n=30), "heldout.a|b": metric(0.5, 0.25)}
    write_board(tmp_path, "quickstart", [entry("dpo", "sdpo", figures)])
    assert markdown_tables((tmp_path / "board.md").read_text())[-1] == [
        ["row", "AlpacaEval wins (n=30)", "heldout.a|b (n=30)"],
        ["dpo", "12", "0.5000 [0.2500, 0.7500]"],
    ]


# --- in the terminal

FULL = {
    "alpaca_eval.win_rate": metric(53.125, 5.0625),
    "alpaca_eval.lc_win_rate": metric(51.875, 6.5),
    "alpaca_eval.avg_length": metric(1412.0, 123.0),
    "mt_bench.score": metric(5.25, 0.5),
    "mt_bench.turn_1": metric(5.75, 0.625),
    "mt_bench.turn_2": metric(4.75, 0.875),
    "heldout.pair_accuracy": metric(0.5625, 0.125),
    "heldout.kendall_tau": metric(-0.0625, 0.1875),
    "heldout.margin": metric(0.03125, 0.015625),
}
INTERVALS = ("48.1–58.2", "45.4–58.4", "1289–1535", "4.75–5.75", "5.12–6.38", "3.88–5.62", "0.438–0.688",
             "-0.250 – 0.125", "0.0156–0.0469")  # fmt: skip


@pytest.mark.parametrize("width", [40, 80, 100, 200])
def test_terminal_breaks_no_figure(tmp_path: Path, width: int) -> None:
    rows = [e.model_copy(update={"metrics": FULL}) for e in four_rows()]
    write_board(tmp_path, "quickstart", rows)
    shown = drawn(tmp_path, width)
    lines = shown.split("\n")
    assert max(map(len, lines)) <= width
    for text in (*INTERVALS, "53.1", "51.9", "1412", "5.25", "5.75", "4.75", "0.562", "-0.062", "0.0312"):
        assert sum(text in line for line in lines) >= len(rows), text
    for row in rows:
        assert any(line.split()[:1] == [row.id] for line in lines)


def test_terminal_takes_the_width_that_is_there(tmp_path: Path) -> None:
    write_board(tmp_path, "quickstart", [e.model_copy(update={"metrics": FULL}) for e in four_rows()])
    heads = {w: sum(line.startswith("row ") for line in drawn(tmp_path, w).split("\n")) for w in (200, 100, 60)}
    assert heads == {200: 1, 100: 2, 60: 3}
    # At 60 there is room for a column of MT-bench beside AlpacaEval's, but a group that fits a table stays whole.
    assert not re.search("AlpacaEval {2,}.*MT-bench", drawn(tmp_path, 60))


def test_terminal_folds_a_long_id_and_shows_all_of_it(tmp_path: Path) -> None:
    row = "multi-dpo-" + "0123456789" * 7
    write_board(tmp_path, "quickstart", [entry(row, "mdpo_linear", FULL)])
    for width in (80, 100):
        shown = drawn(tmp_path, width)
        assert max(map(len, shown.split("\n"))) <= width
        assert all(interval in shown for interval in INTERVALS)
        assert row in "".join(line[: width // 2] for line in shown.split("\n")).replace(" ", "")


def test_terminal_sends_no_escape_sequence_of_a_row(tmp_path: Path) -> None:
    write_board(tmp_path, "\x1b]0;title\x07", [entry("\x1b[2Jgone", "sdpo", judge={"name": "\x1b[31m"})])
    shown = drawn(tmp_path, 100)
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "␛[2Jgone" in shown


def test_an_empty_board_is_drawn(tmp_path: Path) -> None:
    write_board(tmp_path, "quickstart", [])
    assert "quickstart" in drawn(tmp_path, 80)
    assert list(csv.reader(io.StringIO((tmp_path / "board.csv").read_text()))) == [["id", "method"]]


def test_importing_is_cheap() -> None:
    heavy = ("torch", "pandas", "numpy", "alpaca_eval", "rich")
    code = f"import sys, harness.leaderboard; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
