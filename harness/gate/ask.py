"""One gate over two boards, as `harness.gate(board, baseline)`, the command and a recipe's gates run it."""

from pathlib import Path
from typing import Protocol

from harness.boards.board import Board
from harness.boards.read import choose_row
from harness.errors import HarnessError
from harness.gate.baseline import baseline_entry
from harness.gate.check import Check, Result, run_gate


class HasBoard(Protocol):
    """A completed run."""

    @property
    def board(self) -> Board:
        """The board that the run has written."""
        ...


RowSource = str | Path | Board | HasBoard
"""Where a row comes from: a board, its folder or its board.json, or a run."""


def gate(
    board: RowSource,
    baseline: RowSource | None = None,
    *,
    row: str | None = None,
    baseline_row: str | None = None,
    metric: str = "alpaca_eval.win_rate",
    margin: float | None = None,
    alpha: float = 0.05,
    minimum: float | None = None,
) -> Result:
    """Check that a row of a board is not worse than a baseline row by more than a margin: a paired test over shared
    prompts. A row that fails, or that can't be compared, raises nothing: the result says so.

    `baseline`: another board, or the file that `harness baseline promote` writes; without it, `baseline_row` is a row
    of the same board, and without either only `minimum` is checked. `row`: by default the only trained row.
    `baseline_row`: by default the row with the same id, else the only trained one. `margin`: in the metric's unit
    (percent points for shares), by default what its benchmark declares. `alpha`: one-sided level of the test.
    `minimum`: an absolute floor. Raises HarnessError for a board, a row or a number that can't be used.
    """
    if margin is not None and not margin >= 0:
        raise HarnessError(f"gate: margin: expected a number of at least 0, got {margin}")
    if not 0 < alpha < 0.5:
        raise HarnessError(f"gate: alpha: expected a number above 0 and below 0.5, got {alpha}")
    check = Check(metric=metric, margin=margin, alpha=alpha, minimum=minimum)
    return ask(board, baseline, check, row, baseline_row, ("row", "baseline_row"))


def ask(
    board: RowSource,
    baseline: RowSource | None,
    check: Check,
    row: str | None,
    baseline_row: str | None,
    options: tuple[str, str] = ("--row", "--baseline-row"),
) -> Result:
    """Choose the two rows, as `gate` describes, and check one against the other. `options`: what messages call `row`
    and `baseline_row`. Raises DataError for a board or a row that does not exist."""
    opened = Path(board) if isinstance(board, str | Path) else _board_of(board)
    entry = choose_row(opened, row, options[0])
    if baseline is None:
        return run_gate(entry, None if baseline_row is None else choose_row(opened, baseline_row, options[1]), check)
    if isinstance(baseline, str | Path):
        return run_gate(entry, baseline_entry(Path(baseline), baseline_row, entry.id), check)
    other = _board_of(baseline)
    if baseline_row is None and any(candidate.id == entry.id for candidate in other.entries):
        baseline_row = entry.id
    return run_gate(entry, choose_row(other, baseline_row, options[1]), check)


def _board_of(rows: Board | HasBoard) -> Board:
    return rows if isinstance(rows, Board) else rows.board
