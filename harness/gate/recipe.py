"""The gates of a recipe, run on the board that its run has written."""

from collections.abc import Sequence

from harness.gate.ask import RowSource, ask
from harness.gate.check import Check, Result
from harness.recipe.recipe import Gate


def run_gates(board: RowSource, gates: Sequence[Gate]) -> list[Result]:
    """One result per gate. Raises DataError for a row or a baseline that does not exist."""
    return [
        ask(
            board,
            gate.baseline,
            Check(metric=gate.metric, margin=gate.margin, alpha=gate.alpha, minimum=gate.minimum),
            gate.row,
            gate.baseline_row,
        )
        for gate in gates
    ]
