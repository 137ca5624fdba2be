"""A board's files: entries, board.json, and what happens when writing or reading them fails."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.boards.read import read_board
from harness.errors import DataError, StoreError
from harness.report.write import write_board
from harness.types import Metric
from tests.sample_boards import contents, entry, four_rows, metric, seed_row, with_provenance


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


def test_board_json_has_figures_over_training_seeds(tmp_path: Path) -> None:
    lost = Metric(value=None, n_invalid=30)
    rows = [
        entry("base", "base"),
        *(
            seed_row("s", seed, {"mt_bench.score": metric(value, 0.2)})
            for seed, value in ((0, 5.0), (1, 6.0), (7, 8.5))
        ),
        *(seed_row("t", seed, {"mt_bench.score": found}) for seed, found in ((0, metric(5.0, 0.2)), (1, lost))),
        entry("once", "sdpo"),
    ]
    data = json.loads(write_board(tmp_path, "quickstart", rows).read_text())
    assert set(data) == {"board", "generated", "rows", "training_seeds"}
    first, second = data["training_seeds"]
    assert {k: first[k] for k in ("method_id", "method", "seeds", "rows")} == {
        "method_id": "s",
        "method": "sdpo",
        "seeds": [0, 1, 7],
        "rows": ["s.seed-0", "s.seed-1", "s.seed-7"],
    }
    assert first["metrics"]["mt_bench.score"] == {
        "mean": 6.5,
        "sd": pytest.approx(1.802775637731995),
        "n": 3,
        "n_invalid": 0,
    }
    assert second["metrics"]["mt_bench.score"] == {"mean": 5.0, "sd": None, "n": 1, "n_invalid": 1}
    assert list(read_board(tmp_path).entries) == rows


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_table_over_training_seeds_is_there_where_they_are_several(tmp_path: Path, seeds: int) -> None:
    rows = [seed_row(name, seed, {"mt_bench.score": metric(5.0)}) for name in "st" for seed in range(seeds)]
    write_board(tmp_path, "quickstart", rows)
    assert ("### Over training seeds" in (tmp_path / "board.md").read_text()) == (seeds > 1)


def test_rows_of_different_judges_are_in_no_common_mean(tmp_path: Path) -> None:
    figures = {"mt_bench.score": metric(5.0)}
    rows = [seed_row("s", 0, figures), seed_row("s", 1, figures, judge={"name": "openai", "model": "gpt-4"})]
    data = json.loads(write_board(tmp_path, "quickstart", rows).read_text())
    assert [group["seeds"] for group in data["training_seeds"]] == [[0], [1]]


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
        rows[1] = entry("dpo", "dpo_best_worst", {"mt_bench.score": metric(5.5)})
    elif change == "outcome":
        rows[1].outcomes["heldout"]["p1"] = 1.0
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
    changed = [entry(e.id, e.method, {"mt_bench.score": metric(9, 0.2)}) for e in four_rows()]
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
        row = with_provenance(row, training={"losses": [0.7, bad]})
    with pytest.raises(DataError, match=r"row 'dpo': \S+ is -?(nan|inf)"):
        write_board(tmp_path, "quickstart", [entry("base", "base"), row])
    assert contents(tmp_path) == {}


def test_a_board_of_nearly_that_name_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("leaderboards/quickstart", "leaderboards/own", "other/mine"):
        write_board(Path(name), "quickstart", [entry("base", "base")])
    for wrong, meant in (
        ("quickstart", "leaderboards/quickstart"),
        ("leaderboards/quikstart", "leaderboards/quickstart"),
        ("other/mime", "other/mine"),
    ):
        with pytest.raises(DataError, match=rf"^{wrong} does not exist; did you mean '{meant}'\? expected a board's"):
            read_board(Path(wrong))
    with pytest.raises(DataError, match=r"^nothing/like does not exist; expected"):
        read_board(Path("nothing/like"))


def test_a_row_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'dpo' is repeated"):
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
        ("nan in entry", r"dpo\.json can't be read \(NaN is not a figure"),
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


def test_importing_is_cheap() -> None:
    heavy = ("torch", "pandas", "numpy", "alpaca_eval", "rich")
    code = f"import sys, harness.boards.read; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
