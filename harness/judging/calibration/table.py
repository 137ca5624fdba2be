"""How the terminal shows a calibration."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from harness.judging.calibration.known import KnownSet
    from harness.judging.calibration.record import Calibration

WITHIN = {
    "agreement": "agreement within a system",
    "longer_agreement": "  of the longer answer wins",
    "gain_over_longer": "  gain over that",
    "balanced_agreement": "  with one verdict, balanced",
    "consistency": "same winner in both orders",
    "first_preferred": "prefers what is shown first",
    "longer_preferred": "prefers the longer answer",
    "longer_preferred_recorded": "  as the official judge does",
    "length_bias": "  difference",
}
"""Figures in the order of the table, in words; see `harness.judging.calibration.figures`."""


def show(calibration: "Calibration", console: "Console") -> None:
    """Print the figures, the systems, and how the judge compares them."""
    from rich.table import Table

    from harness.printable import printable

    table = Table(box=None, header_style="bold")
    table.add_column(f"{calibration.pairs} pairs, both orders")
    for title in ("", "95 % CI, these systems", "95 %, another system"):
        table.add_column(title, justify="right")
    figures = {words: calibration.figures[name] for name, words in WITHIN.items()}
    figures["agreement between siblings"] = calibration.siblings
    for words, figure in figures.items():
        value = "–" if figure.value is None else f"{figure.value:.1f} %"
        table.add_row(words, value, _ends(figure.here, 1), _ends(figure.ci95, 1))
    for name, words in {"board_slope": "win rates: slope", "board_kendall_tau": "win rates: Kendall's tau"}.items():
        figure = calibration.figures[name]
        value = "–" if figure.value is None else f"{figure.value:.2f}"
        table.add_row(words, value, "", _ends(figure.ci95, 2))
    console.print(table)
    board = Table(box=None, header_style="bold")
    for title in ("system", "pairs", "official win rate", "in the sample", "by this judge", "agreement within"):
        board.add_column(title, justify="left" if title == "system" else "right")
    for system, rates in sorted(calibration.systems.items(), key=lambda item: -item[1].official):
        judge, agreement = ("–" if x is None else f"{x:.1f}" for x in (rates.judge, rates.agreement))
        pairs, official, sample = str(rates.pairs), f"{rates.official:.1f}", f"{rates.recorded:.1f}"
        board.add_row(printable(system), pairs, official, sample, judge, agreement)
    console.print(board)
    for title, chosen in (("pairs of systems", False), ("pairs of siblings", True)):
        compared = [c for c in calibration.comparisons if c.siblings or not chosen]
        if not compared:
            continue
        significant = [c for c in compared if c.is_significant]
        right, signs = sum(c.judge > 0 for c in significant), sum(c.judge > 0 for c in compared)
        console.print(
            f"Of {len(compared)} {title}, {signs} have the official sign; of the {len(significant)} that it calls "
            f"significantly different, {right}."
        )
    reasons = [f"{count} {reason.replace('_', ' ')}" for reason, count in calibration.left_out.items() if count]
    if reasons:
        console.print(f"Recorded rows left out: {', '.join(reasons)}.")


def show_known(sets: "Sequence[KnownSet]", console: "Console") -> None:
    """Print a judge's figures on pairs whose better answer is known."""
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for title in ("set", "pairs", "right", "95 % CI", "same answer in both orders"):
        table.add_column(title, justify="left" if title == "set" else "right")
    for known in sets:
        right, same = ("–" if m.value is None else f"{m.value:.1f} %" for m in (known.accuracy, known.consistency))
        pairs = f"{known.accuracy.n}" + (f", {known.accuracy.n_invalid} not scored" if known.accuracy.n_invalid else "")
        table.add_row(known.name, pairs, right, _ends(known.accuracy.ci95, 1), same)
    console.print(table)
    console.print("50 % is chance. In the adversarial sets the worse answer is made to look better.")


def _ends(ends: tuple[float, float] | None, decimals: int) -> str:
    return "–" if ends is None else f"{ends[0]:.{decimals}f} to {ends[1]:.{decimals}f}"
