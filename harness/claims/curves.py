"""Learning curves: the rows of a training's checkpoints, and of several rounds of it, in their order, from the policy
that it started from."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from harness.boards.entry import Entry, measured_by
from harness.boards.facts import training_key
from harness.figures import KL, KL_PER_TOKEN
from harness.types import Metric

_DIVERGENCES = frozenset({KL.metric, KL_PER_TOKEN.metric})


class Stop(NamedTuple):
    """A checkpoint of a curve. `steps`: optimizer steps until then, those of earlier rounds included. `tokens`: through
    the policy in training; None where unknown."""

    entry: Entry
    steps: int
    tokens: int | None

    def metric(self, name: str) -> Metric | None:
        """A figure of its row. Before training a policy is its own reference, from which its divergence is 0."""
        if name in _DIVERGENCES and not self.steps:
            return Metric(value=0.0)
        return self.entry.metrics.get(name)


class LearningCurve(NamedTuple):
    """`last`: the row of the training's last checkpoint, of several rounds that of the last. `stops`: the policy before
    training if the board has it, then the checkpoints in order."""

    last: Entry
    stops: tuple[Stop, ...]


def learning_curves(entries: Iterable[Entry]) -> list[LearningCurve]:
    """The curves of the trainings of which the board has several checkpoints or rounds, in the order of their last
    rows. Rows that were not measured alike are left out of a curve; a round that is missing ends it."""
    rows = list(entries)
    of_training: dict[str, list[Entry]] = {}
    for row in rows:
        if (key := training_key(row)) is not None:
            of_training.setdefault(key, []).append(row)
    curves: list[LearningCurve] = []
    for last in rows:
        about, own = last.provenance, training_key(last)
        if own is None or about.checkpoint is not None or (about.round and not about.round.is_last):
            continue
        measured, stops = measured_by(last), list[Stop]()
        for key in reversed([*(about.round.earlier if about.round else ()), own]):
            of_round = _stops([row for row in of_training.get(key, ()) if measured_by(row) == measured], last)
            if not of_round:
                break
            end = of_round[-1]
            stops = [*of_round, *(Stop(s.entry, end.steps + s.steps, _sum(end.tokens, s.tokens)) for s in stops)]
        else:
            if len(stops) > 1:
                alike = [row for row in rows if measured_by(row) == measured]
                curves.append(LearningCurve(last, (*_start(last, alike), *stops)))
    return curves


def _stops(rows: Sequence[Entry], last: Entry) -> list[Stop]:
    """The checkpoints of one training, the last one included; none without it. Of several at one step, which are the
    same, one is here, and at the very last step that is the last one. `last`: that row, if it is of this training."""
    ends = [row for row in rows if row is last] or [row for row in rows if row.provenance.checkpoint is None]
    training = ends[0].provenance.training if ends else None
    if training is None or training.steps is None:
        return []
    points = [(row, row.provenance.checkpoint) for row in rows]
    stops = {p.steps: Stop(row, p.steps, p.tokens) for row, p in points if p is not None and p.steps < training.steps}
    return [*(stops[steps] for steps in sorted(stops)), Stop(ends[0], training.steps, training.forward_tokens)]


def _sum(before: int | None, tokens: int | None) -> int | None:
    return None if before is None or tokens is None else before + tokens


def _start(last: Entry, alike: Sequence[Entry]) -> list[Stop]:
    """The policy before training, which of a fine-tuned one is its own row."""
    started = last.provenance.sft.row if last.provenance.sft else None
    for row in alike:
        if row.id == started or (started is None and row.method == "base"):
            return [Stop(row, 0, 0)]
    return []
