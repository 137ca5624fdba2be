"""What a reader must know of rows that were chosen among others."""

from collections.abc import Sequence

from harness.boards.catalog import Figures
from harness.boards.entry import Entry

MOST_CHOICES = 4
"""Choices that are told one by one."""


def selection_words(rows: Sequence[Entry], benchmark: str) -> list[str]:
    """How the rows were chosen, and whether the methods had equally many candidates; empty for rows that were not
    chosen. `benchmark`: that of the figure that rows are compared by."""
    ways: dict[tuple[str, int, tuple[str, ...]], dict[str, Entry]] = {}
    tried: set[int] = set()
    for row in rows:
        if (facts := row.provenance.selection) is not None:
            ways.setdefault((facts.metric, facts.prompts, facts.over), {})[row.id] = row
            tried.add(len(facts.candidates))
    texts = [_of_way(list(chosen.values()), rows, benchmark) for chosen in ways.values()]
    if len(ways) > 1:
        texts.append("The rows were not all chosen in the same way, or on as many prompts.")
    trained = [row for row in rows if row.provenance.training is not None and row.method != "sft"]
    if ways and any(row.provenance.selection is None for row in trained):
        texts.append("Other trained rows were not chosen: more candidates are an advantage.")
    unequal = ["The methods had unequally many candidates: more of them are an advantage."] if len(tried) > 1 else []
    return [*texts, *unequal]


def _of_way(chosen: Sequence[Entry], rows: Sequence[Entry], benchmark: str) -> str:
    """What is said of rows that were chosen by one figure on as many prompts."""
    facts = [(row, row.provenance.selection) for row in chosen]
    told = [(row, about) for row, about in facts if about is not None]
    first, tried = told[0][1], sorted({len(about.candidates) for _, about in told})
    figure = Figures(rows).get(first.metric)
    by = first.metric if figure is None else f"{figure.group} {figure.title}".strip()
    each = "its only candidate" if tried == [1] else f"the best of its {tried[0]} candidates"
    if len(tried) > 1:
        each = f"the best of its {tried[0]} to {tried[-1]} candidates"
    prompts = "1 prompt" if first.prompts == 1 else f"{first.prompts:,} prompts"
    text = f"Each method stands with {each} ({', '.join(first.over)}) by {by} on {prompts}."
    if first.metric.split(".")[0] == benchmark:
        text += " These figures are of the other prompts."
    picks = list(dict.fromkeys(f"{_method(row)}: {about.candidate}" for row, about in told))
    return f"{text} Chosen: {'; '.join(picks)}." if len(picks) <= MOST_CHOICES else text


def _method(row: Entry) -> str:
    about = row.provenance
    point = about.checkpoint.row if about.checkpoint else None
    return about.method_id or point or (about.sweep.row if about.sweep else None) or row.id
