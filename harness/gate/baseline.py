"""Promotion of a row to a baseline, which is gated itself: small losses would add up from one promotion to the next."""

import getpass
import math
import os
from datetime import UTC, datetime
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

from harness.boards.catalog import Figures
from harness.boards.entry import Entry
from harness.boards.facts import doubts
from harness.boards.read import choose_row
from harness.engine.provenance import commit_of
from harness.errors import DataError, quoted
from harness.figures import Figure
from harness.gate.check import REFUSED, Result, run_gate, unusable
from harness.gate.margins import Allowed, Check, allowed, checked
from harness.gate.means import MOST_MISSING, Tested, missing_of, own_mean
from harness.gate.record import SCHEMA, Baseline, Promotion, main_figures, main_intervals, replaced_by, write_baseline
from harness.gate.words import of_power
from harness.stats.bounds import UNSEEN, Mean
from harness.stats.paired import POWER

CORRELATED = 0.5
"""The correlation of two equal rows' values over prompts, as long as no pair of rows has shown it."""


class Promoted(NamedTuple):
    """The baseline's file, and what to tell who promoted it: what was allowed, and the power of gates."""

    path: Path
    lines: list[str]


def promote(
    board: Path,
    row: str | None,
    out: Path | None,
    check: Check | None = None,
    *,
    allow_worse: bool = False,
    new_anchor: bool = False,
) -> Promoted:
    """Make a board's row the baseline: `out`, by default `baseline.json` in the board's folder.

    The first row that is promoted to a file is its anchor; `new_anchor`: this row is, from now on. By `check`, the row
    must not be worse than the baseline that it replaces, nor have drifted from the anchor: neither shown to be worse
    than the margin, nor estimated to be. `allow_worse` promotes it all the same, and is recorded. Raises DataError for
    a row that does not exist, is refused, or lacks so many verdicts that no gate could use it."""
    check = checked(check or Check())
    entry = choose_row(board, row)
    folder = board if board.is_dir() else board.parent
    path = out or folder / "baseline.json"
    figure = _figure(entry, check.metric if "metric" in check.model_fields_set else None)
    check = check.model_copy(update={"metric": figure.metric})
    flags = doubts(entry)
    if flags and not check.allow:
        raise DataError(f"row {quoted(entry.id)} is flagged: {flags[0]}; --allow promotes it all the same")
    old = replaced_by(path)
    result = None if old is None else run_gate(entry, old.entry, _without_floor(check), old.other_anchor)
    found = _against(result, old, new_anchor) if result and old else []
    if found and not allow_worse:
        raise DataError(f"row {quoted(entry.id)} is not promoted: {'; '.join(found)}; --allow-worse promotes it")
    by, at = os.environ.get("GITHUB_ACTOR") or getpass.getuser(), datetime.now(UTC).isoformat(timespec="seconds")
    commit = commit_of(folder)
    is_anchor = new_anchor or old is None
    line = Promotion(
        row=entry.id,
        by=by,
        at=at,
        commit=commit,
        figures=main_figures(entry),
        intervals=main_intervals(entry),
        anchor=is_anchor,
        allowed=(*found, *(f"flagged: {flag}" for flag in flags)),
    )
    anchor = entry if is_anchor or old is None else old.anchor or old.entry
    history = (*(old.promotions if old else ()), line)
    name = folder.absolute().name
    made = Baseline(
        schema_version=SCHEMA,
        board=name,
        by=by,
        at=at,
        commit=commit,
        entry=entry,
        anchor=anchor,
        history=history,
    )
    write_baseline(path, made)
    return Promoted(path, [*(f"allowed: {text}" for text in line.allowed), power_line(entry, figure, check, result)])


def _figure(entry: Entry, metric: str | None) -> Figure:
    """The figure that promotions and gates go by: the one named, else the gate's own, else the first that the row has.
    Raises DataError where no gate could use any."""
    figures = Figures([entry])
    wanted = [metric] if metric else ["alpaca_eval.win_rate", *(figure.metric for figure in figures.compared)]
    gated = {figure.metric: figure for figure in figures.gated}
    if not entry.outcomes:
        raise DataError(f"row {quoted(entry.id)} has no outcomes by prompt: no gate could compare with it")
    for figure in gated.values():
        missing, prompts = missing_of(entry, figure)
        if missing > MOST_MISSING * prompts:
            raise DataError(
                f"row {quoted(entry.id)} can't be a baseline: {missing} of {prompts} verdicts of {figure.benchmark} "
                "are missing; run it again to get them"
            )
    reasons = {}
    for name in wanted:
        if name in gated and name in entry.metrics:
            reasons[name] = unusable(entry, name, gated[name])
            if reasons[name] is None:
                return gated[name]
    reason = next(iter(reasons.values()), None) or f"it has no {metric or 'figure'} that a gate tests"
    raise DataError(f"row {quoted(entry.id)} can't be a baseline: {reason}")


def _without_floor(check: Check) -> Check:
    """A floor is no matter of promotions; and flags have been allowed by now."""
    return check.model_copy(update={"minimum": None, "allow": True})


def _against(result: Result, old: Baseline, new_anchor: bool) -> list[str]:
    """What speaks against a promotion."""
    if result.code == REFUSED:
        if new_anchor:  # it begins anew, on another judge or other prompts
            return []
        raise DataError(
            f"row {quoted(result.row)} can't be compared with the baseline that it replaces or its anchor: "
            f"{result.reason}; --new-anchor begins anew"
        )
    found = []
    for tested, what, name in (
        (result.tested, "the baseline that it replaces", old.entry.id),
        (None if new_anchor else result.drift, "the anchor", old.anchor.id if old.anchor else ""),
    ):
        if tested is not None and is_drift(tested):
            sure = "is worse than" if tested.test.outcome == "worse" else "seems worse than"
            size = f"{-tested.test.difference:.4g} against a margin of {tested.margin:.4g}"
            found.append(f"by {result.check.metric} it {sure} {what}, {quoted(name)}: {size}")
    return found


def is_drift(tested: Tested) -> bool:
    """Whether a row has moved beyond the margin: it is shown to be worse, or estimated to be. Waiting until each of
    many small steps is shown would let them add up where prompts are few."""
    return tested.test.outcome == "worse" or tested.test.difference < -tested.margin


def power_line(entry: Entry, figure: Figure, check: Check, result: Result | None) -> str:
    """What a gate will be able to tell, in one line: from the differences to the row that was replaced, else from the
    row's own spread."""
    margin = allowed(check.margin, figure, entry)
    if not isinstance(margin, Allowed):
        return f"gates: {margin}"
    points = margin.points or margin.share * figure.per_unit * (entry.value(figure.metric) or 0.0)
    if result is not None and result.tested is not None:
        differences, assumed = result.tested.mean, "by the differences to the row that it replaces"
    else:
        own, assumed = own_mean(entry, figure), f"if the two rows' values correlate at {CORRELATED}"
        reach = 2 * own.reach if figure.reach is None else figure.reach
        differences = own._replace(stderr=own.stderr * math.sqrt(2 * (1 - CORRELATED)), reach=reach)
    power, settles = power_of_equal(differences, points, check.alpha), margin_of_equal(differences, check.alpha)
    return of_power(power, differences.n, points, check.alpha, assumed, figure, settles)


def power_of_equal(differences: Mean, margin: float, alpha: float) -> float:
    """The probability that a row which is equal in truth passes: that the lower bound of a mean of 0, with the spread
    of these differences, lies above -margin."""
    centred = differences._replace(value=0.0, third=0.0, centre=0.0)
    room, n = margin + centred.bound(alpha, -1), centred.n
    if centred.stderr == 0:
        return float(room > 0)
    return NormalDist().cdf(room / (centred.stderr * n / (n + UNSEEN)))


def margin_of_equal(differences: Mean, alpha: float) -> float:
    """The margin at which a row that is equal in truth passes with POWER."""
    centred = differences._replace(value=0.0, third=0.0, centre=0.0)
    spread = centred.stderr * centred.n / (centred.n + UNSEEN)
    return NormalDist().inv_cdf(POWER) * spread - centred.bound(alpha, -1)
