"""The figures that AlpacaEval declares for boards and gates."""

from collections.abc import Mapping
from typing import Any

from harness.benchmarks.alpaca_eval.length_control import OFFICIAL_GLM
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
    _percent(
        "lc_unpenalised",
        "unpenalised LC win rate",
        "LC0 win %",
        pairing=Pairing(kind="resamples"),
        compared=True,
        note="Unpenalised LC win rate: the regression of the LC win rate fitted without its L1 penalty, which on many "
        "boards removes the constant and so leaves no rate. It is not a figure of the package.",
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
    _count("from_samples", "verdicts by the share of several replies", "by samples"),
    _count("from_stated", "verdicts by a probability that the judge states", "stated"),
    _count("from_logprobs", "verdicts by log-probabilities, beside others", "by logprobs"),
    _count("thoughts", "verdicts after a thought, which was left out", "thoughts"),
    _percent("truncated", "answers cut at the token limit", "cut %", place="details", higher_is_better=False),
)
WITH_OFFICIAL_FIT = tuple(figure for figure in FIGURES if figure.name != "lc_unpenalised")


def figures_by(identity: Mapping[str, Any]) -> tuple[Figure, ...]:
    """The figures of a benchmark with this identity, or with these fields in a recipe."""
    fields = identity.get("prompts"), identity.get("reference") or "file", identity.get("length_control")
    is_official = identity.get("lc_glm") == OFFICIAL_GLM or fields == ("official", "file", "auto")
    return WITH_OFFICIAL_FIT if is_official else FIGURES
