"""A board's rows compared with each other: the matrices of `board.md`, the lines of `board.json` and of
`comparisons.csv`."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from harness.board_markup import escape_csv, escape_markdown, table
from harness.board_rows import COLUMNS, Board, Entry, further_columns, number
from harness.outcomes import comparisons, elo
from harness.paired import Comparison

MATRIX = 8
"""Rows up to which a matrix is drawn; of more rows each is compared with the first (the base) and with the best."""
LISTED = 20
"""Rows up to which `board.json` holds all pairs; `comparisons.csv` always does."""
HOW = (
    "Row less column, paired by prompt, with its 95 % interval (bootstrap over prompts). **Bold**: real at the 5 % "
    "level by a sign-flip permutation test, with Holm's correction over all pairs of the metric. Length-controlled "
    "rates are compared by their bootstrap, with the regression fitted anew in each resample."
)


class Compared:
    """All comparisons of a board, computed once. `by_metric`: see `harness.outcomes.comparisons`."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.by_metric = comparisons(entries)
        self.elo = elo(entries)

    def shown(self, metric: str) -> list[Comparison]:
        """All pairs of few rows; of many, each with the first row and with the best one."""
        made = self.by_metric[metric]
        ids = list(dict.fromkeys(name for c in made for name in (c.first, c.second)))
        if len(ids) <= LISTED:
            return made
        value = {e.id: e.metrics[metric].value or 0.0 for e in self.entries if e.id in set(ids)}
        ends = {ids[0], max(ids, key=lambda i: value[i])}
        return [c for c in made if c.first in ends or c.second in ends]

    def json(self) -> dict[str, list[dict[str, Any]]]:
        """What `board.json` holds, by metric."""
        return {metric: [c.model_dump(mode="json") for c in self.shown(metric)] for metric in self.by_metric}

    def csv(self) -> str:
        """All pairs, one a line, in full precision."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        plain = [name for name in Comparison.model_fields if name != "ci95"]
        writer.writerow(["metric", *plain, "ci95_low", "ci95_high"])
        for metric, made in self.by_metric.items():
            for c in made:
                values = [*(getattr(c, name) for name in plain), *c.ci95]
                cells = [escape_csv(x) if isinstance(x, str) else repr(x) for x in values]
                writer.writerow([metric, *cells])
        return text.getvalue()

    def sections(self) -> list[str]:
        """The parts of `board.md`: one table a metric, and what its prompts could have shown."""
        if not self.by_metric:
            return []
        parts = ["## Rows compared", HOW]
        for metric in self.by_metric:
            parts += [
                f"### {comparison_title(metric, self.entries)}",
                self._table(metric),
                _shown_by(self.by_metric[metric], metric),
                *self._elo(metric),
            ]
        return parts

    def _elo(self, metric: str) -> list[str]:
        """Strengths from who did better on each prompt, best first."""
        made = sorted(self.elo.get(metric, {}).items(), key=lambda row: -row[1].elo)
        told = [f"{escape_markdown(i)} {s.elo:.0f} [{s.ci95[0]:.0f}, {s.ci95[1]:.0f}]" for i, s in made]
        what = "Elo, from who did better on each prompt (Bradley-Terry; their mean is 1000): "
        return [what + ", ".join(told) + "."] if told else []

    def _table(self, metric: str) -> str:
        made = self.by_metric[metric]
        ids = list(dict.fromkeys(name for c in made for name in (c.first, c.second)))
        decimals = comparison_decimals(metric)
        if len(ids) <= MATRIX:
            cells = _cells(made, decimals)
            heads = ["row", *(escape_markdown(i) for i in ids[:-1])]
            lines = [[escape_markdown(a), *(cells.get((a, b), "") for b in ids[:-1])] for a in ids[1:]]
            return table(heads, lines, left=1)
        heads = ["row", "against", "difference", "p", "after Holm"]
        lines = [
            [
                escape_markdown(c.first),
                escape_markdown(c.second),
                _cell(c, decimals),
                f"{c.p:.3g}",
                f"{c.adjusted_p:.3g}",
            ]
            for c in self.shown(metric)
        ]
        return table(heads, lines, left=2)


def _cells(made: Sequence[Comparison], decimals: int) -> Mapping[tuple[str, str], str]:
    """Each pair both ways round."""
    found = {}
    for c in made:
        found[c.first, c.second] = _cell(c, decimals)
        turned = c.model_copy(update={"difference": -c.difference, "ci95": (-c.ci95[1], -c.ci95[0])})
        found[c.second, c.first] = _cell(turned, decimals)
    return found


def _cell(c: Comparison, decimals: int) -> str:
    low, high = (number(x, decimals) for x in c.ci95)
    text = f"{_signed(c.difference, decimals)} [{low}, {high}]"
    return f"**{text}**" if c.is_real else text


def _signed(value: float, decimals: int) -> str:
    text = number(value, decimals)
    return text if text.startswith("-") or float(text) == 0 else f"+{text}"


def _shown_by(made: Sequence[Comparison], metric: str) -> str:
    """How large a difference has to be to be seen, and what pairing has saved."""
    prompts = sorted({c.prompts for c in made})
    n = f"{prompts[0]:,}" if len(prompts) == 1 else f"{prompts[0]:,} to {prompts[-1]:,}"
    parts = [f"On {n} prompts{seen_difference(made, metric) or ' all pairs differ by a constant'}."]
    saved = sorted(c.stderr / c.unpaired_stderr for c in made if c.unpaired_stderr > 0)
    if saved:
        ratio = saved[len(saved) // 2]
        parts.append(f"Standard errors of the differences are {ratio:.2f} times the unpaired ones (median).")
    if left := max(c.left_out for c in made):
        parts.append(f"Up to {left:,} prompts are not scored in both rows of a pair and are left out.")
    return " ".join(parts)


def seen_difference(made: Sequence[Comparison], metric: str) -> str:
    """` a true difference of 1.5 to 4.4 is seen in four cases of five`; empty where no pair's differences vary."""
    decimals = comparison_decimals(metric)
    # Rows that differ by a constant have no error, and say nothing of what could be seen.
    least = sorted(c.detectable for c in made if c.stderr > 0)
    if not least:
        return ""
    span = dict.fromkeys(number(x, decimals) for x in (least[0], least[-1]))
    return f" a true difference of {' to '.join(span)} is seen in four cases of five (each test by itself)"


def real_differences(board: Board) -> list[str]:
    """In a line a metric: how many pairs differ, of how many."""
    lines = []
    for metric, made in board.comparisons.items():
        title, real = comparison_title(metric, board.entries), sum(c.is_real for c in made)
        seen = seen_difference(made, metric) or " by constants"
        lines.append(f"{title}: {real} of {len(made)} pairs of rows differ (paired, 5 % level, Holm);{seen}.")
    return lines


def _column(metric: str) -> Any:
    return next((c for c in COLUMNS if c.metric == metric), None)


def comparison_decimals(metric: str) -> int:
    """Pair accuracy is compared in percent points."""
    column = _column(metric)
    return 1 if column is None or metric == "heldout.pair_accuracy" else int(column.decimals)


def comparison_title(metric: str, entries: Sequence[Entry]) -> str:
    if metric == "heldout.pair_accuracy":
        return "Held-out pair accuracy, percent points"
    column = _column(metric) or next(c for c in further_columns(entries) if c.metric == metric)
    return f"{column.group} {column.title}".strip() + (f", {column.unit} points" if column.unit else "")
