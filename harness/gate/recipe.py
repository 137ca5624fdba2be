"""The gates of a recipe, run on the board that its run has written."""

from collections.abc import Sequence

from harness.gate.ask import RowSource, ask
from harness.gate.check import Result
from harness.gate.margins import Check
from harness.recipe.recipe import Gate


def run_gates(board: RowSource, gates: Sequence[Gate]) -> list[Result]:
    """One result per gate. Raises HarnessError for a row or a baseline that does not exist."""
    return [ask(board, gate.baseline, check_of(gate), gate.row, gate.baseline_row) for gate in gates]


def check_of(gate: Gate) -> Check:
    """What a recipe's gate requires."""
    return Check(
        metric=gate.metric,
        margin=gate.margin,
        alpha=gate.alpha,
        minimum=gate.minimum,
        anchor_margin=gate.anchor_margin,
        allow=gate.allow,
    )
