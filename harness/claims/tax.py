"""What preference training has cost: each trained row's change against the untrained base, capability by capability."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from harness.boards.catalog import Figures
from harness.boards.entry import Entry, comparable
from harness.boards.format import bounds, number, signed
from harness.boards.outcomes import figure_values, pair_compared
from harness.figures import Figure
from harness.stats.paired import Comparison

MOST_MISSING = 0.05
"""The share of the prompts that either row may lack."""
Outcome = Literal["kept", "lost", "fell", "open"]


class Change(NamedTuple):
    """A row's change by one figure. `compared`: row minus base; None where they share too few prompts. `outcome`:
    `kept`, no loss over the margin: the 95 % interval of the change lies above it; `lost`, a loss over the margin: it
    lies below; `fell`, a loss, but maybe within the margin: it lies below 0; else `open`, inconclusive. `reason`: why
    it is open whatever the interval says."""

    figure: Figure
    margin: float
    compared: Comparison | None
    outcome: Outcome
    reason: str = ""

    @property
    def text(self) -> str:
        """`−6.1 [−9.8, −2.4]`."""
        if self.compared is None:
            return f"– ({self.reason})"
        decimals = self.figure.difference_decimals
        shown = signed(self.compared.difference, decimals)
        if self.compared.ci95 is None:
            return f"{shown} (too few)"
        low, high = bounds(self.compared.ci95, decimals)
        return f"{shown} [{low}, {high}]{f' ({self.reason})' if self.reason else ''}"


class RowTax(NamedTuple):
    """A row's changes against `base`, a row of the same table."""

    row: str
    base: str
    changes: tuple[Change, ...]

    @property
    def signatures(self) -> list[str]:
        """The capabilities that have dropped, as failure signatures: `coding drop`."""
        return [f"{change.figure.tax} drop" for change in self.changes if change.outcome in ("lost", "fell")]

    @property
    def verdict(self) -> str:
        """`no loss over 2 points on 3 of 4; coding drop: −6.1 points (95 % CI −9.8 to −2.4)`."""
        kept = [change for change in self.changes if change.outcome == "kept"]
        parts = [f"no loss over {_margins(self.changes)} on {len(kept)} of {len(self.changes)}"]
        for change in self.changes:
            if change.outcome in ("lost", "fell") and change.compared and change.compared.ci95:
                decimals = change.figure.difference_decimals
                low, high = bounds(change.compared.ci95, decimals)
                size = signed(change.compared.difference, decimals)
                over = f", over {_amount(change)}" if change.outcome == "lost" else ""
                parts.append(f"{change.figure.tax} drop: {size}{_unit(change.figure)} (95 % CI {low} to {high}){over}")
        if unsettled := [change.figure.tax or "" for change in self.changes if change.outcome == "open"]:
            parts.append(f"inconclusive: {', '.join(unsettled)}")
        return "; ".join(parts)


def tax(entries: Sequence[Entry]) -> list[RowTax]:
    """The trained rows of a board that has figures of capabilities, each against the untrained base of its table."""
    found = []
    for rows in comparable(entries):
        figures = [figure for figure in Figures(rows).gated if figure.tax]
        for row in rows:
            base = _base_of(row, rows)
            shared = [f for f in figures if base and f.metric in row.metrics and f.metric in base.metrics]
            if base is not None and shared:
                found.append(RowTax(row.id, base.id, tuple(_change(row, base, figure) for figure in shared)))
    return found


def _base_of(row: Entry, rows: Sequence[Entry]) -> Entry | None:
    """The untrained policy that a row was trained from."""
    if row.provenance.training is None and row.method in ("base", "system", "public"):
        return None
    policies = row.provenance.policy
    bases = [entry for entry in rows if entry.method == "base"]
    return next((b for b in bases if policies is None or b.provenance.policy in (None, policies)), None)


def _change(row: Entry, base: Entry, figure: Figure) -> Change:
    margin = figure.default_margin or 0.0
    compared = pair_compared(row, base, figure, lambda entry: figure_values(entry, figure))
    if compared is None:
        return Change(figure, margin, None, "open", "too few prompts in common")
    prompts = compared.prompts + compared.left_out
    if compared.left_out > MOST_MISSING * prompts:
        reason = f"{compared.left_out} of {prompts} prompts not scored in both"
        return Change(figure, margin, compared, "open", reason)
    if compared.ci95 is None:
        return Change(figure, margin, compared, "open", "too few prompts")
    low, high = compared.ci95 if figure.higher_is_better is not False else (-compared.ci95[1], -compared.ci95[0])
    outcome: Outcome = "kept" if low > -margin else "lost" if high < -margin else "fell" if high < 0 else "open"
    return Change(figure, margin, compared, outcome)


def _margins(changes: Sequence[Change]) -> str:
    """`2 points`, where all figures have one margin; else in words."""
    amounts = {_amount(change) for change in changes}
    return amounts.pop() if len(amounts) == 1 else "the margin of each"


def _amount(change: Change) -> str:
    decimals = 0 if change.margin == round(change.margin) else change.figure.difference_decimals
    return f"{number(change.margin, decimals)}{_unit(change.figure)}"


def _unit(figure: Figure) -> str:
    return " points" if figure.in_percent else f" {figure.unit}" if figure.unit else ""
