"""What changed between two boards: recipe, code, data, judge, benchmarks, and which rows were computed anew."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from harness.boards.board import Board
from harness.boards.entry import Entry
from harness.boards.provenance import JudgeCalibration, Provenance
from harness.boards.versions.substance import substance
from harness.report.changes.fields import NOT_THERE, changed_fields, listed, numbers
from harness.report.changes.moved import FigureMoves, Pair, moves

DATA = ("seeds", "prompts", "responses", "reward", "ranked")
"""Stages of the data, in the order of the data flow; others follow."""
MOST_FIGURES = 4
"""Figures of a stage's report that are told."""


class Change(NamedTuple):
    """A change. `field`: what; `text`: how. `rows`: those it is about, empty for all that could have it."""

    field: str
    text: str
    rows: tuple[str, ...] = ()


class Changes(NamedTuple):
    """What changed from one board to the other. `sections`: title and changes, only those that have any; the recipe is
    the first. `pairs`: the rows of both; `gone` and `added`: ids of the others. `moves`: by figure."""

    old: Board
    new: Board
    sections: tuple[tuple[str, tuple[Change, ...]], ...]
    pairs: tuple[Pair, ...]
    gone: tuple[str, ...]
    added: tuple[str, ...]
    moves: tuple[FigureMoves, ...]

    @property
    def recipe(self) -> tuple[Change, ...]:
        """The recipe's changed fields."""
        return next((changes for title, changes in self.sections if title == "Recipe"), ())

    @property
    def unchanged(self) -> list[str]:
        """Rows that are the same on both boards."""
        return [pair.name for pair in self.pairs if pair.same]


def changes_between(old: Board, new: Board) -> Changes:
    """Everything that changed from an old board to a new one. Rows are matched by id, the others by substance: a row
    that was only renamed is the same row."""
    pairs, gone, added = _matched(old.entries, new.entries)
    # Boards without a common row still have a recipe, a judge and a version each.
    about = pairs or [Pair(*ends, same=False) for ends in zip(old.entries[:1], new.entries[:1], strict=False)]
    found = {
        "Recipe": _by_row(about, lambda row: row.recipe),
        "Code": _by_row(about, lambda row: row.made_by),
        "Data": _data(about),
        "Judge": _by_row(about, _judge),
        "Benchmarks": _by_row(about, lambda row: row.benchmarks or None),
        "Reference answers": _by_row(about, lambda row: _short(row.references)),
        "Computed anew": _anew(pairs),
    }
    sections = tuple((title, tuple(changes)) for title, changes in found.items() if changes)
    return Changes(old, new, sections, tuple(pairs), tuple(gone), tuple(added), tuple(moves(pairs)))


def _matched(old: Sequence[Entry], new: Sequence[Entry]) -> tuple[list[Pair], list[str], list[str]]:
    """(rows of both boards in the new one's order, ids of the old rows that are gone, ids of the new ones)."""
    left = {entry.id: entry for entry in old}
    by_id = {entry.id: left.pop(entry.id) for entry in new if entry.id in left}
    substances = {name: substance(entry) for name, entry in left.items()}
    pairs, added = [], []
    for entry in new:
        ours = substance(entry)
        if entry.id in by_id:
            before = by_id[entry.id]
            pairs.append(Pair(before, entry, substance(before) == ours))
        elif (name := next((name for name, theirs in substances.items() if theirs == ours), None)) is not None:
            del substances[name]
            pairs.append(Pair(left.pop(name), entry, same=True))
        else:
            added.append(entry.id)
    return pairs, list(left), added


def _by_row(pairs: Sequence[Pair], part: Callable[[Provenance], Any]) -> list[Change]:
    """The fields in which a part of the rows' provenance differs, each with the rows where it does."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    having = [pair for pair in pairs if any(part(row.provenance) is not None for row in (pair.old, pair.new))]
    for pair in having:
        for field in changed_fields(part(pair.old.provenance) or {}, part(pair.new.provenance) or {}):
            rows.setdefault(tuple(field), []).append(pair.name)  # type: ignore[arg-type]
    # Fields that only one of the boards has come last: another version of the harness has other fields.
    ordered = sorted(rows.items(), key=lambda item: NOT_THERE in item[0][1:])
    return [
        Change(name, f"{old} → {new}", () if len(names) == len(having) else tuple(names))
        for (name, old, new), names in ordered
    ]


def _judge(row: Provenance) -> dict[str, Any] | None:
    """The judge's identity with its calibration in words: the rest of that record says the same in numbers."""
    if row.judge is None:
        return None
    found = row.judge_calibration
    return {**row.judge, "calibration": found.text if isinstance(found, JudgeCalibration) else found}


def _short(keys: Mapping[str, str]) -> dict[str, str] | None:
    return {name: f"answers {key[:8]}" for name, key in keys.items()} or None


def _data(pairs: Sequence[Pair]) -> list[Change]:
    """The stages of the data that were computed anew, with the plain figures of their reports that differ."""
    rows: dict[tuple[str, str], list[str]] = {}
    having = []
    for pair in pairs:
        old, new = pair.old.provenance, pair.new.provenance
        names = [name for name in dict.fromkeys((*old.data, *new.data)) if "/" not in name]
        having += [pair.name] if names else []
        for name in sorted(names, key=lambda name: DATA.index(name) if name in DATA else len(DATA)):
            if text := _stage(name, old, new):
                rows.setdefault((name, text), []).append(pair.name)
    return [
        Change(name, text, () if len(names) == len(having) else tuple(names)) for (name, text), names in rows.items()
    ]


def _stage(name: str, old: Provenance, new: Provenance) -> str:
    """How a stage of the data differs; empty where it is the same."""
    if name not in new.data:
        return "no longer there"
    if name not in old.data:
        return "new"
    keys = old.keys.get(name), new.keys.get(name)
    if keys[0] == keys[1] and (keys[0] is not None or old.data[name] == new.data[name]):
        return ""
    fields = changed_fields(numbers(old.data[name]), numbers(new.data[name]))
    told = listed([f"{field.name} {field.old} → {field.new}" for field in fields], MOST_FIGURES)
    return f"computed anew: {told or 'its report has the same figures'}"


def _anew(pairs: Iterable[Pair]) -> list[Change]:
    """For each row, the kinds of its own stages whose results are others than before."""
    changes = []
    for pair in pairs:
        before, after = (_own_keys(row) for row in (pair.old, pair.new))
        kinds = [kind for kind in ("sft", "train", "heldout", "answers", "verdicts") if before[kind] != after[kind]]
        if kinds and not pair.same:
            changes.append(Change(pair.name, ", ".join(kinds)))
    return changes


def _own_keys(row: Entry) -> dict[str, list[str]]:
    keys: dict[str, list[str]] = {kind: [] for kind in ("sft", "train", "heldout", "answers", "verdicts")}
    for name, key in sorted(row.provenance.keys.items()):
        if (kind := name.partition("/")[0]) in keys and "/" in name:
            keys[kind].append(key)
    return {kind: sorted(found) for kind, found in keys.items()}
