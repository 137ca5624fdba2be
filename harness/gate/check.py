"""The regression check: is a row of a board worse than a baseline row by more than a margin?

A paired non-inferiority test over the prompts that both were judged on. Rows that can't be compared (different judge,
template, prompt set or reference, or missing verdicts) are refused with the reason and never pass.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from harness.boards.catalog import Figures
from harness.boards.entry import Entry
from harness.boards.outcomes import figure_values
from harness.components import benchmark_class
from harness.errors import nearest, quoted
from harness.figures import HELDOUT, Figure
from harness.stats.noninferiority import NonInferiority, from_resamples, non_inferiority
from harness.stats.paired import prompt_of
from harness.types import Record

Code = Literal[0, 1, 2, 3]
PASS: Final = 0
WORSE: Final = 1
REFUSED: Final = 2
INCONCLUSIVE: Final = 3
"""Exit codes."""
VERDICTS: Final[dict[Code, str]] = {
    PASS: "pass",
    WORSE: "worse",
    REFUSED: "can't be compared",
    INCONCLUSIVE: "inconclusive",
}


class Check(Record):
    """What a gate requires: by `metric`, the row is not worse than the baseline by more than `margin` (percent points
    for shares, else the figure's unit; None: as the figure declares) at the one-sided level `alpha`, and not below
    `minimum` (not above it, where lower is better)."""

    metric: str = "alpaca_eval.win_rate"
    margin: float | None = None
    alpha: float = 0.05
    minimum: float | None = None


class Result(NamedTuple):
    """The outcome of a check. `code`: an exit code. `reason`: one line. `test`: the paired test; None where none was
    run."""

    code: Code
    row: str
    baseline: str | None
    check: Check
    reason: str
    test: NonInferiority | None = None


def run_gate(row: Entry, baseline: Entry | None, check: Check) -> Result:
    """One check of one row; without a baseline only the floor is checked."""
    against = baseline.id if baseline else None
    figure = _figure(row, baseline, check.metric)
    if isinstance(figure, str):
        return Result(REFUSED, row.id, against, check, figure)
    check = check if check.margin is not None else check.model_copy(update={"margin": figure.margin})
    if reason := _incomparable(row, baseline, check, figure):
        return Result(REFUSED, row.id, against, check, reason)
    value, lower_is_better = row.metrics[check.metric].value, figure.higher_is_better is False
    side, bound = ("above", "ceiling") if lower_is_better else ("below", "floor")
    if check.minimum is not None and (
        value is None or (value > check.minimum if lower_is_better else value < check.minimum)
    ):
        score = "is not scored" if value is None else f"is {value:.2f}"
        return Result(WORSE, row.id, against, check, f"{check.metric} {score}, {side} the {bound} of {check.minimum:g}")
    if baseline is None:
        return Result(PASS, row.id, None, check, f"{check.metric} is {value:.2f}, the {bound} {check.minimum:g}")
    test = _test(row, baseline, check, figure)
    code: Code = PASS if test.outcome == "not worse" else WORSE if test.outcome == "worse" else INCONCLUSIVE
    return Result(code, row.id, baseline.id, check, _reason(check, test, figure), test)


def _test(row: Entry, baseline: Entry, check: Check, figure: Figure) -> NonInferiority:
    """The paired test; signs are flipped where lower is better, so that a negative difference is worse."""
    sign, margin = -1.0 if figure.higher_is_better is False else 1.0, check.margin or 0.0
    if figure.pairing is not None and figure.pairing.kind == "resamples":
        # Both rows have the figure recomputed in the same resamples of the same prompts.
        ours, theirs = (entry.metrics[check.metric].value or 0.0 for entry in (row, baseline))
        resamples = zip(row.resamples[check.metric], baseline.resamples[check.metric], strict=True)
        differences = [sign * (a - b) for a, b in resamples]
        n = len(row.outcomes[figure.benchmark])
        return from_resamples(sign * (ours - theirs), differences, margin, check.alpha, n)
    new, old = (figure_values(entry, figure) for entry in (row, baseline))
    keys = sorted(new)
    pairs = [(new[key], old[key]) for key in keys]
    differences = [sign * (a - b) for a, b in pairs if a is not None and b is not None]  # no verdict is missing
    return non_inferiority(differences, margin, check.alpha, [prompt_of(key) for key in keys])


def _figure(row: Entry, baseline: Entry | None, metric: str) -> Figure | str:
    """The figure to compare by, or the reason why there is none."""
    figures = Figures([row, *([baseline] if baseline else [])])
    metrics = [figure.metric for figure in figures.gated]
    if metric in metrics:
        return figures[metric]
    declared = benchmark_class(metric.split(".")[0]).figures_of({})
    if metric in {figure.metric for figure in declared if figure.pairing is not None}:
        return f"row '{row.id}' has no {metric}; evaluate it with that benchmark"
    return f"unknown metric {quoted(metric)}; {nearest(metric, metrics)}"


def _reason(check: Check, test: NonInferiority, figure: Figure) -> str:
    """The test's outcome in one line."""
    level, margin = f"{100 * (1 - check.alpha):g} %", f"{-(check.margin or 0):g}"
    turned = " (lower is better, so negative means higher)" if figure.higher_is_better is False else ""
    difference = f"{check.metric} differs by {test.difference:+.2f}{turned} on {test.n} prompts"
    if test.outcome == "not worse":
        return f"{difference}; with {level} confidence by more than {test.lower:+.2f}, the margin is {margin}"
    if test.outcome == "worse":
        return f"{difference}; with {level} confidence by less than {test.upper:+.2f}, the margin is {margin}"
    needed = "an unknown number of prompts" if test.needed is None else f"about {test.needed:,} prompts"
    return (
        f"{difference}, between {test.lower:+.2f} and {test.upper:+.2f}: whether that is past the margin of {margin} "
        f"can't be told at this n; {needed} would settle it"
    )


def _incomparable(row: Entry, baseline: Entry | None, check: Check, figure: Figure) -> str | None:
    """Why the rows can't be compared, in one line; None where they can."""
    for entry in (row, *([baseline] if baseline else [])):
        if check.metric not in entry.metrics:
            return f"row '{entry.id}' has no {check.metric}; evaluate it with that benchmark"
        group = figure.benchmark
        if group not in entry.outcomes:
            return f"row '{entry.id}' has no outcomes by prompt; expected its entry file beside board.json"
        if missing := sum(value is None for value in entry.outcomes[group].values()):
            total = len(entry.outcomes[group])
            return f"row '{entry.id}': {missing} of {total} verdicts of {group} are missing; run it again to get them"
    if baseline is None:
        return None if check.minimum is not None else "no baseline and no floor: nothing to compare with"
    if reason := _different(row, baseline, figure.benchmark):
        return reason
    resampled = figure.pairing is not None and figure.pairing.kind == "resamples"
    return _unresampled(row, baseline, check.metric) if resampled else None


def _different(row: Entry, baseline: Entry, group: str) -> str | None:
    """How the two were measured differently: judge, benchmark, reference answers or prompts."""
    if group != HELDOUT:
        judges = [entry.provenance.judge or {} for entry in (baseline, row)]
        if judges[0] != judges[1]:
            return f"different judge: {_difference(*judges)}"
        mine, theirs = (entry.provenance.benchmark(group) for entry in (row, baseline))
        if mine != theirs:
            return f"different {group}: {_difference(theirs, mine)}"
        new_reference, old_reference = (entry.provenance.references.get(group) for entry in (row, baseline))
        if new_reference != old_reference:
            return f"{group} was judged against different answers of row '{mine.get('reference')}'"
    mine, theirs = row.outcomes[group], baseline.outcomes[group]
    if mine.keys() != theirs.keys():
        only = len(theirs.keys() - mine.keys()), len(mine.keys() - theirs.keys())
        return f"different prompts: {only[0]} of the baseline's are missing, and {only[1]} are new"
    if len({prompt_of(key) for key in mine}) < 2:
        return "one prompt is too few for a test"
    return None


def _unresampled(row: Entry, baseline: Entry, metric: str) -> str | None:
    """Why figures that are not means over prompts can't be compared; None where they can."""
    for entry in (row, baseline):
        if entry.metrics[metric].value is None:
            return f"row '{entry.id}': its {metric} could not be computed"
        if not entry.resamples.get(metric):
            return f"row '{entry.id}' has no resamples of {metric}; run it again to get them"
    same = len(row.resamples[metric]) == len(baseline.resamples[metric])
    return None if same else f"their {metric} were resampled differently; run the older one again"


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The first field that differs, as `model: a -> b`."""
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            return f"{key}: {str(old.get(key))[:60]} -> {str(new.get(key))[:60]}"
    return "the descriptions differ"


def worst(results: Sequence[Result]) -> Code:
    """The exit code of several checks; refused ranks before worse, and worse before inconclusive."""
    codes = {result.code for result in results}
    order: tuple[Code, ...] = (REFUSED, WORSE, INCONCLUSIVE)
    return next((code for code in order if code in codes), PASS)
