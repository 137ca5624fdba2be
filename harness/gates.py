"""The gates of a recipe, run over the board that its run has written."""

from collections.abc import Sequence
from pathlib import Path

from harness.baseline import baseline_entry
from harness.gate import Check, Result, chosen_row, run_gate
from harness.recipe import Gate


def run_gates(board: Path, gates: Sequence[Gate]) -> list[Result]:
    """One result a gate. Raises DataError for a row or a baseline that is not there."""
    results = []
    for gate in gates:
        row = chosen_row(board, gate.row)
        old = None
        if gate.baseline is not None:
            old = baseline_entry(gate.baseline, gate.baseline_row, gate.row)
        elif gate.baseline_row is not None:
            old = chosen_row(board, gate.baseline_row)
        check = Check(metric=gate.metric, margin=gate.margin, alpha=gate.alpha, minimum=gate.minimum)
        results.append(run_gate(row, old, check))
    return results
