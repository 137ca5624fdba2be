"""The regression check: is a row of a board worse than a baseline row by more than a margin?

A paired non-inferiority test over the prompts that both were judged on; a second one against the baseline's anchor; and
a floor. Rows that can't be compared (different judge, template, prompt set or reference, or many missing verdicts) are
refused with the reason and never pass. Nor does a row that a validity guard has flagged, unless that is allowed.
"""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from harness.boards.catalog import Figures
from harness.boards.entry import Entry
from harness.boards.facts import doubts
from harness.boards.outcomes import able_rows
from harness.boards.versions.measured import measured_differently
from harness.components import benchmark_class
from harness.errors import nearest, quoted
from harness.figures import HELDOUT, REWARD_FIGURES, Figure
from harness.gate.margins import Allowed, Check, allowed, floor
from harness.gate.means import MOST_MISSING, Tested, compare_rows, missing_of, own_bounds
from harness.gate.words import of_comparison, of_floor, of_judge
from harness.stats.bounds import FEWEST
from harness.stats.noninferiority import NonInferiority

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


class Result(NamedTuple):
    """The outcome of a check. `code`: an exit code. `reason`: one line. `test`: the paired test, in which a negative
    difference is worse whatever the figure; None where none was run. `tested`: the same with interval and margin;
    `drift`: against the baseline's anchor, where that is another row; `figure`: what was compared."""

    code: Code
    row: str
    baseline: str | None
    check: Check
    reason: str
    test: NonInferiority | None = None
    tested: Tested | None = None
    drift: Tested | None = None
    figure: Figure | None = None


def run_gate(row: Entry, baseline: Entry | None, check: Check, anchor: Entry | None = None) -> Result:
    """One check of one row; without a baseline only the floor is checked. `anchor`: the baseline's, None where it is
    the baseline itself."""
    against = baseline.id if baseline else None
    figure = _figure(row, baseline, check.metric)
    if isinstance(figure, str):
        return Result(REFUSED, row.id, against, check, figure)
    unchanged = baseline is not None and _is_unchanged(row, baseline, figure)
    if not check.allow and not unchanged and (flags := doubts(row)):
        return Result(REFUSED, row.id, against, check, _of_flags(row, flags, baseline, check, figure), figure=figure)
    if baseline is None and check.minimum is None:
        reason = "no baseline and no floor: nothing to compare with"
        return Result(REFUSED, row.id, None, check, reason, figure=figure)
    if problem := unusable(row, check.metric, figure):
        return Result(REFUSED, row.id, against, check, problem, figure=figure)
    tests = [_compared(row, baseline, check, figure, is_anchor=False)] if baseline is not None else []
    if baseline is not None and anchor is not None:
        tests.append(_compared(row, anchor, check, figure, is_anchor=True))
    parts = [(code, text) for code, text, _ in tests]
    parts += [_above_floor(row, check.minimum, check, figure)] if check.minimum is not None else []
    code = worst_code([code for code, _ in parts])
    parts.sort(key=lambda part: ORDER.index(part[0]))  # what decides comes first
    shown = [text for part, text in parts if code != REFUSED or part == REFUSED]
    shown = [text for text in (of_judge(row, figure), *shown) if text]
    tested = [test for *_, test in tests] + [None, None]
    if isinstance(tested[0], Tested):
        check = check.model_copy(update={"margin": tested[0].margin} if check.margin is None else {})
    test = tested[0].test if tested[0] and code != REFUSED else None
    return Result(code, row.id, against, check, "; ".join(shown), test, tested[0], tested[1], figure)


def _of_flags(row: Entry, flags: Sequence[str], baseline: Entry | None, check: Check, figure: Figure) -> str:
    """Why a flagged row doesn't pass, and what its doubtful figures say."""
    more = f" (and {len(flags) - 1} more)" if len(flags) > 1 else ""
    reason = f"row {quoted(row.id)} is flagged: {flags[0]}{more}; allow it explicitly (--allow) if that is no harm"
    if baseline is None or unusable(row, check.metric, figure):
        return reason
    code, text, _ = _compared(row, baseline, check, figure, is_anchor=False)
    return reason if code == REFUSED else f"{reason}; its doubtful figures: {text}"


def _compared(
    row: Entry, baseline: Entry, check: Check, figure: Figure, *, is_anchor: bool
) -> tuple[Code, str, Tested | None]:
    """One test: its code, what it says, and its figures. `is_anchor`: against the baseline's anchor."""
    written = check.anchor_margin if is_anchor and check.anchor_margin is not None else check.margin
    margin = allowed(written, figure, baseline)
    reason = incomparable(row, baseline, check.metric, figure)
    if reason is not None or not isinstance(margin, Allowed):
        return REFUSED, f"{'the anchor: ' if is_anchor else ''}{reason or margin}", None
    tested = compare_rows(row, baseline, figure, margin, check.alpha)
    if _is_unchanged(row, baseline, figure):
        other = f"the anchor, row '{baseline.id}'" if is_anchor else f"row '{baseline.id}'"
        return PASS, f"these are the very answers and verdicts of {other}: nothing has changed", tested
    outcome = tested.test.outcome
    code: Code = PASS if outcome == "not worse" else WORSE if outcome == "worse" else INCONCLUSIVE
    return code, of_comparison(tested, figure, check.alpha, baseline.id, is_anchor), tested


def _is_unchanged(row: Entry, baseline: Entry, figure: Figure) -> bool:
    """Whether both rows' figures are of the same stage, by its key: the same answers, judge, prompts and verdicts. No
    test over few prompts could show that they are as good as each other, and none is needed."""
    kinds = {HELDOUT: "heldout/", **{reward.benchmark: "rewards/" for reward in REWARD_FIGURES}}
    kind = kinds.get(figure.benchmark, f"verdicts/{figure.benchmark}/")
    ours, theirs = ([key for name, key in e.provenance.keys.items() if name.startswith(kind)] for e in (row, baseline))
    same = row.outcomes.get(figure.benchmark) == baseline.outcomes.get(figure.benchmark)
    return bool(ours) and ours == theirs and same


def _above_floor(row: Entry, minimum: float, check: Check, figure: Figure) -> tuple[Code, str]:
    """Whether a row's own figure is not below the floor, by its bounds; not above it where lower is better."""
    wanted = floor(minimum, figure)
    value = row.metrics[check.metric].value
    if isinstance(wanted, str) or value is None:
        return REFUSED, wanted if isinstance(wanted, str) else f"row '{row.id}': its {check.metric} is not scored"
    bounds = own_bounds(row, figure, check.alpha)
    lower, upper, n = bounds
    if figure.higher_is_better is False:
        reached, missed = upper <= wanted, lower > wanted
    else:
        reached, missed = lower >= wanted, upper < wanted
    code: Code = INCONCLUSIVE if n < FEWEST else PASS if reached else WORSE if missed else INCONCLUSIVE
    return code, of_floor(figure.per_unit * value, bounds, wanted, figure, check.alpha)


def _figure(row: Entry, baseline: Entry | None, metric: str) -> Figure | str:
    """The figure to compare by, or the reason why there is none."""
    figures = Figures([row, *([baseline] if baseline else [])])
    metrics = [figure.metric for figure in figures.gated]
    if metric in metrics:
        return figures[metric]
    declared = benchmark_class(metric.split(".")[0]).figures_of({})
    if metric in {figure.metric for figure in declared if figure.pairing is not None}:
        return f"row '{row.id}' has no {metric}; evaluate it with that benchmark, or name another metric"
    return f"unknown metric {quoted(metric)}; {nearest(metric, metrics)}"


def unusable(entry: Entry, metric: str, figure: Figure) -> str | None:
    """Why a gate can't use a row's figure, in one line; None where it can."""
    if metric not in entry.metrics:
        return f"row '{entry.id}' has no {metric}; evaluate it with that benchmark, or name another metric"
    group = figure.benchmark
    if group not in entry.outcomes:
        return f"row '{entry.id}' has no outcomes by prompt; expected its entry file beside board.json"
    missing, prompts = missing_of(entry, figure)
    if prompts < 2:
        return f"row '{entry.id}': one prompt is too few for a test"
    if missing and (missing > MOST_MISSING * prompts or figure.ends is None):
        return f"row '{entry.id}': {missing} of {prompts} verdicts of {group} are missing; run it again to get them"
    if figure.pairing is not None and figure.pairing.kind == "resamples":
        if entry.metrics[metric].value is None:
            return f"row '{entry.id}': its {metric} could not be computed"
        if not entry.resamples.get(metric):
            return f"row '{entry.id}' has no resamples of {metric}; run it again to get them"
    return None


def incomparable(row: Entry, baseline: Entry, metric: str, figure: Figure) -> str | None:
    """Why the rows can't be compared, in one line; None where they can."""
    for entry in (row, baseline):
        if reason := unusable(entry, metric, figure):
            return reason
    if reason := measured_differently(row, baseline, figure.benchmark):
        return reason
    if figure.benchmark == HELDOUT and not able_rows([baseline], figure):
        return f"row '{baseline.id}' is untrained: on held-out pairs it is a constant, and no opponent; use a floor"
    if len(row.resamples.get(metric, ())) != len(baseline.resamples.get(metric, ())):
        return f"their {metric} were resampled differently; run the older one again"
    return None


ORDER: Final[tuple[Code, ...]] = (REFUSED, WORSE, INCONCLUSIVE, PASS)
"""What decides first."""


def worst_code(codes: Sequence[Code]) -> Code:
    """The exit code of several: refused ranks before worse, and worse before inconclusive; none is a pass."""
    return next((code for code in ORDER if code in codes), PASS)


def worst(results: Sequence[Result]) -> Code:
    """The exit code of several checks."""
    return worst_code([result.code for result in results])
