"""The header of a model's card, as the hub reads it: base, licence, tags, and the board's figures as results."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.boards.catalog import Figures, present
from harness.boards.entry import Entry
from harness.boards.facts import judge_name, loss_facts
from harness.figures import HELDOUT, Figure
from harness.pipeline.export.base import Base, Licence
from harness.pipeline.export.row import TrainedRow
from harness.pipeline.export.weights import Written

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

UNKNOWN = Licence("unknown")
"""The hub's name for a licence that nobody has stated."""
_ON_HUB = "https://huggingface.co/datasets/"


def metadata(
    row: TrainedRow,
    written: Written,
    base: Base | None,
    licence: Licence | None,
    languages: Sequence[str],
    sources: Sequence[str],
) -> "ModelCardData":
    """The card's header. `sources`: the homes of the seed sets, of which those on the hub are its datasets."""
    from huggingface_hub import ModelCardData

    licence = licence or UNKNOWN
    header = ModelCardData(
        base_model=base.model if base else None,
        datasets=[home.removeprefix(_ON_HUB) for home in sources if home.startswith(_ON_HUB)] or None,
        language=list(languages) or None,
        license=licence.short,
        license_name=licence.name,
        license_link=licence.link,
        library_name="peft" if written.adapter else "transformers",
        pipeline_tag="text-generation",
        tags=_tags(row, written),
        model_name=f"{row.board.name} {row.entry.id}",
        eval_results=results(row.entry) or None,
    )
    if base:
        header["base_model_relation"] = "adapter" if written.adapter else "finetune"
    return header


def _tags(row: TrainedRow, written: Written) -> list[str]:
    entry = row.entry
    tags = ["preference-harness", "preference-optimization" if row.loss else "sft"]
    if row.loss and loss_facts(entry).is_multi_dpo:
        tags.append("multi-dpo")
    if "dpo" in entry.method or entry.method == "trl:sigmoid":
        tags.append("dpo")
    return [*tags, *(["trl"] if entry.method.startswith("trl:") else []), *(["lora"] if written.adapter else [])]


def headline_figures(rows: Sequence[Entry]) -> list[Figure]:
    """The figures of the board's main table that one of the rows has."""
    return present(Figures(rows).board, rows)


def results(entry: Entry) -> "list[EvalResult]":
    """The row's headline figures for the card's `model-index`, each with its interval and counts; a figure of a
    benchmark names its judge. What was not scored is left out."""
    from huggingface_hub import EvalResult

    judge, found = judge_name(entry), []
    for figure in headline_figures([entry]):
        metric = entry.metrics[figure.metric]
        if metric.value is None:
            continue
        heldout = figure.benchmark == HELDOUT
        counts = {"ci95": list(metric.ci95) if metric.ci95 else None, "n": metric.n, "n_invalid": metric.n_invalid}
        judged = None if heldout or not judge else f"judge: {judge}"
        found.append(
            EvalResult(
                task_type="text-generation",
                task_name="Text generation",
                dataset_type=figure.benchmark,
                dataset_name="Held-out pairs of the ranked dataset" if heldout else figure.group,
                dataset_config=judged,
                metric_type=figure.name,
                metric_name=figure.head,
                metric_value=metric.value,
                metric_config=judged,
                metric_args={name: value for name, value in counts.items() if value is not None},
            )
        )
    return found
