"""A board as CSV: `board.csv`, `comparisons.csv`, and the leaderboard format of the `alpaca_eval` package."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from harness.boards.board import Board
from harness.boards.catalog import Figures, present
from harness.report.markup import escape_csv
from harness.stats.paired import Comparison
from harness.types import Metric

_ALPACA_EVAL_VALUES = {
    "win_rate": "win_rate",
    "discrete_win_rate": "discrete_win_rate",
    "avg_length": "avg_length",
    "length_controlled_winrate": "lc_win_rate",
    "lc_standard_error": "lc_standard_error",
}
"""The package's column -> the figure's name; figures in full precision."""
_ALPACA_EVAL_COUNTS = {"n_wins": "wins", "n_wins_base": "losses", "n_draws": "draws"}
"""The same for whole numbers."""
_ALPACA_EVAL_HEADS = (
    *("win_rate", "standard_error", "n_wins", "n_wins_base", "n_draws", "n_total", "discrete_win_rate", "mode"),
    *("avg_length", "length_controlled_winrate", "lc_standard_error"),
)


def board_csv(board: Board) -> str:
    """One line per row: id, method, then value, stderr, ci95_low, ci95_high, n and n_invalid of every metric on the
    board, in full precision; empty where the row has none."""
    columns = present(Figures(board.entries).all, board.entries)
    suffixes = ("", ".stderr", ".ci95_low", ".ci95_high", ".n", ".n_invalid")
    lines = [_csv_line(["id", "method", *(c.metric + suffix for c in columns for suffix in suffixes)])]
    for entry in board.entries:
        cells = [entry.id, entry.method]
        for column in columns:
            cells += _metric_cells(entry.metrics.get(column.metric))
        lines.append(_csv_line(cells))
    return "".join(lines)


def _metric_cells(metric: Metric | None) -> list[str]:
    if metric is None:
        return [""] * 6
    low, high = metric.ci95 or (None, None)
    return ["" if x is None else repr(x) for x in (metric.value, metric.stderr, low, high, metric.n, metric.n_invalid)]


def _csv_line(cells: Iterable[str]) -> str:
    line = io.StringIO()
    # The writer quotes line breaks only if its own terminator has them: with "\n" alone, a "\r" in a cell stays bare.
    csv.writer(line, lineterminator="\r\n").writerow([escape_csv(cell) for cell in cells])
    return line.getvalue().removesuffix("\r\n") + "\n"


def comparisons_csv(by_metric: Mapping[str, Sequence[Comparison]]) -> str:
    """All pairs of rows, one per line, in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    plain = [name for name in Comparison.model_fields if name != "ci95"]
    writer.writerow(["metric", *plain, "ci95_low", "ci95_high"])
    for metric, comparisons in by_metric.items():
        for c in comparisons:
            values = [*(value for name, value in c if name in plain), *(c.ci95 or ("", ""))]
            cells = [escape_csv(x) if isinstance(x, str) else repr(x) for x in values]
            writer.writerow([escape_csv(metric), *cells])
    return text.getvalue()


def alpaca_eval_csv(board: Board) -> str:
    """The rows with AlpacaEval figures, in the CSV format of the package's leaderboards: what
    `precomputed_leaderboard` takes and `alpaca_eval` prints beside its own results. Rows are named by our ids."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["", *_ALPACA_EVAL_HEADS])
    for entry in board.entries:
        metrics = {name.removeprefix("alpaca_eval."): metric for name, metric in entry.metrics.items()}
        if "win_rate" not in metrics or metrics["win_rate"].value is None:
            continue
        cells: dict[str, object] = {"mode": "community", "n_total": metrics["win_rate"].n}
        cells["standard_error"] = metrics["win_rate"].stderr
        cells |= {column: metrics[name].value for column, name in _ALPACA_EVAL_VALUES.items() if name in metrics}
        cells |= {
            column: int(metrics[name].value or 0) for column, name in _ALPACA_EVAL_COUNTS.items() if name in metrics
        }
        writer.writerow([entry.id, *("" if cells.get(head) is None else cells[head] for head in _ALPACA_EVAL_HEADS)])
    return text.getvalue()
