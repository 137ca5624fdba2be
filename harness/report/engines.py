"""Notes on what engines have written and scored: what a run can't repeat to the digit."""

from collections.abc import Iterable, Mapping
from typing import Any

from harness.boards.entry import BoardRow


def engine_notes(entries: Iterable[BoardRow]) -> list[str]:
    """A note on each benchmark with answers by an engine, and one on rows whose reference an engine has scored: what
    can't be repeated to the digit."""
    served: dict[tuple[str, str], list[str]] = {}
    scored: dict[str, list[str]] = {}
    for entry in entries:
        for name, report in entry.provenance.answers.items():
            if isinstance(by := report.get("answered_by"), str):
                served.setdefault((name, by), []).append(entry.id)
        reference = _reference(entry)
        if entry.provenance.training is not None and reference is not None:
            scored.setdefault(str(reference.get("engine")), []).append(entry.id)
    answers = [
        f"{name}: answers of {', '.join(ids)} were {by}. Greedy ones may round otherwise than in process; sampled ones "
        "have a seed each, and yet are not the same in every run."
        for (name, by), ids in served.items()
    ]
    references = [
        f"{', '.join(ids)}: the engine '{engine}' has scored the reference, and rounds otherwise than training: "
        "implicit rewards don't begin at exactly 0."
        for engine, ids in scored.items()
    ]
    return [*answers, *references]


def _reference(entry: BoardRow) -> Mapping[str, Any] | None:
    """`training.reference` of a row's recipe; None where the row doesn't read it, as those of TRL's trainers."""
    recipe = entry.provenance.recipe or {}
    training, methods = recipe.get("training"), recipe.get("methods")
    for method in methods if isinstance(methods, list) else []:
        if isinstance(method, Mapping) and method.get("id") == entry.method and method.get("engine") == "trl":
            return None
    reference = training.get("reference") if isinstance(training, Mapping) else None
    return reference if isinstance(reference, Mapping) else None
