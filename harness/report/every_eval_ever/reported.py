"""Which results of other people's records are figures of ours, and on what scale they are given.

A result counts only if its benchmark and its figure are named without doubt, it has a number of samples, and its scale
is known: of all others it is said why they are left out. AlpacaEval and MT-bench have many namesakes (MT-bench-101, a
Japanese MT-bench) which are other benchmarks.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from harness.report.every_eval_ever.schema import MetricConfig, Result
from harness.types import Metric

_NAMES = {
    "alpaca_eval": re.compile(r"alpacaeval(?P<version>v?[12]0?)?(?:leaderboard)?"),
    "mt_bench": re.compile(r"mtbench(?:overall|turn[12]|score|averagescore)?"),
}
"""Benchmarks as records name them, in lower case and without marks."""
_FIGURES: dict[str, dict[str, str]] = {
    "alpaca_eval": {
        "winrate": "win_rate",
        "lengthcontrolledwinrate": "lc_win_rate",
        "lcwinrate": "lc_win_rate",
        "discretewinrate": "discrete_win_rate",
        "avglength": "avg_length",
        "averagelength": "avg_length",
    },
    "mt_bench": {
        "overall": "score",
        "score": "score",
        "averagescore": "score",
        "turn1": "turn_1",
        "turn2": "turn_2",
    },
}
_RATES = ("win_rate", "lc_win_rate", "discrete_win_rate")
_PERCENT, _PROPORTION = ("percent", "percentage", "%"), ("proportion", "fraction", "ratio", "probability")


class Unusable(ValueError):
    """Why a result is left out."""


class Contradiction(ValueError):
    """What can't be right in a result: the field, and what was expected."""


class Reported(NamedTuple):
    """A figure of ours from a result. `identity`: what distinguishes the benchmark as it was measured there, as texts;
    `judge`: who gave the verdicts; empty where the result doesn't say."""

    metric: str
    figure: Metric
    identity: dict[str, str]
    judge: str


def reported(result: Result) -> Reported | None:
    """The figure that a result is; None for another benchmark's. Raises Unusable, and Contradiction."""
    if (found := _benchmark(result)) is None:
        return None
    benchmark, version = found
    name, config = _figure(benchmark, result), result.metric_config
    if config.lower_is_better and name != "avg_length":
        raise Contradiction(f"metric_config.lower_is_better: true for {benchmark}.{name}, expected false")
    check_bounds(result)
    scale = _scale(benchmark, name, result)
    samples = _samples(result)
    if samples is None:
        raise Unusable("without a number of samples")
    metric = scaled(result, scale, samples, 0)
    identity = {"name": benchmark, "version": version or "", "parameters": _parameters(config)}
    judge = ""
    if config.llm_scoring is not None:
        judge = ", ".join(one.model_info.id for one in config.llm_scoring.judges)
        prompt = config.llm_scoring.input_prompt.encode(errors="replace")
        identity |= {"judged_by": judge, "prompt_sha256": hashlib.sha256(prompt).hexdigest()}
    return Reported(f"{benchmark}.{name}", metric, {k: v for k, v in identity.items() if v}, judge)


def scaled(result: Result, scale: float, n: int, n_invalid: int) -> Metric:
    """A result's score with its uncertainty. Only an interval that says that it is a 95 % one is taken for one."""
    score, about = result.score_details.score, result.score_details.uncertainty
    error = about.standard_error.value if about and about.standard_error else None
    interval = about.confidence_interval if about else None
    ends = (interval.lower, interval.upper) if interval and interval.confidence_level == 0.95 else None
    if interval and interval.lower > interval.upper:
        raise Contradiction("score_details.uncertainty.confidence_interval: its lower bound is above its upper one")

    def on_scale(value: float) -> float:
        return float(value) if scale == 1 else scale * value

    return Metric(
        value=on_scale(score),
        stderr=None if error is None else on_scale(error),
        ci95=None if ends is None else (on_scale(ends[0]), on_scale(ends[1])),
        n=n,
        n_invalid=n_invalid,
    )


def check_bounds(result: Result) -> None:
    """Raises Contradiction for a score outside of its own bounds."""
    config, score = result.metric_config, result.score_details.score
    low, high = config.min_score, config.max_score
    if low is not None and high is not None and low > high:
        raise Contradiction(f"metric_config.min_score: {low:g} is above max_score {high:g}")
    if (low is not None and score < low) or (high is not None and score > high):
        raise Contradiction(f"score_details.score: {score:g} is outside of its bounds, {low} to {high}")


def _plain(name: str | None) -> str:
    return re.sub(r"[\W_]+", "", (name or "").lower())


def _benchmark(result: Result) -> tuple[str, str | None] | None:
    """(our benchmark, the version that the record names); None for another benchmark."""
    for benchmark, pattern in _NAMES.items():
        if match := pattern.fullmatch(_plain(result.evaluation_name)):
            stated = match.groupdict().get("version") or result.metric_config.metric_parameters.get(
                "leaderboard_version"
            )
            digits = re.sub(r"\D", "", str(stated or ""))
            return benchmark, digits[:1] or None
    return None


def _figure(benchmark: str, result: Result) -> str:
    """Our figure. The metric's id, its name and the evaluation's name may each say it, and must not differ."""
    config, own = result.metric_config, _FIGURES[benchmark]
    said = [_plain(config.metric_id), _plain(config.metric_name)]
    if benchmark == "mt_bench":
        said.append(_plain(result.evaluation_name))
    short = [re.sub(rf"^{_plain(benchmark)}(v?[12]0?)?(?=[a-z])", "", name) for name in said]
    found = {own[name] for name in short if name in own}
    if len(found) != 1:
        raise Unusable("of which no figure is named" if not found else "whose names are of different figures")
    return found.pop()


def _scale(benchmark: str, name: str, result: Result) -> float:
    """What a score is multiplied with for our scale. Raises Unusable where that can't be told."""
    config, unit = result.metric_config, (result.metric_config.metric_unit or "").strip().lower()
    high = config.max_score
    if name == "avg_length":
        if unit and not unit.startswith("char"):
            raise Unusable(f"whose length is in {unit[:20]}, not in characters")
        return 1.0
    if benchmark == "mt_bench":
        if high != 10 or config.min_score not in (0, 1):
            raise Unusable("on another scale than 1 to 10")
        return 1.0
    by_bound = float(high) if high is not None and high in (1, 100) else None
    by_unit = 100.0 if unit in _PERCENT else 1.0 if unit in _PROPORTION else None
    most = {x for x in (by_bound, by_unit) if x is not None}
    if len(most) != 1:
        raise Unusable("of which it isn't clear whether it is in percent")
    return 100.0 / most.pop()


def _samples(result: Result) -> int | None:
    about = result.score_details.uncertainty
    found = about.num_samples if about else None
    return found if found is not None else result.source_data.samples_number


def _parameters(config: MetricConfig) -> str:
    """What else the record says of how it was measured. One text, since its names are anybody's."""
    return ", ".join(f"{name}={value}" for name, value in sorted(config.metric_parameters.items()) if value is not None)


def one_identity(found: Sequence[Reported]) -> dict[str, dict[str, str]]:
    """The benchmarks' identities. Raises Contradiction where results of one benchmark were measured in different ways:
    a row has one."""
    identities: dict[str, dict[str, str]] = {}
    for one in found:
        benchmark = one.metric.split(".")[0]
        identity = identities.setdefault(benchmark, {})
        differs = sorted(name for name, value in one.identity.items() if identity.get(name, value) != value)
        if differs:
            raise Contradiction(f"metric_config: {benchmark}'s results differ in their {differs[0]}, expected one")
        identity |= one.identity
    return identities
