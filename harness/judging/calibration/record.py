"""The calibration of a judge against an official one: stored under the judge's identity, and shown on boards.

A calibration is in `$HARNESS_HOME/calibrations`, or ships in `harness/assets/calibrations`, under the SHA-256 of (the
judge's identity, the annotator). So another model, temperature or template has none until it is measured.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from harness.engine.journal import content_key
from harness.errors import DataError
from harness.files import asset, cache_root, json_text
from harness.types import Metric, Record

READABLE = {"weighted_alpaca_eval_gpt4_turbo": "GPT-4 Turbo", "alpaca_eval_gpt4": "GPT-4"}
"""The model behind each annotator with recorded verdicts."""


class SystemRates(Record):
    """A system's win rate in percent: over all its recorded verdicts (`official`), over those in the sample
    (`recorded`), and by the calibrated judge (`judge`)."""

    official: float
    recorded: float
    judge: float | None
    pairs: int


class Calibration(Record):
    """`judge`: its identity. `annotator`: whose prompt and parser were used. `official`: who gave the recorded
    verdicts. `pairs`: how many were judged, each in both orders. `figures`: see `harness.judging.calibration.figures`.
    `left_out`: recorded rows that could not be used, by reason. `recorded_sha256`: of the files, by system. `panel`:
    how far its members agree."""

    judge: dict[str, Any]
    annotator: str
    template_sha256: str
    official: str
    pairs: int
    seed: int
    figures: dict[str, Metric]
    systems: dict[str, SystemRates]
    left_out: dict[str, int]
    recorded_sha256: dict[str, str]
    panel: dict[str, Any] = Field(default_factory=dict)

    @property
    def text(self) -> str:
        """One line for a board: `balanced agreement 63 ± 4 % with GPT-4 Turbo on 400 pairs`, with the half-width of the
        95 % interval. It also states if that is no better than chance, or if the judge was not shown to distinguish one
        system's answers better than their length does."""
        metric, who = self.figures["balanced_agreement"], READABLE.get(self.official, self.official)
        if metric.value is None:
            return f"no balanced agreement with {who} on {self.pairs} pairs: nothing was scored, or all on one side"
        spread = "" if metric.ci95 is None else f" ± {(metric.ci95[1] - metric.ci95[0]) / 2:.0f}"
        weak = ""
        if metric.ci95 is None or metric.ci95[0] <= 50:
            weak = "; no better than chance"
        elif (gain := self.figures["gain_over_longer_within_systems"]).ci95 is not None and gain.ci95[0] <= 0:
            weak = "; within a system not shown to beat 'the longer answer wins'"
        missing = f", {metric.n_invalid} of {metric.n + metric.n_invalid} verdicts missing" if metric.n_invalid else ""
        return f"balanced agreement {metric.value:.0f}{spread} % with {who} on {self.pairs} pairs{missing}{weak}"


def calibration_name(judge_identity: Mapping[str, Any], annotator: str) -> str:
    """The name of the file with a judge's calibration."""
    return f"{content_key([dict(judge_identity), annotator])[:32]}.json"


def calibration_of(judge_identity: Mapping[str, Any], annotator: str) -> Calibration | None:
    """The calibration of a judge with an annotator's prompt: the user's own, or else a shipped one; None if neither
    exists. Raises DataError for a broken file."""
    name = calibration_name(judge_identity, annotator)
    for path in (cache_root() / "calibrations" / name, asset("calibrations", name)):
        if path.is_file():
            try:
                return Calibration.model_validate_json(path.read_text(encoding="utf-8"))
            except (ValidationError, OSError, UnicodeDecodeError):
                raise DataError(f"{path} is not a calibration; delete it and calibrate the judge again") from None
    return None


def save_calibration(calibration: Calibration, folder: Path | None = None) -> Path:
    """Write a calibration where `calibration_of` finds it (or into another folder), replacing an earlier one of the
    same judge. Returns its path."""
    folder = folder or cache_root() / "calibrations"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / calibration_name(calibration.judge, calibration.annotator)
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json_text(calibration.model_dump(mode="json")), encoding="utf-8")
    scratch.replace(path)
    return path
