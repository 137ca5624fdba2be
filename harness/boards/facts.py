"""What a row's provenance says about its judge, its loss, its training and its guards."""

from collections.abc import Iterable, Mapping

from harness.boards.entry import BoardRow
from harness.boards.provenance import LossFacts
from harness.components import loss_class

MOST_NAMED = 8
"""Rows that are named one by one; of more, only the count is given."""


def training_problems(entry: BoardRow) -> list[str]:
    """What went wrong in a row's training: why it stopped early, and its failure signatures."""
    training = entry.provenance.training
    if training is None:
        return []
    return [*([training.stopped] if training.stopped else []), *training.warnings]


def doubts(entry: BoardRow) -> list[str]:
    """The validity guards that fired for a row (see `harness.pipeline.guards`), one text each."""
    guards = entry.provenance.guards.items()
    return [flag.text if name == "row" else f"{name}: {flag.text}" for name, flags in guards for flag in flags]


def doubts_of_rows(entries: Iterable[BoardRow]) -> list[tuple[str, str]]:
    """(rows, why their figures are doubtful); a doubt that several rows share is listed once."""
    ids_by_doubt: dict[str, list[str]] = {}
    for entry in entries:
        for doubt in doubts(entry):
            ids_by_doubt.setdefault(doubt, []).append(entry.id)
    return [
        (", ".join(ids) if len(ids) <= MOST_NAMED else f"{len(ids)} rows", doubt) for doubt, ids in ids_by_doubt.items()
    ]


def loss_label(entry: BoardRow) -> str:
    """The row's loss as Markdown and the page show it: `–` for the untrained policy."""
    return "–" if entry.method == "base" else entry.method


def is_calibrated(entry: BoardRow) -> bool:
    """Whether the row's judge has a calibration on record; True for a row that was not judged."""
    return not entry.provenance.judge or entry.provenance.judge_calibration not in (None, "", "uncalibrated")


def judge_name(entry: BoardRow) -> str:
    """`local smollm2-135m-instruct`: the judge's component and model, from its identity; empty if unjudged."""
    judge = entry.provenance.judge or {}
    model = judge.get("model")
    if isinstance(model, Mapping):
        model = model.get("model")
    return " ".join(str(part) for part in (judge.get("name"), model) if part)


def loss_facts(entry: BoardRow) -> LossFacts:
    """What the row declares about its loss. Older rows declare nothing: then the installed loss is asked. All of TRL's
    losses train on pairs."""
    if entry.provenance.loss is not None:
        return entry.provenance.loss
    loss = loss_class(entry.method)
    on_pairs = loss.on_pairs or entry.method.startswith("trl:")
    return LossFacts(on_pairs=on_pairs, is_multi_dpo=loss.is_multi_dpo, reconstruction=loss.reconstruction)
