"""What must be known to read a board: notes on its judges, its data and its trainings, each said once."""

from collections.abc import Iterable, Mapping
from typing import Any

from harness.board_rows import Row, figure, is_calibrated, judge_name
from harness.types import Metric

RECONSTRUCTION = (
    "Multi-DPO here is a reconstruction of arXiv 2412.07812 (its exact loss is not public): a linear weighting of all "
    "responses' implicit rewards that equals DPO at two responses. Its figures are not the paper's."
)


def logits_notes(entries: Iterable[Row]) -> list[str]:
    """How a judge that answers from its logits rates, where one did."""
    if not any(e.section("judge").get("name") == "local" and "mt_bench.score" in e.metrics for e in entries):
        return []
    return [
        "MT-bench ratings by a local judge are the expectation over its probabilities of the ten replies [[1]] to "
        "[[10]], given without an explanation before: FastChat's prompts, but not its rule of one parsed rating."
    ]


def heldout_notes(entries: Iterable[Row]) -> list[str]:
    """That rows of a sweep have held-out pairs of their own, where they do."""
    sizes = {
        str(e.provenance.get("keys", {}).get("seeds")) for e in entries if e.section("sweep") and e.section("data")
    }
    if len(sizes) < 2:
        return []
    return [
        "Rows were trained on several seed sets, each with held-out pairs of its own: held-out figures of rows with "
        "other seeds are on other pairs."
    ]


def budget_notes(entries: Iterable[Row]) -> list[str]:
    """Whose training budget a row was given, and how near it came; one note a row that was."""
    words = {"steps": "optimizer steps", "prompts": "prompts", "tokens": "tokens through the policy"}
    notes = []
    for entry in entries:
        training, other = entry.section("training"), entry.provenance.get("match_to")
        given, spent = training.get("budget"), training.get("used")
        if isinstance(given, int) and isinstance(spent, int):
            what = words.get(str(training.get("match")), str(training.get("match")))
            notes.append(f"{entry.id}: trained for as many {what} as {other}: {given:,} there, {spent:,} here.")
    return notes


def leak_notes(report: Mapping[str, Any]) -> list[str]:
    """How many of a stage's prompts are prompts of the evaluation sets, for each set that was looked through."""
    leaks = report.get("leaks")
    if not isinstance(leaks, Mapping) or not leaks:
        return []
    told = ", ".join(f"{count:,} of {name}" for name, count in leaks.items())
    fate = "" if report.get("leaks_dropped", 1) or not any(leaks.values()) else ", kept as the recipe says"
    return [f"prompts of the evaluation sets found: {told}{fate}"]


def admission_notes(report: Mapping[str, Any]) -> list[str]:
    """What the admission test says of a reward model, beside its accuracy."""
    found = report.get("admission")
    if not isinstance(found, Mapping):
        return []
    notes = [f"{found.get('ties', 0):,} ties and {found.get('not_scored', 0):,} not scored"]
    for name, words in {
        "length_correlation": "rank correlation of score and length",
        "longer_preferred": "the longer of two preferred",
    }.items():
        metric = Metric.model_validate(found.get(name) or {"value": None})
        if metric.value is not None:
            notes.append(f"{words} {figure(metric, 2)}")
    accuracy = Metric.model_validate(found.get("accuracy") or {"value": None})
    if accuracy.ci95 is not None and accuracy.ci95[1] < 0.5:
        notes.append("it orders held-out pairs worse than chance")
    batch = found.get("batch")
    if isinstance(batch, Mapping) and batch.get("applies"):
        rounding = f" (rounding in half precision: {batch['rounding']:.1g})" if "rounding" in batch else ""
        notes.append(f"scores alone and in a batch of 16 agree to {batch.get('largest_difference', 0):.1g}{rounding}")
    return notes


def uncalibrated_note(entries: Iterable[Row]) -> str | None:
    """What an uncalibrated judge's figures are worth, in plain words; None where every judge is calibrated."""
    judges = dict.fromkeys(judge_name(entry) or "unnamed" for entry in entries if not is_calibrated(entry))
    if not judges:
        return None
    names = "; ".join(judges)
    subject = f"The judge ({names}) is" if len(judges) == 1 else f"The judges ({names}) are"
    its = "its" if len(judges) == 1 else "their"
    return (
        f"{subject} not calibrated against any official judge: {its} win rates and ratings show that the machinery "
        "works; they do not measure quality, and can't be compared with published AlpacaEval or MT-bench numbers."
    )


def reconstruction_notes(entries: Iterable[Row]) -> list[str]:
    """What is a reconstruction on this board, each said once."""
    notes: dict[str, None] = {}
    for entry in entries:
        if entry.method == "mdpo_linear":
            notes[RECONSTRUCTION] = None
        elif isinstance(said := entry.provenance.get("reconstruction"), str) and said:
            notes[f"{entry.id}: {said}"] = None
    return list(notes)
