"""What measuring stages write, and what a board reads of it: metrics, resamples and outcomes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from harness.engine.stage import Context
from harness.engine.store import Artifact, write_json
from harness.types import Metric, Verdict


def write_metrics(ctx: Context, metrics: Mapping[str, Metric]) -> None:
    """A stage's metrics by name: `metrics.json`, and `resamples.json` for those that have them."""
    kept = {name: [round(x, 4) for x in m.resamples] for name, m in metrics.items() if m.resamples}
    write_json(ctx.folder / "resamples.json", kept)
    write_json(ctx.folder / "metrics.json", {name: m.model_dump(mode="json") for name, m in metrics.items()})


def outcomes(artifact: Artifact, kind: str) -> dict[str, float | None]:
    """A row's individual outcomes, as its entry has them: verdict values by question (`id/turn` where verdicts have
    turns), or with `kind` "heldout" margins by pair."""
    if kind == "heldout":
        return dict(artifact.json("margins.json"))
    verdicts = artifact.rows("verdicts.jsonl", Verdict)
    return {v.question_id if v.turn is None else f"{v.question_id}/{v.turn}": v.value for v in verdicts}


def categories(artifact: Artifact) -> dict[str, str]:
    """The category of each question that has one."""
    verdicts = artifact.rows("verdicts.jsonl", Verdict)
    return {v.question_id.split("#")[0]: v.category for v in verdicts if v.category is not None}


def resamples(artifact: Artifact) -> dict[str, list[float]]:
    """The resamples of a stage's metrics, by name."""
    return dict(artifact.json("resamples.json"))


def metrics(artifact: Artifact) -> dict[str, Metric]:
    """A stage's metrics by name. Raises ValueError for one that is not finite."""
    by_name = {name: Metric.model_validate(m) for name, m in artifact.json("metrics.json").items()}
    for name, metric in by_name.items():
        if metric.value is not None and not math.isfinite(metric.value):
            raise ValueError(f"{name} is not finite")
    return by_name


def by_prompt(answers: Iterable[tuple[str, Sequence[float | None]]]) -> dict[str, float | None]:
    """One outcome a prompt, from (prompt, values of its turns) of each answer to it: an answer's is the mean over its
    turns, None if one of them has no value; a prompt's is the mean over those of its answers that have one."""
    found: dict[str, list[float | None]] = {}
    for prompt, turns in answers:
        known = [value for value in turns if value is not None]
        found.setdefault(prompt, []).append(fmean(known) if known and len(known) == len(turns) else None)
    scored = {prompt: [value for value in values if value is not None] for prompt, values in found.items()}
    return {prompt: fmean(values) if values else None for prompt, values in scored.items()}
