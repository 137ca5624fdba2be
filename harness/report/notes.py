"""Notes that a reader of a board needs, on its figures, data and training; and the data stages they are about."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.boards.catalog import Figures, present
from harness.boards.entry import BoardRow, Entry
from harness.boards.facts import MOST_NAMED, loss_facts
from harness.boards.format import number, with_interval
from harness.claims.divergence import divergence_notes
from harness.components import benchmark_class
from harness.report.engines import engine_notes
from harness.stage_kinds import STAGE_KINDS
from harness.types import Metric


def benchmark_notes(entries: Iterable[BoardRow]) -> list[str]:
    """The notes of the installed benchmarks on their figures, without repetition."""
    notes: dict[str, None] = {}
    for entry in entries:
        for name in entry.provenance.benchmarks:
            notes |= dict.fromkeys(benchmark_class(name).notes(entry.provenance.judge or {}, list(entry.metrics)))
    return list(notes)


def figure_notes(entries: Sequence[Entry]) -> list[str]:
    """The notes on the rows' figures, without repetition."""
    return list(dict.fromkeys(figure.note for figure in present(Figures(entries).all, entries) if figure.note))


def unchecked_notes(entries: Sequence[Entry]) -> list[str]:
    """A note on rows whose figures come without the outcomes that they should follow from: of a public leaderboard, or
    of a `board.json` without its entries."""
    figures = Figures(entries)

    def is_unchecked(entry: Entry, metric: str) -> bool:
        figure = figures[metric]
        follows = figure.pairing is not None or figure.counted is not None
        return follows and entry.value(metric) is not None and not entry.outcomes.get(figure.benchmark)

    ids = [entry.id for entry in entries if any(is_unchecked(entry, metric) for metric in entry.metrics)]
    if not ids:
        return []
    rows = ", ".join(ids) if len(ids) <= MOST_NAMED else f"{len(ids):,} rows"
    return [f"{rows}: without outcomes by prompt. These figures can't be checked, compared or gated."]


def heldout_notes(entries: Iterable[BoardRow]) -> list[str]:
    """A note where the rows of a sweep use different held-out pairs."""
    sizes = {str(e.provenance.keys.get("seeds")) for e in entries if e.provenance.sweep and e.provenance.data}
    if len(sizes) < 2:
        return []
    return [
        "Rows were trained on several seed sets, each with held-out pairs of its own: held-out figures of rows with "
        "different seed sets use different pairs."
    ]


def margin_notes(entries: Iterable[BoardRow]) -> list[str]:
    """One note per trained row that has no share of the margin that it kept: why."""
    measured = [(e.id, e.provenance.heldout) for e in entries if e.method != "base"]
    reasons = {row: facts.no_margin_kept for row, facts in measured if facts is not None}
    return [f"{row}: no share of the margin kept: {reason}." for row, reason in reasons.items() if reason]


def budget_notes(entries: Iterable[BoardRow]) -> list[str]:
    """One note per row that was given another row's training budget: whose budget, and how much of it was used."""
    units = {"steps": "optimizer steps", "prompts": "prompts", "tokens": "tokens through the policy"}
    notes = []
    for entry in entries:
        training, other = entry.provenance.training, entry.provenance.match_to
        if training is None:
            continue
        budget, used = training.budget, training.used
        if budget is not None and used is not None:
            unit = units.get(str(training.match), str(training.match))
            notes.append(f"{entry.id}: trained for as many {unit} as {other}: {budget:,} there, {used:,} here.")
    return notes


def answering_notes(entries: Iterable[BoardRow]) -> list[str]:
    """A note where a served judge's verdicts on a benchmark came from several models, and one where the judge was asked
    otherwise than the benchmark says, since its server takes no such requests; and those of `thought_notes`."""
    entries = list(entries)
    models: dict[str, Counter[str]] = {}
    adapted: dict[str, Counter[str]] = {}
    for entry in entries:
        for name, facts in entry.provenance.judging.items():
            models.setdefault(name, Counter()).update(facts.models)
            adapted.setdefault(name, Counter()).update(facts.adapted)
    changed = [
        f"{name}: the judge was asked for structured output (JSON by a schema) in {count:,} replies."
        if how == "structured output"
        else f"{name}: the judge was asked {how}, as its server demands, for {count:,} replies."
        for name, counts in adapted.items()
        for how, count in sorted(counts.items())
    ]
    several = [
        f"{name}: the judge's replies came from {len(counts)} models, as its server says: {_listed(counts)}. Rows that "
        "different models judged are not comparable."
        for name, counts in models.items()
        if len(counts) > 1
    ]
    return [*changed, *several, *thought_notes(entries), *divergence_notes(entries), *engine_notes(entries)]


def thought_notes(entries: Iterable[BoardRow]) -> list[str]:
    """A note on each benchmark where answers have thoughts: whose, and whether they were removed before judging."""
    rows: dict[tuple[str, bool], list[str]] = {}
    for entry in entries:
        for name, report in entry.provenance.answers.items():
            if isinstance(counts := report.get("thoughts"), Mapping):
                rows.setdefault((name, bool(counts.get("removed"))), []).append(f"{entry.id} {_thoughts(counts)}")
    return [
        f"{name}: thoughts {'removed from' if removed else 'are judged as a part of'} answers of {'; '.join(of)}."
        for (name, removed), of in rows.items()
    ]


def _thoughts(counts: Mapping[str, Any]) -> str:
    """`(12 of 805; 3 ended inside their thought and have no answer)`."""
    parts = [f"{counts.get('with_thoughts')} of {counts.get('texts')}"]
    if unfinished := counts.get("unfinished"):
        parts.append(f"{unfinished} ended inside their thought and have no answer")
    if closed := counts.get("closed"):
        parts.append(f"{closed} were closed at the token budget")
    return f"({'; '.join(parts)})"


def _listed(counts: Mapping[str, int]) -> str:
    """`a (12), b (3)`, the most frequent first."""
    return ", ".join(f"{name} ({count:,})" for name, count in sorted(counts.items(), key=lambda x: (-x[1], x[0])))


def stage_notes(report: Mapping[str, Any]) -> list[str]:
    """All notes on the report of a data stage."""
    models = found if isinstance(found := report.get("models"), Mapping) else {}
    answered = [f"the server's replies came from {len(models)} models: {_listed(models)}"] if len(models) > 1 else []
    counts = report.get("thoughts")
    thoughts = [f"texts with thoughts {_thoughts(counts)}"] if isinstance(counts, Mapping) else []
    models = report.get("system_folded_for") or {}
    folded = [f"system messages are in front of the user's turn for {_listed(models)}, whose templates take none"]
    return [
        *answered,
        *thoughts,
        *(folded if models else []),
        *leak_notes(report),
        *admission_notes(report),
        *ranking_notes(report),
        *agreement_notes(report),
        *best_of_notes(report),
    ]


def leak_notes(report: Mapping[str, Any]) -> list[str]:
    """How many of a stage's prompts are also in an evaluation set, for each set that was searched."""
    leaks = report.get("leaks")
    if not isinstance(leaks, Mapping) or not leaks:
        return []
    counts = ", ".join(f"{count:,} of {name}" for name, count in leaks.items())
    fate = "" if report.get("leaks_dropped", 1) or not any(leaks.values()) else ", kept as the recipe says"
    return [f"prompts of the evaluation sets found: {counts}{fate}"]


def admission_notes(report: Mapping[str, Any]) -> list[str]:
    """The results of a reward model's admission test, besides its accuracy."""
    admission = report.get("admission")
    if not isinstance(admission, Mapping):
        return []
    notes = [f"{admission.get('ties', 0):,} ties and {admission.get('not_scored', 0):,} not scored"]
    for name, words in {
        "length_correlation": "rank correlation of score and length",
        "longer_preferred": "the longer of two preferred",
    }.items():
        metric = Metric.model_validate(admission.get(name) or {"value": None})
        if metric.value is not None:
            notes.append(f"{words} {with_interval(metric, 2)}")
    accuracy = Metric.model_validate(admission.get("accuracy") or {"value": None})
    if accuracy.ci95 is not None and accuracy.ci95[1] < 0.5:
        notes.append("it orders held-out pairs worse than chance")
    batch = admission.get("batch")
    if isinstance(batch, Mapping) and batch.get("applies"):
        rounding = f" (rounding in half precision: {batch['rounding']:.1g})" if "rounding" in batch else ""
        notes.append(f"scores alone and in a batch of 16 agree to {batch.get('largest_difference', 0):.1g}{rounding}")
    return notes


def reconstruction_notes(entries: Iterable[BoardRow]) -> list[str]:
    """What on this board is a reconstruction rather than taken from a paper's text, without repetition."""
    notes: dict[str, None] = {}
    for entry in entries:
        if note := loss_facts(entry).reconstruction:
            notes[note] = None
        elif note := entry.provenance.reconstruction:
            notes[f"{entry.id}: {note}"] = None
    return list(notes)


def stage_reports(entries: Iterable[Entry], stage: str) -> list[tuple[Mapping[str, Any], list[str]]]:
    """Each distinct report of a data stage, with the ids of the rows that depend on it."""
    reports: dict[str, tuple[Mapping[str, Any], list[str]]] = {}
    for entry in entries:
        if (report := entry.provenance.data.get(stage)) is not None:
            reports.setdefault(json.dumps(report, sort_keys=True), (report, []))[1].append(entry.id)
    return list(reports.values())


def data_stages(entries: Iterable[Entry]) -> dict[str, str]:
    """The data stages in the rows' provenance, with a label for readers, in the order of the pipeline. The parts of a
    reward model follow it, then the reward models that were only compared."""
    stages = dict.fromkeys(name for entry in entries for name in entry.provenance.data)
    labels = {}
    for name, label in ((n, kind.title) for n, kind in STAGE_KINDS.items() if kind.title):
        if name in stages:
            labels[name] = label
        if name == "reward":
            labels |= {s: f"Part {_part_number(s)} of the reward model" for s in stages if s.startswith("reward/")}
            labels |= {s: _compared_label(s) for s in stages if s.startswith("other/")}
        if name == "ranked":
            labels |= {s: _gold_label(s) for s in stages if s.startswith("gold_reward")}
    return labels


def _part_number(role: str) -> str:
    """`2.1` for `reward/part/1/part/0`."""
    return ".".join(str(int(step) + 1) for step in role.split("/") if step.isdecimal())


def _compared_label(role: str) -> str:
    first, *rest = _part_number(role).split(".")
    whole = f"reward model {first} for comparison"
    return f"Part {'.'.join(rest)} of {whole}" if rest else whole.capitalize()


def _gold_label(role: str) -> str:
    part = _part_number(role)
    return f"Part {part} of the gold reward" if part else "Gold reward"


def best_of_notes(report: Mapping[str, Any]) -> list[str]:
    """How the scores that rank the data agree with the known truth, and what it says of the best of n by them."""
    rows = report.get("best_of_n")
    if not isinstance(rows, list):
        return []
    tau = Metric.model_validate(report.get("tau") or {"value": None})
    notes = [f"Kendall's tau of the ranking and gold within prompts {with_interval(tau, 2)}"]
    if len(rows) > 1:
        golds = [with_interval(Metric.model_validate(row["gold"]), 3) for row in rows]
        notes.append(
            f"of {', '.join(str(row['n']) for row in rows)} responses the best by the ranking has a gold score of "
            f"{', '.join(golds)} ({Metric.model_validate(rows[0]['gold']).n:,} prompts); the best by gold "
            f"{', '.join(number(row['ceiling'], 3) for row in rows)}; divergence of such a policy at most "
            f"{', '.join(number(row['kl'], 2) for row in rows)} nats"
        )
    return notes


def ranking_notes(report: Mapping[str, Any]) -> list[str]:
    """The rank correlation of score and length within prompts, and the expected gain from more responses."""
    notes = []
    correlation = report.get("score_and_length")
    if isinstance(correlation, Mapping) and correlation.get("value") is not None:
        tau = with_interval(Metric.model_validate(correlation), 2)
        notes.append(f"Kendall's tau of score and length within prompts {tau}")
    rows = [row for row in report.get("growth_with_n") or [] if row.get("best_sd") is not None and row["n"] > 1]
    if rows:
        ns, best, spread = (
            ", ".join(cells)
            for cells in (
                [str(row["n"]) for row in rows],
                [number(row["best_sd"], 2) for row in rows],
                [number(row["spread_sd"], 2) for row in rows],
            )
        )
        notes.append(
            f"of {ns} responses the best is expected {best} standard deviations within prompts above the mean, and "
            f"{spread} above the worst ({rows[0]['prompts']:,} prompts)"
        )
    return notes


def agreement_notes(report: Mapping[str, Any]) -> list[str]:
    """Kendall's tau for each pair of reward models."""
    pairs = report.get("pairs")
    if not isinstance(pairs, list):
        return []
    return [
        f"Kendall's tau of {pair['first']} and {pair['second']} within prompts "
        f"{with_interval(Metric.model_validate(pair['tau']), 2)}"
        for pair in pairs
    ]
