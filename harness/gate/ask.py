"""One gate over two boards, as `harness.gate(board, baseline)`, the command and a recipe's gates run it."""

from pathlib import Path
from typing import Protocol

from harness.boards.board import Board
from harness.boards.read import choose_row
from harness.gate.check import Result, run_gate
from harness.gate.margins import Check, checked
from harness.gate.record import Baseline, read_baseline


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
    margin: float | str | None = None,
    alpha: float = 0.05,
    minimum: float | None = None,
    anchor_margin: float | str | None = None,
    allow: bool = False,
) -> Result:
    """Check that a row of a board is not worse than a baseline row by more than a margin: a paired test over shared
    prompts. A row that fails, or that can't be compared, raises nothing: the result says so.

    `baseline`: another board, or the file that `harness baseline promote` writes; without it, `baseline_row` is a row
    of the same board, and without either only `minimum` is checked. `row`: by default the only trained row.
    `baseline_row`: by default the row with the same id, else the only trained one. `margin`: in the unit of the
    figure's differences (percentage points for shares), or a share of the baseline's value ("10%"); by default what its
    benchmark declares. `anchor_margin`: the same against the baseline's anchor; by default `margin`. `alpha`: one-sided
    level of the tests. `minimum`: an absolute floor, tested by a bound. `allow`: a row may pass that a validity guard
    has flagged. Raises HarnessError for a board, a row or a number that can't be used.
    """
    check = Check.model_construct(
        metric=metric, margin=margin, alpha=alpha, minimum=minimum, anchor_margin=anchor_margin, allow=allow
    )
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
    and `baseline_row`. Raises HarnessError for a board or a row that does not exist, or a number that can't be used."""
    check = checked(check)
    opened = Path(board) if isinstance(board, str | Path) else board_of(board)
    entry = choose_row(opened, row, options[0])
    if baseline is None:
        return run_gate(entry, None if baseline_row is None else choose_row(opened, baseline_row, options[1]), check)
    if isinstance(baseline, str | Path):
        found = read_baseline(Path(baseline), baseline_row, entry.id)
        if isinstance(found, Baseline):
            return run_gate(entry, found.entry, check, found.other_anchor)
        return run_gate(entry, found, check)
    other = board_of(baseline)
    if baseline_row is None and any(candidate.id == entry.id for candidate in other.entries):
        baseline_row = entry.id
    return run_gate(entry, choose_row(other, baseline_row, options[1]), check)


def board_of(rows: Board | HasBoard) -> Board:
    """A board, or that of a run."""
    return rows if isinstance(rows, Board) else rows.board
