"""Calibrating a judge: it judges recorded pairs in both orders, and is compared with the judge that was recorded."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.benchmarks.alpaca_eval.annotator import AS_USUAL, Asking
from harness.benchmarks.alpaca_eval.evaluators import Annotator
from harness.benchmarks.alpaca_eval.judged import check_asking, sampled
from harness.components import identity
from harness.errors import DataError
from harness.files import sha256
from harness.judging.asker import Asker
from harness.judging.calibration.figures import JudgedPair, Sample, agreement_within, arranged, calibration_figures
from harness.judging.calibration.record import Calibration, SystemRates
from harness.judging.calibration.sample import RecordedPair, RecordedVerdicts, draw_sample, unseen
from harness.judging.calibration.siblings import compared, sibling_agreement
from harness.judging.ledger import Ledger
from harness.judging.panel import collect_verdicts
from harness.types import Ask, Verdict


def calibrate(
    judge: Any,
    annotator: Annotator,
    recorded: RecordedVerdicts,
    *,
    pairs: int,
    seed: int,
    asker: Callable[[Any], Asker],
    asking: Asking = AS_USUAL,
) -> tuple[Calibration, Ledger]:
    """(the calibration, the ledger of all replies). Pairs that the judge was fitted to are left out. Raises DataError
    if it was fitted to all of them, and JudgeError if a server failed; its replies are kept."""
    check_asking(annotator, asking)
    drawn = draw_sample(recorded, pairs, seed)
    sample = unseen(drawn, judge.fitted_on())
    if not sample:
        raise DataError(
            f"the judge was fitted on {len(drawn):,} of these {len(drawn):,} pairs, which can't tell what it is worth: "
            "give --recorded verdicts on other systems or prompts"
        )
    judged, ledger, panel = judged_by(judge, annotator, sample, asker, asking)
    fields = {"judge": identity(judge), "asked": asking.changes(), "seed": seed, **panel}
    return summary(judged, annotator, recorded, fitted_on=len(drawn) - len(sample), **fields), ledger


def judged_by(
    judge: Any,
    annotator: Annotator,
    sample: Sequence[RecordedPair],
    asker: Callable[[Any], Asker],
    asking: Asking = AS_USUAL,
) -> tuple[list[JudgedPair], Ledger, dict[str, Any]]:
    """(recorded pairs with the judge's verdicts in both orders, the ledger of all replies, a panel's report)"""
    verdicts, ledger, panel = collect_verdicts(
        judge, asker, lambda ask: _both_orders(annotator, sample, ask, asking), "recorded pairs"
    )
    values = [None if v.value is None else v.value - 1 for v in verdicts]
    judged = [
        JudgedPair(p.system, p.pair.question_id, p.won, plain, switched, len(p.pair.reference), len(p.pair.output))
        for p, plain, switched in zip(sample, values[: len(sample)], values[len(sample) :], strict=True)
    ]
    return judged, ledger, panel


def summary(
    judged: Sequence[JudgedPair], annotator: Annotator, recorded: RecordedVerdicts, **fields: Any
) -> Calibration:
    """The calibration that judged pairs give. `fields`: all others of the record."""
    rates = recorded.win_rates
    sample = arranged(judged)
    return Calibration(
        version=2,
        annotator=annotator.name,
        template_sha256=sha256(annotator.template.encode()),
        official=recorded.judge,
        pairs=len(judged),
        figures=calibration_figures(sample, rates),
        siblings=sibling_agreement(sample, rates),
        comparisons=tuple(compared(sample, rates)),
        systems=_systems(judged, sample, rates),
        left_out=recorded.left_out,
        recorded_sha256=recorded.sha256,
        **fields,
    )


def _both_orders(annotator: Annotator, sample: Sequence[RecordedPair], ask: Ask, asking: Asking) -> list[Verdict]:
    """Verdicts on every pair with the reference shown first, then on every pair with the output first."""
    systems = dict.fromkeys(p.system for p in sample)
    verdicts: list[Verdict] = []
    for switched in (False, True):
        for system in systems:  # the package accepts each instruction only once per call
            pairs = [p.pair for p in sample if p.system == system]
            verdicts += sampled(annotator, pairs, ask, asking, switched=switched)
    return verdicts


def _systems(judged: Sequence[JudgedPair], sample: Sample, official: Mapping[str, float]) -> dict[str, SystemRates]:
    rates = {}
    for system in dict.fromkeys(p.system for p in judged):
        pairs = [p for p in judged if p.system == system]
        rates[system] = SystemRates(
            official=official[system],
            recorded=_rate([p.won for p in pairs]) or 0.0,
            judge=_rate([v for p in pairs for v in (p.plain, p.switched)]),
            pairs=len(pairs),
            agreement=agreement_within(sample.systems[system]),
        )
    return rates


def _rate(won: Sequence[float | None]) -> float | None:
    """Win rate in percent over the verdicts that exist."""
    values = [w for w in won if w is not None]
    return 100 * math.fsum(values) / len(values) if values else None
