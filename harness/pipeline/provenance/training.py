"""The training behind a row, as its entry has it."""

from typing import Any

from harness.boards.provenance import (
    CheckpointFacts,
    LossFacts,
    Provenance,
    RoundFacts,
    SftFacts,
    TrainingFacts,
)
from harness.engine.execute import ExecutionResult
from harness.engine.store import Artifact
from harness.pipeline.planning.row import PlannedRow, Round
from harness.pipeline.provenance.joined import joined
from harness.protocols import Loss
from harness.training.steps import read_steps

CURVE = 100
"""The largest number of points in a training's curve."""


def training_facts(row: PlannedRow, executed: ExecutionResult) -> Provenance:
    """The training of the row's policy: its seed, budget, loss and reports."""
    parts = []
    if row.arm and row.arm.seed is not None:
        parts.append(Provenance(method_id=row.arm.method.id, training_seed=row.arm.seed))
    if row.arm and row.round:
        parts.append(Provenance(method_id=row.arm.method.id, round=_round_facts(row.round, executed)))
    if row.matched:
        parts.append(Provenance(match_to=row.matched.id))
    if row.policy:
        artifact = executed.artifacts[row.policy.key]
        report = _without_seconds(artifact)
        done = report.pop("checkpoints", {})
        training = TrainingFacts.model_validate({**report, "curve": _curve(artifact)})
        parts.append(Provenance(training=training))
        if row.point and row.arm:
            used = done[row.point.name]
            point = CheckpointFacts(
                row=row.arm.id, point=row.point.name, steps=used["steps"], tokens=used.get("forward_tokens")
            )
            parts.append(Provenance(checkpoint=point))
    if row.start and row.sft:
        report = _without_seconds(executed.artifacts[row.sft.key])
        parts.append(Provenance(sft=SftFacts.model_validate({"row": row.start, **report})))
    if row.arm and isinstance(row.arm.method.loss, Loss):
        loss = row.arm.method.loss
        facts = LossFacts(on_pairs=loss.on_pairs, is_multi_dpo=loss.is_multi_dpo, reconstruction=loss.reconstruction)
        parts.append(Provenance(loss=facts))
    return joined(parts)


def _round_facts(place: Round, executed: ExecutionResult) -> RoundFacts:
    def total(keys: tuple[str, ...], name: str) -> int | None:
        amounts = [executed.artifacts[key].report.get(name) for key in keys]
        return None if None in amounts else sum(filter(None, amounts))

    return RoundFacts(
        number=place.number,
        count=place.of,
        earlier=place.earlier,
        generated_tokens=total(place.responses, "tokens"),
        forward_tokens=total(place.earlier, "forward_tokens"),
    )


def _without_seconds(trained: Artifact) -> dict[str, Any]:
    return {name: value for name, value in trained.report.items() if name != "seconds"}


def _curve(trained: Artifact) -> list[list[float]]:
    """[step, loss] of at most CURVE steps of a training, evenly spaced and including the last one."""
    steps = [[s["step"], s["loss"]] for s in read_steps(trained.folder / "steps.jsonl") if s.get("loss") is not None]
    every = max(1, -(-len(steps) // CURVE))
    return [[step, round(loss, 6)] for step, loss in (steps[::-1][::every])[::-1]]
