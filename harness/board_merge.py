"""Boards made of boards, and a board as `alpaca_eval` keeps its own."""

import csv
import io
import shutil
from collections.abc import Sequence
from pathlib import Path

from harness.board_rows import Board, Entry
from harness.errors import DataError
from harness.leaderboard import read_board, write_board
from harness.public_data import FOLDER


def merge(boards: Sequence[Path], out: Path) -> Path:
    """Write a board of all rows of several, with their answers and verdicts, and return its `board.json`. A row that
    two boards have alike is there once. Raises DataError for one id that stands for different rows."""
    rows: dict[str, tuple[Entry, Path]] = {}
    for path in boards:
        for entry in read_board(path).entries:
            known = rows.setdefault(entry.id, (entry, path))
            if known[0] != entry:
                raise DataError(f"row '{entry.id}' is another one in {known[1]} than in {path}; rename one of them")
    written = write_board(out, out.absolute().name, [entry for entry, _ in rows.values()])
    for path in boards:
        _merge_data(path if path.is_dir() else path.parent, out)
    return written


def _merge_data(board: Path, out: Path) -> None:
    """Files of both boards are lists of lines: what is not there yet is added."""
    for file in sorted((board / FOLDER).rglob("*")):
        target = out / file.relative_to(board)
        if file.is_dir() or file == target:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copyfile(file, target)
        elif file.suffix == ".jsonl":
            there = set(target.read_text(encoding="utf-8").split("\n"))
            new = [line for line in file.read_text(encoding="utf-8").split("\n") if line and line not in there]
            with target.open("a", encoding="utf-8") as lines:
                lines.writelines(f"{line}\n" for line in new)


ALPACA_EVAL = {
    "win_rate": "win_rate",
    "discrete_win_rate": "discrete_win_rate",
    "avg_length": "avg_length",
    "length_controlled_winrate": "lc_win_rate",
    "lc_standard_error": "lc_standard_error",
}
COUNTS = {"n_wins": "wins", "n_wins_base": "losses", "n_draws": "draws"}
HEADS = (
    *("win_rate", "standard_error", "n_wins", "n_wins_base", "n_draws", "n_total", "discrete_win_rate", "mode"),
    *("avg_length", "length_controlled_winrate", "lc_standard_error"),
)


def alpaca_eval_leaderboard(board: Board) -> str:
    """The rows that AlpacaEval was run on as its package keeps a leaderboard (CSV; what `precomputed_leaderboard` takes
    and `alpaca_eval` prints beside its own results). Its names of rows are ours."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["", *HEADS])
    for entry in board.entries:
        found = {name.removeprefix("alpaca_eval."): metric for name, metric in entry.metrics.items()}
        if "win_rate" not in found or found["win_rate"].value is None:
            continue
        cells: dict[str, object] = {"mode": "community", "n_total": found["win_rate"].n}
        cells["standard_error"] = found["win_rate"].stderr
        cells |= {name: found[own].value for name, own in ALPACA_EVAL.items() if own in found}
        cells |= {name: int(found[own].value or 0) for name, own in COUNTS.items() if own in found}
        writer.writerow([entry.id, *("" if cells.get(head) is None else cells[head] for head in HEADS)])
    return text.getvalue()
