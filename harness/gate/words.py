"""What a gate says: one line that a reader takes the right way."""

from harness.boards.entry import BoardRow
from harness.boards.facts import agreement_words, calibration, chance_words, judge_name
from harness.boards.format import number, signed
from harness.boards.provenance import JudgeCalibration
from harness.components import benchmark_class
from harness.figures import HELDOUT, Figure
from harness.gate.means import ENOUGH_UNBOUNDED, Tested
from harness.stats.bounds import FEWEST
from harness.stats.paired import POWER
from harness.stats.sequential import Betting


def minus(text: str) -> str:
    """A number with a minus sign instead of a hyphen."""
    return text.replace("-", "−")


def percent(share: float) -> str:
    """`95 %`."""
    return f"{100 * share:.4g} %"


def natural(tested: Tested, figure: Figure) -> tuple[float, float, float]:
    """(new minus old, its 95 % confidence interval) with the figure's own sign, also where lower is better."""
    low, high = tested.ci95
    if figure.higher_is_better is False:
        return -tested.test.difference, -high, -low
    return tested.test.difference, low, high


_HIDDEN = f"of a figure without limits fewer than {ENOUGH_UNBOUNDED} prompts can hide a large loss"


def of_comparison(tested: Tested, figure: Figure, alpha: float, against: str, anchor: bool) -> str:
    """`alpaca_eval.win_rate −1.2 points (95 % CI −2.0 to −0.3) on 805 prompts: worse than allowed (margin 0.5; ...)`.
    `anchor`: the comparison is with a baseline's anchor."""
    test, decimals = tested.test, decimals_of(figure, tested.margin)
    difference, low, high = natural(tested, figure)
    against = f"against the anchor {against}: " if anchor else ""
    head = f"{against}{figure.metric} {signed(difference, decimals)}{_unit(figure)}"
    if figure.higher_is_better is False:
        head += ", lower is better"
    lacking = (
        f", {_counted(tested.missing, 'verdict')} missing and taken at worst and at best" if tested.missing else ""
    )
    if test.n < FEWEST:
        return f"{head} on {test.n} prompts{lacking}: inconclusive, since fewer than {FEWEST} prompts tell nothing"
    interval = f"95 % CI {number(low, decimals)} to {number(high, decimals)}"
    head += f" ({interval}) on {test.n:,} prompts{lacking}: "
    # Margins and bounds are about how much worse a row is, in the figure's own direction.
    flip = -1 if figure.higher_is_better is False else 1
    lower, upper = (number(flip * x, decimals + 1) for x in (test.lower, test.upper))
    margin, level = f"margin {minus(f'{tested.margin:.3g}')}", f"one-sided {percent(1 - alpha)} bound"
    than = "the anchor" if anchor else "allowed"
    if test.outcome == "not worse":
        return f"{head}not worse than {than}{' by more than allowed' if anchor else ''} ({margin}; {level} {lower})"
    if test.outcome == "worse":
        return f"{head}worse than {than}{' by more than allowed' if anchor else ''} ({margin}; {level} {upper})"
    if figure.reach is None and test.n < ENOUGH_UNBOUNDED:
        return f"{head}inconclusive ({margin}), since {_HIDDEN}"
    settles = number(test.settles, decimals)
    ends = f"{level}s {lower} and {upper}" if flip == 1 else f"{level}s {upper} and {lower}"
    return f"{head}inconclusive ({margin}; {ends}); {test.n:,} prompts can settle a margin of {settles}"


def of_floor(value: float, bounds: tuple[float, float, int], floor: float, figure: Figure, alpha: float) -> str:
    """`heldout.pair_accuracy is 61.5 %: can't be told from the floor of 60 % (one-sided 95 % bounds ...)`."""
    lower, upper, n = bounds
    decimals = decimals_of(figure, floor)
    unit = " %" if figure.in_percent else f" {figure.unit}" if figure.unit else ""
    lower_is_better = figure.higher_is_better is False
    side, name = ("above", "ceiling") if lower_is_better else ("below", "floor")
    head = f"{figure.metric} is {number(value, decimals)}{unit} on {n:,} prompts"
    limit = f"the {name} of {minus(f'{floor:.6g}')}{unit}"
    if n < FEWEST:
        return f"{head}: inconclusive, since fewer than {FEWEST} prompts tell nothing about {limit}"
    if figure.reach is None and n < ENOUGH_UNBOUNDED:
        return f"{head}: inconclusive, since {_HIDDEN}"
    low, high = (number(x, decimals + 1) for x in (lower, upper))
    level = f"one-sided {percent(1 - alpha)} bound"
    if (upper <= floor) if lower_is_better else (lower >= floor):
        return f"{head}: not {side} {limit} ({level} {high if lower_is_better else low})"
    if (lower > floor) if lower_is_better else (upper < floor):
        return f"{head}: {side} {limit} ({level} {low if lower_is_better else high})"
    return f"{head}: inconclusive, whether that is {side} {limit} can't be told ({level}s {low} and {high})"


def of_judge(row: BoardRow, figure: Figure) -> str:
    """`the judge is no better than chance (...): this says nothing about quality`; empty where that isn't so."""
    unjudged = figure.benchmark == HELDOUT or not benchmark_class(figure.benchmark).judged
    found = None if unjudged else calibration(row)
    return "" if found is None else of_calibration(judge_name(row) or "unnamed", found)


def of_calibration(judge: str, found: JudgeCalibration) -> str:
    """The same of a judge by its name."""
    if found.verdict != "at_chance":
        return ""
    measured = f", {words}" if (words := agreement_words(found)) else ""
    return f"the judge is {chance_words(found.here)} ({judge}{measured}): this says nothing about quality"


def of_power(power: float, n: int, margin: float, alpha: float, assumption: str, figure: Figure, settles: float) -> str:
    """`with these 805 prompts a gate on mt_bench.score at margin 0.2 passes an equal row with 93 % power (...)`; with
    little power also what follows, and the margin that it `settles` with 80 %."""
    little = (
        f": it mostly ends inconclusive, exit code 3; at margin {settles:.3g} it passes with {percent(POWER)} power"
        if power < POWER
        else ""
    )
    return (
        f"with these {n:,} prompts a gate on {figure.metric} at margin {margin:.3g}{_unit(figure)} passes an equal row "
        f"with {100 * power:.0f} % power{little} "
        f"(one-sided {percent(1 - alpha)} bound; {assumption})"
    )


def decimals_of(figure: Figure, *others: float) -> int:
    """As many as tables show, and one more where the margin has more."""
    base = 1 if figure.in_percent else figure.difference_decimals
    return base + any(round(x, base) != round(x, 6) for x in others)


def _unit(figure: Figure) -> str:
    """What follows a difference."""
    return " points" if figure.in_percent else f" {figure.unit}" if figure.unit else ""


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def of_sequence(betting: Betting, figure: Figure, margin: float, alpha: float, prompts: int, missing: int) -> str:
    """`alpaca_eval.win_rate +3.1 points (bounds −0.2 and 6.4, valid at every n) after 120 of 805 prompts: ...`."""
    decimals = decimals_of(figure, margin)
    flip = -1 if figure.higher_is_better is False else 1
    ends = sorted(flip * x for x in betting.bounds())
    low, high = (number(x, decimals + 1) for x in ends)
    head = f"{figure.metric} {signed(flip * betting.difference, decimals)}{_unit(figure)}"
    lacking = f", {_counted(missing, 'verdict')} missing and taken at worst and at best" if missing else ""
    level = f"one-sided {percent(1 - alpha)} bounds {low} and {high}, valid at every n"
    said = {
        "not worse": "not worse than allowed",
        "worse": "worse than allowed",
        "inconclusive": "not settled",
    }[betting.outcome]
    asked = f"after {betting.n:,} of {prompts:,} prompts{lacking}"
    return f"{head} ({level}) {asked}: {said} (margin {margin:.3g})"
