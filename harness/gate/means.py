"""The means that a gate tests, with what verdicts that are missing could make of them."""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

from harness.boards.entry import Entry
from harness.boards.outcomes import figure_values, strata_of
from harness.figures import Figure
from harness.gate.margins import Allowed
from harness.stats.bounds import Mean, mean_of
from harness.stats.crossed import mean_of_resamples
from harness.stats.noninferiority import NonInferiority, non_inferiority
from harness.stats.paired import per_prompt, prompt_of, within

MOST_MISSING = 0.05
"""The share of a row's prompts that may lack a verdict."""
ENOUGH_UNBOUNDED = 100
"""Prompts from which a figure without limits can be tested."""
Case = Literal[-1, 0, 1]
"""What missing verdicts are taken for: the worst for the row (its own lost, the baseline's won), left out, the best."""


class Tested(NamedTuple):
    """A test. `test.difference`: negative is worse, also where lower is better. `ci95`: of the difference. `margin`: in
    the unit of differences. `missing`: verdicts that were missing on either side. `mean`: the mean difference, with
    prompts left out that are not scored in both."""

    test: NonInferiority
    ci95: tuple[float, float]
    margin: float
    missing: int
    mean: Mean


def missing_of(entry: Entry, figure: Figure) -> tuple[int, int]:
    """(prompts that lack a verdict for the figure, prompts)."""
    outcomes = _of_turn(entry, figure)
    prompts = {prompt_of(key) for key in outcomes}
    return len({prompt_of(key) for key, value in outcomes.items() if value is None}), len(prompts)


def compare_rows(row: Entry, baseline: Entry, figure: Figure, margin: Allowed, alpha: float) -> Tested:
    """The paired test of a row against a baseline; both were measured alike, on the same two prompts at least.

    With a margin that is a share s of the baseline's value, the mean of new - (1 - s) · old is tested against 0, so
    that the baseline's own error counts. With missing verdicts, a row passes only if it would with the worst that they
    could be, and is worse only if it would be with the best."""
    mean, points = _difference(row, baseline, figure, margin.share, 0)
    allowed = margin.points if margin.share == 0 else points
    plain = _moved(mean, points)
    test, ci95 = non_inferiority(plain, allowed, alpha), plain.interval()
    missing = sum(missing_of(entry, figure)[0] for entry in (row, baseline))
    if missing:
        worst, best = (_moved(_difference(row, baseline, figure, margin.share, case)[0], points) for case in (-1, 1))
        low, high = (non_inferiority(bound, allowed, alpha) for bound in (worst, best))
        outcomes = {low.outcome, high.outcome}
        test = test._replace(
            outcome=outcomes.pop() if len(outcomes) == 1 else "inconclusive", lower=low.lower, upper=high.upper
        )
        ci95 = worst.interval()[0], best.interval()[1]
    if figure.reach is None and plain.n < ENOUGH_UNBOUNDED:
        # Without limits, few prompts can't tell that a large loss is not among those that nobody has seen.
        test = test._replace(outcome="inconclusive")
    return Tested(test, within(ci95, figure.reach or math.inf), allowed, missing, plain)


def own_bounds(entry: Entry, figure: Figure, alpha: float) -> tuple[float, float, int]:
    """(lower, upper, prompts): one-sided bounds at `alpha` of a row's own figure, in the unit of differences, whatever
    verdicts that are missing would be."""
    cases: tuple[Case, Case] = (-1, 1) if missing_of(entry, figure)[0] else (0, 0)
    if figure.higher_is_better is False:
        cases = cases[1], cases[0]
    low, high = (_own(entry, figure, case) for case in cases)
    lower, upper = low.bound(alpha, -1), high.bound(alpha, 1)
    if figure.reach is None and low.n < ENOUGH_UNBOUNDED:
        lower, upper = -math.inf, math.inf
    if figure.ends is not None:
        lower, upper = max(lower, figure.ends[0]), min(upper, figure.ends[1])
    return lower, upper, low.n


def own_mean(entry: Entry, figure: Figure) -> Mean:
    """The row's own figure over prompts, in the unit of differences."""
    return _own(entry, figure, 0)


def _own(entry: Entry, figure: Figure, case: Case) -> Mean:
    low, high = figure.ends or (0.0, 0.0)
    centre, reach = (low + high) / 2, (high - low) / 2
    if _is_resampled(figure):
        value = figure.per_unit * (entry.metrics[figure.metric].value or 0.0)
        resamples = [figure.per_unit * x for x in entry.resamples[figure.metric]]
        lacking, n = missing_of(entry, figure)
        mean = mean_of_resamples(value + _sign(figure) * case * (high - low) * lacking / n, resamples, n, reach)
        return mean._replace(centre=centre if figure.ends else mean.value)
    values = {key: v for key, v in _values(entry, figure, case).items() if v is not None}
    keys = sorted(values)
    by_prompt, strata = per_prompt(values, keys), _strata([entry], figure, keys)
    if figure.ends is None:
        return mean_of(by_prompt, None, sum(by_prompt) / len(by_prompt), strata)
    return mean_of(by_prompt, reach, centre, strata)


def _difference(row: Entry, baseline: Entry, figure: Figure, share: float, case: Case) -> tuple[Mean, float]:
    """(the mean of new - old + share · old, with signs such that negative is worse; the share of the old mean)."""
    sign = _sign(figure)
    if _is_resampled(figure):
        return _difference_of_resamples(row, baseline, figure, share, case)
    other: Case = 0 if case == 0 else 1 if case == -1 else -1
    new, old = _values(row, figure, case), _values(baseline, figure, other)
    pairs = {k: (a, b) for k, a in new.items() if a is not None and (b := old.get(k)) is not None}
    keys = sorted(pairs)
    values = {key: sign * (a - b) + share * b for key, (a, b) in pairs.items()}
    points = share * sum(b for _, b in pairs.values()) / len(pairs)
    reach, centre = _reach(figure, share)
    return mean_of(per_prompt(values, keys), reach, centre, _strata([row, baseline], figure, keys)), points


def _difference_of_resamples(
    row: Entry, baseline: Entry, figure: Figure, share: float, case: Case
) -> tuple[Mean, float]:
    """For a figure that both rows have recomputed in the same resamples of the same prompts. Rows that lack a verdict
    have other resamples, which makes the bounds wider. A missing verdict moves such a figure by what it would move a
    mean."""
    sign, metric = _sign(figure), figure.metric
    ours, theirs = (figure.per_unit * (entry.metrics[metric].value or 0.0) for entry in (row, baseline))
    pairs = zip(row.resamples[metric], baseline.resamples[metric], strict=True)
    resamples = [figure.per_unit * (sign * (a - b) + share * b) for a, b in pairs]
    reach, centre = _reach(figure, share)
    n = missing_of(row, figure)[1]
    moved = case * (figure.reach or 0.0) * sum(missing_of(entry, figure)[0] for entry in (row, baseline)) / n
    value = sign * (ours - theirs) + share * theirs + moved
    mean = mean_of_resamples(value, resamples, n, reach or 0.0)
    return mean._replace(centre=centre), share * theirs


def _reach(figure: Figure, share: float) -> tuple[float | None, float]:
    """(how far from the centre a prompt's difference can be, the centre). A share of the old value, 0 to W, is added to
    a difference of -W to W: with the signs, the sum reaches from -W + (0 or share · W) to W + (share · W or 0)."""
    if figure.reach is None or share == 0:
        return figure.reach, 0.0
    return figure.reach * (1 - share * _sign(figure) / 2), figure.reach * share / 2


def _moved(mean: Mean, points: float) -> Mean:
    """The mean less `points`, with its bounds."""
    return mean._replace(value=mean.value - points, centre=mean.centre - points) if points else mean


def _values(entry: Entry, figure: Figure, case: Case) -> Mapping[str, float | None]:
    """The figure's values by prompt and turn; missing ones are the worst or the best that a value can be."""
    if case == 0 or figure.metric not in entry.metrics:
        return figure_values(entry, figure)
    return filled_values(entry.outcomes.get(figure.benchmark, {}), figure, case)


def filled_values(outcomes: Mapping[str, float | None], figure: Figure, case: Case) -> dict[str, float | None]:
    """The figure's values of outcomes by prompt and turn. Missing ones are the worst or the best that a value can be,
    if the figure has limits."""
    assert figure.pairing is not None
    if case == 0 or figure.ends is None:
        return figure.pairing.values(outcomes)
    end = figure.ends[0 if case * _sign(figure) < 0 else 1]
    if figure.pairing.kind == "share":
        filling = figure.pairing.offset + (1 if end > 0 else -1)
    else:
        filling = end / figure.pairing.scale + figure.pairing.offset
    return figure.pairing.values({key: filling if v is None else v for key, v in outcomes.items()})


def _of_turn(entry: Entry, figure: Figure) -> Mapping[str, float | None]:
    """The outcomes that the figure is about."""
    outcomes = entry.outcomes.get(figure.benchmark, {})
    if figure.pairing is None or figure.pairing.kind == "resamples":
        return outcomes
    return figure.pairing.of_each(outcomes)


def _strata(rows: list[Entry], figure: Figure, keys: list[str]) -> list[str] | None:
    categories = strata_of(rows, figure)
    return None if categories is None else [categories.get(p, "") for p in dict.fromkeys(map(prompt_of, keys))]


def _sign(figure: Figure) -> int:
    return -1 if figure.higher_is_better is False else 1


def _is_resampled(figure: Figure) -> bool:
    return figure.pairing is not None and figure.pairing.kind == "resamples"
