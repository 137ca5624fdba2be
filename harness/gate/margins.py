"""Margins and floors as people write them, in the unit in which a gate tests."""

import math

from harness.boards.entry import Entry
from harness.errors import HarnessError
from harness.figures import Figure, read_margin
from harness.types import Record


class Check(Record):
    """What a gate requires: by `metric`, the row is not worse than the baseline by more than `margin` at the one-sided
    level `alpha`, and not below `minimum` (not above it, where lower is better).

    `margin`: a number in the unit of the figure's differences (percentage points for shares), or a share of the
    baseline's value such as `10%`; None: as the figure declares. `anchor_margin`: the same against a baseline's anchor;
    None: `margin`. `allow`: a row that a validity guard has flagged may pass."""

    metric: str = "alpaca_eval.win_rate"
    margin: float | str | None = None
    alpha: float = 0.05
    minimum: float | None = None
    anchor_margin: float | str | None = None
    allow: bool = False


def checked(check: Check) -> Check:
    """The check, with its numbers read. Raises HarnessError for one that is none, NaN included."""
    margins = {}
    for name, value in (("margin", check.margin), ("anchor_margin", check.anchor_margin)):
        try:
            margins[name] = read_margin(value)
        except ValueError as error:
            raise HarnessError(f"gate: {name}: {error}") from None
    if not 0 < check.alpha < 0.5:
        raise HarnessError(f"gate: alpha: expected a number above 0 and below 0.5, got {check.alpha}")
    if check.minimum is not None and not math.isfinite(check.minimum):
        raise HarnessError(f"gate: min: expected a number, got {check.minimum}")
    return check.model_copy(update=margins)


class Allowed(Record):
    """A margin that can be tested: `points` in the unit of differences, or else `share` of the baseline's value."""

    points: float = 0.0
    share: float = 0.0


def given_margin(margin: float | str | None, figure: Figure) -> Allowed | str:
    """The margin that holds for a figure, or the reason why none does."""
    margin = figure.default_margin if margin is None else margin
    if margin is None:
        unit = f" in {figure.unit}" if figure.unit else ""
        return f"{figure.metric} is not in percent and declares no margin: a margin{unit} is required"
    if not isinstance(margin, str):
        return Allowed(points=margin)
    if not figure.in_percent or figure.ends is None or figure.ends[0] != 0:
        return f"a margin of {margin} of the baseline's value needs a rate in percent, and {figure.metric} is none"
    return Allowed(share=float(margin.removesuffix("%")) / 100)


def allowed(margin: float | str | None, figure: Figure, baseline: Entry) -> Allowed | str:
    """The margin against a baseline, or the reason why there is none."""
    given = given_margin(margin, figure)
    if not isinstance(given, Allowed) or given.share == 0:
        return given
    value = baseline.value(figure.metric)
    if value is None or not value > 0:
        text = "not scored" if value is None else f"{value:g}"
        return f"a margin of {margin} needs a baseline above 0, and its {figure.metric} is {text}; give it in points"
    return given


def floor(minimum: float, figure: Figure) -> float | str:
    """A floor in the unit of differences, or the reason why it is none. For a figure that is a share between 0 and 1,
    up to 1 it is such a share, and above 1 it is in percent: 0.6 and 60 are the same."""
    value = minimum * figure.per_unit if abs(minimum) <= 1 else minimum
    if figure.ends is not None and not figure.ends[0] <= value <= figure.ends[1]:
        low, high = figure.ends
        unit = " %" if figure.in_percent else ""
        given = f"{minimum:g}".replace("-", "−")
        return f"a floor of {given} is outside of what {figure.metric} can be, {low:g} to {high:g}{unit}"
    return value
