"""The regression check: is a row of a board worse than a baseline's by more than a margin?

A paired non-inferiority test over the prompts that both were judged on. What can't be compared (another judge,
template, prompt set or reference; verdicts that are missing) is refused with the reason, and is never a pass.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from harness.board_rows import Entry
from harness.errors import DataError, nearest, quoted
from harness.leaderboard import read_board
from harness.noninferiority import NonInferiority, from_resamples, non_inferiority
from harness.outcomes import LC, METRICS, values
from harness.paired import prompt_of
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
    """What a gate asks: of `metric`, that the row is not worse than the baseline by more than `margin` (percent points
    for shares, else the metric's unit) at the one-sided level `alpha`, and not below `minimum`."""

    metric: str = "alpaca_eval.win_rate"
    margin: float = 2.0
    alpha: float = 0.05
    minimum: float | None = None


class Result(NamedTuple):
    """`code`: an exit code. `reason`: one line. `test`: the paired test, where there was one."""

    code: Code
    row: str
    baseline: str | None
    check: Check
    reason: str
    test: NonInferiority | None = None


def run_gate(row: Entry, baseline: Entry | None, check: Check) -> Result:
    """One check of one row; without a baseline only the floor is asked for."""
    against = baseline.id if baseline else None
    if why := _incomparable(row, baseline, check):
        return Result(REFUSED, row.id, against, check, why)
    value = row.metrics[check.metric].value
    if check.minimum is not None and (value is None or value < check.minimum):
        told = "is not scored" if value is None else f"is {value:.2f}"
        return Result(WORSE, row.id, against, check, f"{check.metric} {told}, below the floor of {check.minimum:g}")
    if baseline is None:
        return Result(PASS, row.id, None, check, f"{check.metric} is {value:.2f}, the floor {check.minimum:g}")
    if check.metric == LC:
        found = _length_controlled(row, baseline, check)
        return _result(row, baseline, check, found)
    mine, theirs = (values(entry, check.metric) for entry in (row, baseline))
    shared = sorted(mine)
    pairs = [(mine[key], theirs[key]) for key in shared]
    differences = [a - b for a, b in pairs if a is not None and b is not None]  # none is missing
    found = non_inferiority(differences, check.margin, check.alpha, [prompt_of(key) for key in shared])
    return _result(row, baseline, check, found)


def _result(row: Entry, baseline: Entry, check: Check, found: NonInferiority) -> Result:
    code: Code = PASS if found.outcome == "not worse" else WORSE if found.outcome == "worse" else INCONCLUSIVE
    return Result(code, row.id, baseline.id, check, _told(check, found), found)


def _length_controlled(row: Entry, baseline: Entry, check: Check) -> NonInferiority:
    """By the figure in the same resamples of the same prompts, the regression fitted anew in each."""
    figures = [entry.metrics[LC].value or 0.0 for entry in (row, baseline)]
    apart = [a - b for a, b in zip(row.resamples[LC], baseline.resamples[LC], strict=True)]
    return from_resamples(figures[0] - figures[1], apart, check.margin, check.alpha, len(row.outcomes["alpaca_eval"]))


def _told(check: Check, found: NonInferiority) -> str:
    level = f"{100 * (1 - check.alpha):g} %"
    seen = f"{check.metric} differs by {found.difference:+.2f} on {found.n} prompts"
    if found.outcome == "not worse":
        return f"{seen}; with {level} confidence by more than {found.lower:+.2f}, the margin is {-check.margin:g}"
    if found.outcome == "worse":
        return f"{seen}; with {level} confidence by less than {found.upper:+.2f}, the margin is {-check.margin:g}"
    needed = "more prompts than can be told" if found.needed is None else f"about {found.needed:,} prompts"
    return (
        f"{seen}, between {found.lower:+.2f} and {found.upper:+.2f}: whether that is past the margin of "
        f"{-check.margin:g} can't be told at this n; {needed} would settle it"
    )


def _incomparable(row: Entry, baseline: Entry | None, check: Check) -> str | None:
    """Why there is no answer, in one line; None where there is one."""
    if check.metric not in METRICS:
        return f"unknown metric {quoted(check.metric)}; {nearest(check.metric, METRICS)}"
    for entry in (row, *([baseline] if baseline else [])):
        if check.metric not in entry.metrics:
            return f"row '{entry.id}' has no {check.metric}; evaluate it with that benchmark"
        group = check.metric.split(".")[0]
        if group not in entry.outcomes:
            return f"row '{entry.id}' has no outcomes by prompt; expected its entry file beside board.json"
        if missing := sum(value is None for value in entry.outcomes[group].values()):
            total = len(entry.outcomes[group])
            return f"row '{entry.id}': {missing} of {total} verdicts of {group} are missing; run it again to have them"
    if baseline is None:
        return None if check.minimum is not None else "no baseline and no floor: nothing to compare with"
    why = _different(row, baseline, check.metric.split(".")[0])
    return why or (_unresampled(row, baseline) if check.metric == LC else None)


def _different(row: Entry, baseline: Entry, group: str) -> str | None:
    if group != "heldout":
        if row.section("judge") != baseline.section("judge"):
            return f"another judge: {_difference(baseline.section('judge'), row.section('judge'))}"
        mine, theirs = (entry.section("benchmarks").get(group, {}) for entry in (row, baseline))
        if mine != theirs:
            return f"another {group}: {_difference(theirs, mine)}"
        own, other = (entry.section("references").get(group) for entry in (row, baseline))
        if own != other:
            return f"{group} was judged against other answers of row '{mine.get('reference')}'"
    mine, theirs = row.outcomes[group], baseline.outcomes[group]
    if mine.keys() != theirs.keys():
        only = len(theirs.keys() - mine.keys()), len(mine.keys() - theirs.keys())
        return f"other prompts: {only[0]} of the baseline's are not there, and {only[1]} are new"
    if len({prompt_of(key) for key in mine}) < 2:
        return "one prompt is too few for a test"
    return None


def _unresampled(row: Entry, baseline: Entry) -> str | None:
    """Why length-controlled rates can't be compared, where they can't."""
    for entry in (row, baseline):
        if entry.metrics[LC].value is None:
            return f"row '{entry.id}': its length-controlled rate could not be computed"
        if not entry.resamples.get(LC):
            return f"row '{entry.id}' has no resamples of {LC}; run it again to have them"
    same = len(row.resamples[LC]) == len(baseline.resamples[LC])
    return None if same else "their length-controlled rates were resampled differently; run the older one again"


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The first field that differs, as `model: a -> b`."""
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            return f"{key}: {str(old.get(key))[:60]} -> {str(new.get(key))[:60]}"
    return "it is described otherwise"


def chosen_row(path: Path, wanted: str | None, option: str = "--row") -> Entry:
    """A board's row: the one that is named, else its only one that is not the untrained base. Raises DataError."""
    entries = {entry.id: entry for entry in read_board(path).entries}
    if wanted is not None:
        if wanted not in entries:
            raise DataError(f"{path}: no row {quoted(wanted)}; {nearest(wanted, entries)}")
        return entries[wanted]
    trained = [entry for entry in entries.values() if entry.method != "base"] or list(entries.values())
    if len(trained) != 1:
        raise DataError(f"{path} has {len(trained)} rows; name one with {option}: {', '.join(e.id for e in trained)}")
    return trained[0]


def worst(results: Sequence[Result]) -> Code:
    """The exit code of several checks: what can't be compared before what is worse before what is not settled."""
    codes = {result.code for result in results}
    order: tuple[Code, ...] = (REFUSED, WORSE, INCONCLUSIVE)
    return next((code for code in order if code in codes), PASS)
