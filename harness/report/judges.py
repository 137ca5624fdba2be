"""What a reader of a board must know about its judges: what they are worth, and what an official one would say."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from harness.boards.entry import BoardRow
from harness.boards.facts import agreement_words, calibration, chance_words, judge_name, judges_by_verdict
from harness.boards.format import number
from harness.boards.provenance import JudgeCalibration


class JudgeWarning(NamedTuple):
    """What a reader must know about a board's judges. `is_loud`: it comes before everything else."""

    title: str
    text: str
    is_loud: bool


def judge_warnings(entries: Iterable[BoardRow]) -> list[JudgeWarning]:
    """Warnings about judges that are no better than chance, then about weak ones, then about uncalibrated ones."""
    by_verdict = judges_by_verdict(entries)
    warnings = []
    if judges := by_verdict.get("at_chance"):
        chance = " or ".join(dict.fromkeys(chance_words(found.here) for found in judges.values()))
        measured = "; ".join(filter(None, map(_measured, judges.items())))
        text = (
            f"{_subject(judges)} {chance} at telling good answers from bad ones. No win rate, rating, "
            f"ranking or gate of {_its(judges)} says anything about quality: use another judge."
        )
        warnings.append(JudgeWarning("Judge at chance.", f"{text} {measured}".strip(), True))
    if judges := by_verdict.get("weak"):
        measured = "; ".join(filter(None, map(_measured, judges.items())))
        text = (
            f"{_subject(judges)} not shown to know more within a system than which answer is longer: differences "
            "between similar rows may be differences in length. More recorded pairs may show more."
        )
        warnings.append(JudgeWarning("Weak judge.", f"{text} {measured}".strip(), False))
    if judges := by_verdict.get("rule", {}):
        rules = "; ".join(dict.fromkeys(found.text for found in judges.values()))
        text = (
            f"{_subject(judges)} {rules}. Verdicts measure nothing else about an answer, and can't be compared with "
            "published AlpacaEval or MT-bench numbers."
        )
        warnings.append(JudgeWarning("A rule as judge.", text, False))
    if judges := {**by_verdict.get("uncalibrated", {}), **by_verdict.get("not_measured", {})}:
        text = (
            f"{_subject(judges)} not calibrated against any official judge: {_its(judges)} win rates and ratings show "
            "that the machinery works; they do not measure quality, and can't be compared with published AlpacaEval or "
            "MT-bench numbers."
        )
        warnings.append(JudgeWarning("Uncalibrated judge.", text, False))
    return warnings


def _subject(judges: Mapping[str, JudgeCalibration]) -> str:
    return f"The judge ({next(iter(judges))}) is" if len(judges) == 1 else f"The judges ({'; '.join(judges)}) are"


def _its(judges: Mapping[str, JudgeCalibration]) -> str:
    return "its" if len(judges) == 1 else "their"


def _measured(judge: tuple[str, JudgeCalibration]) -> str:
    """What a judge's calibration says, as a sentence."""
    name, found = judge
    words = agreement_words(found)
    if not words:
        return ""
    official, pairs = found.official or "an official judge", "" if found.pairs is None else f" on {found.pairs:,} pairs"
    return f"{name}, against {official}{pairs}: {words} (chance: 50 %)."


def equivalent_notes(entries: Iterable[BoardRow]) -> list[str]:
    """A note on the official win rates that are predicted for rows by other judges, one per judge and figure."""
    rows: dict[tuple[str, int, int], list[str]] = {}
    for entry in entries:
        found = calibration(entry)
        for equivalent in found.equivalents.values() if found else ():
            if equivalent.value is not None and equivalent.ci95 is not None:
                low, high = (number(x, 1) for x in equivalent.ci95)
                text = f"{entry.id} {number(equivalent.value, 1)} % ({low} to {high})"
                rows.setdefault((judge_name(entry), equivalent.systems, equivalent.held), []).append(text)
    return [
        f"AlpacaEval-2 equivalent, 95 % prediction interval, from the win rates by {judge}: {'; '.join(texts)}. It "
        f"rests on {systems} systems with recorded official verdicts; of these, each left out, {held} lay in the "
        "interval that the others gave."
        for (judge, systems, held), texts in rows.items()
    ]
