"""The calibration of a judge against an official one: stored under the judge's identity, and shown on boards.

A calibration is in `$HARNESS_HOME/calibrations`, or ships in `harness/assets/calibrations`, under the SHA-256 of (the
judge's identity, the annotator). So another model, temperature or template has none until it is measured.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from harness.boards.facts import NEAR_CHANCE, chance_words
from harness.boards.provenance import JudgeCalibration
from harness.engine.journal import content_key
from harness.errors import DataError
from harness.files import asset, cache_root, json_text, read_bytes
from harness.judging.calibration.averages import CalibrationFigure
from harness.judging.calibration.equivalent import Rates, official_equivalent
from harness.judging.calibration.siblings import SystemComparison
from harness.outside import parse_json
from harness.types import Metric, Record

READABLE = {"weighted_alpaca_eval_gpt4_turbo": "GPT-4 Turbo", "alpaca_eval_gpt4": "GPT-4"}
"""The model behind each annotator with recorded verdicts."""
AS_USUAL: Mapping[str, Any] = {}


class SystemRates(Record):
    """A system's win rate in percent: over all its recorded verdicts (`official`), over those in the sample
    (`recorded`), and by the calibrated judge (`judge`). `agreement`: the judge's within this system, in percent."""

    official: float
    recorded: float
    judge: float | None
    pairs: int
    agreement: float | None = None


class Calibration(Record):
    """`judge`: its identity. `annotator`: whose prompt and parser were used. `asked`: how, where that is
    not as usual (several samples, a stated probability). `official`: who gave the recorded
    verdicts. `pairs`: how many were judged, each in both orders. `fitted_on`: how many more were drawn, and left out
    since the judge was fitted to them. `refits`: where the judge was fitted to some of them, how many refits of it
    gave the verdicts, each on a system and instructions that it had not seen. `figures`: see
    `harness.judging.calibration.figures`; `siblings`, `comparisons`: see `harness.judging.calibration.siblings`.
    `left_out`: recorded rows that could not be used, by reason. `recorded_sha256`: of the files, by system. `panel`:
    how far its members agree."""

    version: Literal[2]
    judge: dict[str, Any]
    annotator: str
    asked: dict[str, Any] = Field(default_factory=dict)
    template_sha256: str
    official: str
    pairs: int
    seed: int
    fitted_on: int = 0
    refits: int = 0
    figures: dict[str, CalibrationFigure]
    siblings: CalibrationFigure
    comparisons: tuple[SystemComparison, ...]
    systems: dict[str, SystemRates]
    left_out: dict[str, int]
    recorded_sha256: dict[str, str]
    panel: dict[str, Any] = Field(default_factory=dict)

    @property
    def official_name(self) -> str:
        """The official judge as people call it."""
        return READABLE.get(self.official, self.official)

    @property
    def verdict(self) -> Literal["not_measured", "at_chance", "weak", "local", "informative"]:
        """What the judge is worth: see `harness.boards.provenance.JudgeCalibration`."""
        within, gain = self.figures["agreement"], self.figures["gain_over_longer"]
        if within.here is None:
            return "not_measured"
        if within.here[0] <= 50 or self._siblings_at_chance:
            return "at_chance"
        if gain.here is None or gain.here[0] <= 0:
            return "weak"
        return "local" if within.ci95 is None or within.ci95[0] <= 50 else "informative"

    @property
    def _siblings_at_chance(self) -> bool:
        return self.siblings.here is not None and self.siblings.here[0] <= 50 and self.siblings.here[1] < NEAR_CHANCE

    @property
    def text(self) -> str:
        """One line for a board. It leads with the agreement within a system, since that is what a board's rows are
        compared by."""
        within = self.figures["agreement"]
        where = f"{self.pairs:,} pairs of {_counted(within.systems or len(self.systems), 'system')}"
        parts = [f"no agreement within a system with {self.official_name} could be measured on {where}"]
        if within.value is not None:
            here = f" ({_range(within.here)})" if within.here else ""
            parts = [
                f"agreement within a system {within.value:.0f} %{here} with {self.official_name} on {where}, "
                f"chance is 50 %; {self._elsewhere(within)}"
            ]
        if self.siblings.value is not None and self.siblings.here is not None:
            parts.append(f"between siblings {self.siblings.value:.0f} % ({_range(self.siblings.here)})")
        if significant := [c for c in self.comparisons if c.is_significant]:
            right = sum(c.judge > 0 for c in significant)
            among = _counted(len(self.comparisons), "pair")
            share = f"{100 * right / len(significant):.0f} % have the official sign"
            parts.append(f"of its {len(significant)} significant differences between {among} of systems, {share}")
        return "; ".join((*parts, *self._remarks()))

    def _elsewhere(self, within: CalibrationFigure) -> str:
        if within.ci95 is None:
            return "too few systems to say anything about another one"
        return f"on another system {_range(within.ci95)} (95 % prediction interval)"

    def _remarks(self) -> list[str]:
        invalid = self.figures["agreement"].n_invalid
        remarks = []
        if invalid:
            remarks.append(f"{invalid} of {self.figures['agreement'].n + invalid} verdicts missing")
        if self.fitted_on:
            drawn = self.pairs + self.fitted_on
            remarks.append(f"fitted on {self.fitted_on:,} of these {drawn:,} pairs, which are left out")
        if self.refits:
            remarks.append(f"measured by {self.refits} refits, each on a system and prompts that it had not seen")
        words = {
            "at_chance": chance_words(self.figures["agreement"].here),
            "weak": "not shown to beat 'the longer answer wins'",
        }
        return remarks + ([words[self.verdict]] if self.verdict in words else [])

    def equivalent(self, rate: Metric) -> dict[str, Any] | None:
        """What the official judge would say of a row with this win rate by this judge, in percent, on the official
        prompts and reference; None where that can't be predicted, or this judge is at chance: then its rates say
        nothing, and a number would look as if they did."""
        if self.verdict == "at_chance":
            return None
        rates = [Rates(s.official, s.judge) for s in self.systems.values() if s.judge is not None]
        found = official_equivalent(rates, rate)
        return None if found is None else found.plain()

    def on_board(self, equivalents: Mapping[str, Any]) -> JudgeCalibration:
        """What a board keeps of it. `equivalents`: by figure."""
        within = self.figures["agreement"]
        return JudgeCalibration.model_validate(
            {
                "verdict": self.verdict,
                "text": self.text,
                "official": self.official_name,
                "agreement": within.value,
                "here": within.here,
                "elsewhere": within.ci95,
                "siblings": self.siblings.value,
                "pairs": self.pairs,
                "systems": within.systems,
                "equivalents": dict(equivalents),
            }
        )


def _range(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.0f} to {ends[1]:.0f} %"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def calibration_name(judge_identity: Mapping[str, Any], annotator: str, asked: Mapping[str, Any] = AS_USUAL) -> str:
    """The name of the file with a judge's calibration. `asked`: how, where that is not as usual."""
    of = [dict(judge_identity), annotator, *([dict(asked)] if asked else [])]
    return f"{content_key(of)[:32]}.json"


def calibration_of(
    judge_identity: Mapping[str, Any], annotator: str, asked: Mapping[str, Any] = AS_USUAL
) -> Calibration | None:
    """The calibration of a judge with an annotator's prompt: the user's own, or else a shipped one; None if neither
    exists, or only one of an earlier version. Raises DataError for a broken file."""
    name = calibration_name(judge_identity, annotator, asked)
    for path in (cache_root() / "calibrations" / name, asset("calibrations", name)):
        if path.is_file():
            found = _read(path)
            if found is not None:
                return found
    return None


def _read(path: Path) -> Calibration | None:
    """The calibration in a file; None for one of an earlier version, whose figures were others. Raises DataError."""
    try:
        data = parse_json(read_bytes(path))
        if isinstance(data, dict) and "figures" in data and "version" not in data:
            return None
        return Calibration.model_validate(data)
    except ValueError:
        raise DataError(f"{path} is not a calibration; delete it and calibrate the judge again") from None


def save_calibration(calibration: Calibration, folder: Path | None = None) -> Path:
    """Write a calibration where `calibration_of` finds it (or into another folder), replacing an earlier one of the
    same judge. Returns its path."""
    folder = folder or cache_root() / "calibrations"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / calibration_name(calibration.judge, calibration.annotator, calibration.asked)
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json_text(calibration.model_dump(mode="json")), encoding="utf-8")
    scratch.replace(path)
    return path
