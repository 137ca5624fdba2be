"""Whether a new board may take the place of an old one: not where far fewer of a row's prompts are scored."""

from collections.abc import Mapping

from harness.boards.board import Board
from harness.stats.paired import prompt_of

KEPT = 0.9
"""The share of a row's scored prompts that a new board must have. A judge that failed on single prompts stays above."""


def worse_coverage(old: Board, new: Board) -> str | None:
    """Why `new` must not silently replace `old`, in one line: for a row of both, and a benchmark or the held-out pairs,
    it has fewer than KEPT of the scored prompts (a single one fewer is never too few). None where it may. Rows of only
    one of the boards don't count."""
    rows = {entry.id: entry for entry in new.entries}
    for entry in old.entries:
        if entry.id not in rows:
            continue
        for group, outcomes in entry.outcomes.items():
            before, after = _scored(outcomes), _scored(rows[entry.id].outcomes.get(group, {}))
            if after < min(KEPT * before, before - 1):
                return (
                    f"row '{entry.id}' has {after:,} scored prompts of {group}; "
                    f"on the board that is there it has {before:,}"
                )
    return None


def _scored(outcomes: Mapping[str, float | None]) -> int:
    """The number of prompts with at least one scored outcome."""
    return len({prompt_of(key) for key, value in outcomes.items() if value is not None})
