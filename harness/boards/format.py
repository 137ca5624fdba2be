"""How figures are written: numbers, signs, intervals, counts, missing values; and text that is safe to print."""

import unicodedata
from collections.abc import Iterable

from harness.boards.entry import BoardRow
from harness.figures import Figure
from harness.types import Metric


def visible(text: str) -> str:
    """The text with control characters, terminal escapes among them, replaced by their pictures (from U+2400)."""
    return "".join(_picture(c) if unicodedata.category(c) == "Cc" else c for c in text)


def _picture(control: str) -> str:
    code = ord(control)
    return (
        chr(0x2400 + code) if code < 0x20 else "\N{SYMBOL FOR DELETE}" if code == 0x7F else "\N{REPLACEMENT CHARACTER}"
    )


def number(value: float, decimals: int) -> str:
    """A number with fixed decimals, a minus sign (U+2212) rather than a hyphen, and without a negative zero."""
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def signed(value: float, decimals: int) -> str:
    """A number with its sign; a zero has none."""
    text = number(value, decimals)
    return f"+{text}" if round(value, decimals) > 0 else text


def bounds(interval: tuple[float, float], decimals: int) -> tuple[str, str]:
    """An interval's lower and upper bound as texts."""
    return number(interval[0], decimals), number(interval[1], decimals)


def with_interval(metric: Metric, decimals: int) -> str:
    """`53.1 [48.0, 58.2]`; without brackets where there is no interval; without a value, the reason."""
    if metric.value is None:
        return missing(metric)
    if metric.ci95 is None:
        return number(metric.value, decimals)
    low, high = bounds(metric.ci95, decimals)
    return f"{number(metric.value, decimals)} [{low}, {high}]"


def missing(metric: Metric) -> str:
    """Why a metric has no value: nothing to score, nothing scored, or too little scored to compute it."""
    if not metric.n and not metric.n_invalid:
        return "–"
    return f"not computable (n={metric.n})" if metric.n else f"not scored (n_invalid={metric.n_invalid})"


def counts(metric: Metric) -> str:
    """`n=30`, or `n=28, 2 invalid`."""
    return f"n={metric.n}" + (f", {metric.n_invalid} invalid" if metric.n_invalid else "")


def common_counts(figure: Figure, entries: Iterable[BoardRow]) -> str | None:
    """The counts for the column's head, if all rows with a value share them; None where they differ. The cell of a row
    without a value shows its own counts."""
    metrics = [entry.metrics[figure.metric] for entry in entries if figure.metric in entry.metrics]
    texts = {counts(metric) for metric in metrics if metric.value is not None}
    return texts.pop() if len(texts) == 1 else None


UNPAIRED = (
    "Each interval is about its own row: whether two rows differ is shown by the paired comparisons, and overlapping "
    "intervals say nothing about it."
)
