"""AlpacaEval's win rates and output lengths."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.benchmarks.alpaca_eval import length_control
from harness.benchmarks.alpaca_eval.package import alpaca_eval_contained
from harness.stats.intervals import mean_metric, proportion_metric
from harness.types import Answer, Metric

PERCENT = (0.0, 100.0)
"""The limits of a rate."""
HALF = 50.0
"""The rate of a row against itself."""


def win_rates(preferences: Sequence[float | None]) -> dict[str, Metric]:
    """The rates of the package's `get_winrate`, with the harness's intervals."""
    scored = [p for p in preferences if p is not None]
    won = mean_metric([None if p is None else p - 1 for p in preferences], scale=100, limits=PERCENT)
    if not scored:
        return {"win_rate": won, "discrete_win_rate": won}
    with alpaca_eval_contained():
        from alpaca_eval.metrics import get_winrate

        package: Mapping[str, Any] = get_winrate([{"preference": p} for p in scored])
    # A preference of exactly 1.5 is a draw; any other counts as the side it leans to.
    sides = [None if p is None else 0.5 if p == 1.5 else round(p) - 1 for p in preferences]
    discrete = mean_metric(sides, scale=100, limits=PERCENT)
    stderr = None if len(scored) < 2 else float(package["standard_error"])
    figures = {
        "win_rate": won.model_copy(update={"value": float(package["win_rate"]), "stderr": stderr}),
        "discrete_win_rate": discrete.model_copy(update={"value": float(package["discrete_win_rate"])}),
    }
    for name, key in {"wins": "n_wins", "losses": "n_wins_base", "draws": "n_draws"}.items():
        figures[name] = Metric(value=float(package[key]), n=won.n, n_invalid=won.n_invalid)
    return figures


def by_construction(metrics: Mapping[str, Metric], *, with_unpenalised: bool) -> dict[str, Metric]:
    """The rates of a row whose outputs are the reference's, controlled for length or not: the win rate, which is 50 by
    construction and so has no uncertainty. `metrics`: those of `win_rates`."""
    rate = metrics["win_rate"]
    rates = {"lc_win_rate": rate}
    if rate.value == HALF and not rate.stderr:
        rate = rate.model_copy(update={"stderr": None, "ci95": None})
        rates = dict.fromkeys(("win_rate", "discrete_win_rate", "lc_win_rate"), rate)
    if with_unpenalised and rate.value is not None:
        # So that other rows can be compared with it.
        rates["lc_unpenalised"] = rate.model_copy(update={"resamples": (rate.value,) * length_control.RESAMPLES})
    return rates


def length_metrics(outputs: Sequence[str], answers: Sequence[Answer]) -> dict[str, Metric]:
    """`avg_length` of the outputs, in characters, and `truncated`, the percentage of answers cut at the token limit;
    the latter is absent if no answer has finish reasons."""
    length = mean_metric([len(text) for text in outputs])
    # The package cuts the mean to a whole number.
    value = None if length.value is None else float(int(length.value))
    metrics = {"avg_length": length.model_copy(update={"value": value})}
    if ended := [a.finish_reasons[-1] == "length" for a in answers if a.finish_reasons]:
        metrics["truncated"] = proportion_metric(ended, scale=100)
    return metrics
