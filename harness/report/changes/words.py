"""What changed between two boards in words: the sentences that come first, and the cells of the tables."""

from collections.abc import Sequence
from typing import NamedTuple

from harness.boards.board import Board
from harness.boards.format import number, signed
from harness.boards.versions.history import moment
from harness.figures import Figure
from harness.report.changes.fields import listed
from harness.report.changes.found import Change, Changes
from harness.report.changes.moved import FigureMoves, Move
from harness.report.comparisons import detectable_difference

MOST_TOLD = 4
"""Fields, and rows that moved, that are told one by one in the first sentences."""
HOW_TESTED = (
    "Now minus before, on the prompts that both were judged on, with Holm's correction over the rows of a figure. "
    "A trained row is one checkpoint: that it moved also means that it was trained once more."
)


class MovesTable(NamedTuple):
    """A figure's rows as texts; `significant`: which of them moved. `notes`: below the table."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    significant: tuple[bool, ...]
    notes: tuple[str, ...]

    @property
    def marked(self) -> list[tuple[tuple[str, ...], bool]]:
        """Each row's cells, and whether it moved."""
        return list(zip(self.rows, self.significant, strict=True))


def board_title(board: Board) -> str:
    """`quickstart, 2026-11-25 10:12 UTC`."""
    return ", ".join(part for part in (board.name, moment(board.generated)) if part)


def summary(changes: Changes) -> list[str]:
    """What a reader must know, in a few sentences."""
    return [_what_changed(changes), _rows(changes), *_what_moved(changes)]


def _what_changed(changes: Changes) -> str:
    told = []
    if changes.recipe:
        fields = [f"{change.field} {change.text}" for change in changes.recipe]
        told.append(f"{_count(len(fields), 'field')} of the recipe ({listed(fields, MOST_TOLD)})")
    told += [title[0].lower() + title[1:] for title, _ in changes.sections if title not in ("Recipe", "Computed anew")]
    return f"Changed: {', '.join(told)}." if told else "Recipe, code, data, judge and benchmarks are the same."


def _rows(changes: Changes) -> str:
    changed = [pair.name for pair in changes.pairs if not pair.same]
    groups = ((changes.unchanged, "the same"), (changed, "changed"), (changes.added, "new"), (changes.gone, "gone"))
    return f"Rows: {'; '.join(f'{len(ids)} {word} ({listed(ids)})' for ids, word in groups if ids) or 'none'}."


def _what_moved(changes: Changes) -> list[str]:
    tests = [(found.figure, move) for found in changes.moves for move in found.moves]
    moved = [(figure, move) for figure, move in tests if move.comparison.is_significant]
    lines = [_moved(figure, move) for figure, move in moved[:MOST_TOLD]]
    if len(moved) > MOST_TOLD:
        lines.append(f"{len(moved) - MOST_TOLD} more moved significantly, see below.")
    if tests and not moved:
        lines.append(
            f"No row moved significantly ({_count(len(tests), 'comparison')}); see what they could have shown."
        )
    apart = dict.fromkeys(reason for found in changes.moves for reason, _ in found.apart)
    if not tests and apart:
        more = "; others see below" if len(apart) > 2 else ""
        lines.append(f"No row can be compared: {'; '.join(list(apart)[:2])}{more}.")
    return lines


def _moved(figure: Figure, move: Move) -> str:
    c, decimals = move.comparison, figure.difference_decimals
    low, high = (number(x, decimals) for x in c.ci95 or (c.difference, c.difference))
    size = f"{signed(c.difference, decimals)} {figure.difference_words}"
    return f"{move.row}: {size} (95 % CI {low} to {high}): moved significantly."


def change_line(change: Change) -> str:
    """`methods.1.loss.beta (multi-dpo)`, or with the rows that it is about."""
    return f"{change.field} [{listed(change.rows)}]" if change.rows else change.field


def moves_table(found: FigureMoves) -> MovesTable:
    """A figure's moves as a table, with the reasons why other rows have none."""
    figure, decimals = found.figure, found.figure.difference_decimals
    rows = [
        (
            move.row,
            _value(move.before, figure),
            _value(move.now, figure),
            _change(move, decimals),
            f"{move.comparison.adjusted_p:.2g}",
            "significant" if move.comparison.is_significant else "–",
        )
        for move in found.moves
    ]
    notes = [f"{listed(ids)}: not comparable, {reason}." for reason, ids in found.apart]
    comparisons = [move.comparison for move in found.moves]
    if comparisons:
        power = detectable_difference(comparisons, figure)
        notes.insert(0, f"On {_span([c.prompts for c in comparisons])} prompts{power}.")
    if left := max((c.left_out for c in comparisons), default=0):
        notes.append(f"Up to {left:,} prompts are not scored on both boards and are left out.")
    heads = ("row", "before", "now", "change (95 % CI)", "p", "")
    significant = tuple(move.comparison.is_significant for move in found.moves)
    return MovesTable(figure.difference_head, heads, tuple(rows), significant, tuple(notes))


def _change(move: Move, decimals: int) -> str:
    c = move.comparison
    if c.ci95 is None:
        return f"{signed(c.difference, decimals)} (too few)"
    low, high = (number(x, decimals) for x in c.ci95)
    return f"{signed(c.difference, decimals)} ({low} to {high})"


def _value(value: float | None, figure: Figure) -> str:
    return "–" if value is None else number(value, figure.decimals)


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
