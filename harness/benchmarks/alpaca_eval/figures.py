"""The figures that AlpacaEval declares for boards and gates."""

from typing import Any

from harness.figures import Figure, Pairing


def _figure(name: str, title: str, short: str, decimals: int = 1, **more: Any) -> Figure:
    return Figure(metric=f"alpaca_eval.{name}", group="AlpacaEval", title=title, short=short, decimals=decimals, **more)


def _percent(name: str, title: str, short: str, **more: Any) -> Figure:
    return _figure(name, title, short, unit="%", limits=(0.0, 100.0), **more)


def _count(name: str, title: str, short: str, decimals: int = 0, **more: Any) -> Figure:
    return _figure(name, title, short, decimals, higher_is_better=None, place="details", **more)


FIGURES = (
    # A verdict is a preference in [1, 2]; 2: won over the reference.
    _percent("win_rate", "win rate", "win %", pairing=Pairing(scale=100, offset=1), compared=True, rated=True),
    _percent(
        "lc_win_rate",
        "LC win rate",
        "LC win %",
        pairing=Pairing(kind="resamples"),
        compared=True,
        note="LC: length-controlled, by the regression that the benchmark's line names.",
    ),
    _figure("avg_length", "average length", "length", 0, unit="characters", higher_is_better=None),
    _count("wins", "wins", "wins", counted=("above", 1.5)),
    _count("draws", "draws", "draws", counted=("equal", 1.5)),
    _count("losses", "losses", "losses", counted=("below", 1.5)),
    _percent(
        "discrete_win_rate",
        "discrete win rate",
        "discrete %",
        place="details",
        pairing=Pairing(kind="share", scale=100, offset=1.5),
    ),
    _count(
        "lc_standard_error",
        "spread of the LC regression's probabilities (the package's lc_standard_error)",
        "LC spread",
        2,
    ),
    _count("from_text", "verdicts by text alone, without weights", "by text"),
    _percent("truncated", "answers cut at the token limit", "cut %", place="details", higher_is_better=False),
)
