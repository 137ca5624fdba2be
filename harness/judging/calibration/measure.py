"""Calibrating a judge: it judges recorded pairs in both orders, and is compared with the judge that was recorded."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from harness.benchmarks.alpaca_eval.annotator import Annotator, annotate
from harness.components import identity
from harness.files import sha256
from harness.judging.asker import Asker
from harness.judging.calibration.figures import JudgedPair, calibration_figures
from harness.judging.calibration.record import Calibration, SystemRates
from harness.judging.calibration.sample import RecordedPair, RecordedVerdicts, draw_sample
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
) -> tuple[Calibration, Ledger]:
    """(the calibration, the ledger of all replies). Raises JudgeError if a server failed; its replies are kept."""
    sample = draw_sample(recorded, pairs, seed)
    verdicts, ledger, panel = collect_verdicts(
        judge, asker, lambda ask: _both_orders(annotator, sample, ask), "recorded pairs"
    )
    values = [None if v.value is None else v.value - 1 for v in verdicts]
    judged = [
        JudgedPair(p.system, p.pair.question_id, p.won, plain, switched, len(p.pair.reference), len(p.pair.output))
        for p, plain, switched in zip(sample, values[: len(sample)], values[len(sample) :], strict=True)
    ]
    return Calibration(
        judge=identity(judge),
        annotator=annotator.name,
        template_sha256=sha256(annotator.template.encode()),
        official=recorded.judge,
        pairs=len(sample),
        seed=seed,
        figures=calibration_figures(judged, recorded.win_rates),
        systems=_systems(judged, recorded.win_rates),
        left_out=recorded.left_out,
        recorded_sha256=recorded.sha256,
        **panel,
    ), ledger


def _both_orders(annotator: Annotator, sample: Sequence[RecordedPair], ask: Ask) -> list[Verdict]:
    """Verdicts on every pair with the reference shown first, then on every pair with the output first."""
    systems = dict.fromkeys(p.system for p in sample)
    verdicts: list[Verdict] = []
    for switched in (False, True):
        for system in systems:  # the package accepts each instruction only once per call
            pairs = [p.pair for p in sample if p.system == system]
            verdicts += annotate(annotator, pairs, ask, switched=switched)
    return verdicts


def _systems(judged: Sequence[JudgedPair], official: dict[str, float]) -> dict[str, SystemRates]:
    rates = {}
    for system in dict.fromkeys(p.system for p in judged):
        pairs = [p for p in judged if p.system == system]
        rates[system] = SystemRates(
            official=official[system],
            recorded=_rate([p.won for p in pairs]) or 0.0,
            judge=_rate([v for p in pairs for v in (p.plain, p.switched)]),
            pairs=len(pairs),
        )
    return rates


def _rate(won: Sequence[float | None]) -> float | None:
    """Win rate in percent over the verdicts that exist."""
    values = [w for w in won if w is not None]
    return 100 * math.fsum(values) / len(values) if values else None
