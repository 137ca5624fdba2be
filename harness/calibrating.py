"""Calibrating a judge: it judges recorded pairs in both orders, and is compared with who judged them before."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from harness.annotator import Annotator, annotate
from harness.calibration import Calibration, SystemRates
from harness.calibration_figures import Judged, figures
from harness.calibration_sample import Recorded, RecordedPair, sample
from harness.components import identity
from harness.datafiles import sha256
from harness.judging import Asker, Ledger
from harness.panels import judged
from harness.types import Ask, Verdict


def calibrate(
    judge: Any, annotator: Annotator, recorded: Recorded, *, pairs: int, seed: int, asker: Callable[[Any], Asker]
) -> tuple[Calibration, Ledger]:
    """(the calibration, what the replies came to). Raises JudgeError where a server failed; its replies are kept."""
    drawn = sample(recorded, pairs, seed)
    verdicts, ledger, panel = judged(judge, asker, lambda ask: _both_orders(annotator, drawn, ask), "recorded pairs")
    values = [None if v.value is None else v.value - 1 for v in verdicts]
    seen = [
        Judged(p.system, p.pair.question_id, p.won, plain, switched, len(p.pair.reference), len(p.pair.output))
        for p, plain, switched in zip(drawn, values[: len(drawn)], values[len(drawn) :], strict=True)
    ]
    return Calibration(
        judge=identity(judge),
        annotator=annotator.name,
        template_sha256=sha256(annotator.template.encode()),
        official=recorded.judge,
        pairs=len(drawn),
        seed=seed,
        figures=figures(seen, recorded.win_rates),
        systems=_systems(seen, recorded.win_rates),
        left_out=recorded.left_out,
        recorded_sha256=recorded.sha256,
        **panel,
    ), ledger


def _both_orders(annotator: Annotator, drawn: Sequence[RecordedPair], ask: Ask) -> list[Verdict]:
    """Verdicts on every pair with the reference shown first, and then on every pair with the output first."""
    systems = dict.fromkeys(p.system for p in drawn)
    found: list[Verdict] = []
    for switched in (False, True):
        for system in systems:  # the package takes an instruction once a call
            own = [p.pair for p in drawn if p.system == system]
            found += annotate(annotator, own, ask, switched=switched)
    return found


def _systems(seen: Sequence[Judged], official: dict[str, float]) -> dict[str, SystemRates]:
    rates = {}
    for system in dict.fromkeys(p.system for p in seen):
        own = [p for p in seen if p.system == system]
        rates[system] = SystemRates(
            official=official[system],
            recorded=_rate([p.won for p in own]) or 0.0,
            judge=_rate([v for p in own for v in (p.plain, p.switched)]),
            pairs=len(own),
        )
    return rates


def _rate(won: Sequence[float | None]) -> float | None:
    had = [w for w in won if w is not None]
    return 100 * math.fsum(had) / len(had) if had else None
