"""A row's outcomes prompt by prompt, in the units of a metric: what paired tests and gates compare."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import get_args

from harness.board_rows import Entry, comparable
from harness.elo import Strength, strengths
from harness.paired import Comparison, compare, compare_resamples, holm
from harness.recipe_metrics import GateMetric

METRICS = get_args(GateMetric)
LC = "alpaca_eval.lc_win_rate"
"""The one of METRICS that is no mean over prompts."""
MOST_ELO = 20
COMPARED = ("alpaca_eval.win_rate", LC, "mt_bench.score", "mt_bench.win_rate", "heldout.pair_accuracy")
"""What a board compares rows by."""


def values(entry: Entry, metric: str) -> dict[str, float | None]:
    """The metric's values by prompt (`id/turn` for MT-bench), in its unit; None where not scored; empty where the row
    has none."""
    if metric not in entry.metrics or metric not in METRICS or metric == LC:
        return {}
    group, name = metric.split(".")
    found = entry.outcomes.get(group, {})
    if group == "mt_bench":
        turn = name.removeprefix("turn_") if name.startswith("turn_") else None
        scale = 100 if entry.section("benchmarks").get(group, {}).get("mode") == "pairwise" else 1
        kept = {k: v for k, v in found.items() if turn is None or k.split("/")[1:2] == [turn]}
        return {k: None if v is None else scale * v for k, v in _sampled_once(kept).items()}
    if metric == "heldout.pair_accuracy":
        return {k: None if v is None else 100 * _share(v, 0) for k, v in found.items()}
    if group == "heldout":
        return dict(found)
    if name == "discrete_win_rate":
        return {k: None if v is None else 100 * _share(v, 1.5) for k, v in found.items()}
    return {k: None if v is None else 100 * (v - 1) for k, v in found.items()}


def _sampled_once(found: Mapping[str, float | None]) -> dict[str, float | None]:
    """By question and turn: the mean over the question's samples (`81#2/1`), as the figure has it."""
    samples: dict[str, list[float | None]] = {}
    for key, value in found.items():
        question, slash, turn = key.partition("/")
        samples.setdefault(f"{question.split('#')[0]}{slash}{turn}", []).append(value)
    known = {key: [x for x in values if x is not None] for key, values in samples.items()}
    return {key: fmean(values) if values else None for key, values in known.items()}


def _share(value: float, even: float) -> float:
    return (value > even) + 0.5 * (value == even)


def comparisons(entries: Sequence[Entry]) -> dict[str, list[Comparison]]:
    """All pairs of rows that stand in one table, by metric, each with Holm's correction over the metric's pairs."""
    found: dict[str, list[Comparison]] = {}
    for rows in comparable(entries):
        for metric in COMPARED:
            made = _length_controlled(rows) if metric == LC else _means(rows, metric)
            if made:
                found.setdefault(metric, []).extend(made)
    return found


def elo(entries: Sequence[Entry]) -> dict[str, dict[str, Strength]]:
    """Bradley-Terry strengths of rows that stand in one table, by metric and row: by the win rate's verdicts and the
    ratings of turns. Of more than MOST_ELO rows, and of two, none is made."""
    found: dict[str, dict[str, Strength]] = {}
    for rows in comparable(entries):
        for metric in ("alpaca_eval.win_rate", "mt_bench.score", "mt_bench.win_rate"):
            by_row = {entry.id: own for entry in rows if (own := values(entry, metric))}
            if 2 < len(by_row) <= MOST_ELO:
                found.setdefault(metric, {}).update(strengths(by_row))
    return {metric: made for metric, made in found.items() if made}


def _means(rows: Sequence[Entry], metric: str) -> list[Comparison]:
    by_row = {entry.id: own for entry in rows if (own := values(entry, metric))}
    return compare(by_row) if len(by_row) > 1 else []


def _length_controlled(rows: Sequence[Entry]) -> list[Comparison]:
    """By the figure in the same resamples of the same prompts; only of rows that have all verdicts."""
    whole = []
    for entry in rows:
        scored = entry.outcomes.get("alpaca_eval", {})
        if entry.resamples.get(LC) and scored and None not in scored.values() and entry.metrics[LC].value is not None:
            whole.append(entry)
    made = []
    for i, first in enumerate(whole):
        for second in whole[i + 1 :]:
            keys = [tuple(e.outcomes["alpaca_eval"]) for e in (first, second)]
            drawn = first.resamples[LC], second.resamples[LC]
            if set(keys[0]) == set(keys[1]) and len(drawn[0]) == len(drawn[1]):
                figures = float(first.metrics[LC].value or 0), float(second.metrics[LC].value or 0)
                made.append(compare_resamples(first.id, second.id, figures, drawn, len(keys[0])))
    return [c.model_copy(update={"adjusted_p": p}) for c, p in zip(made, holm([c.p for c in made]), strict=True)]
