"""Why the figures of two rows can't be compared: they were measured with something else."""

import re
from collections.abc import Mapping
from typing import Any

from harness.boards.entry import Entry, who_judged
from harness.figures import HELDOUT
from harness.stats.paired import prompt_of


def measured_differently(row: Entry, baseline: Entry, group: str) -> str | None:
    """How two rows were measured differently on a benchmark or the held-out pairs, in one line: judge, benchmark,
    reference answers or prompts. None where they can be compared, prompt by prompt."""
    if group != HELDOUT:
        judges = [who_judged(entry.provenance.judge or {}) for entry in (baseline, row)]
        if judges[0] != judges[1]:
            return f"different judge: {first_difference(*judges)}"
        mine, theirs = (entry.provenance.benchmark(group) for entry in (row, baseline))
        if mine != theirs:
            return f"different {group}: {first_difference(theirs, mine)}"
        new_reference, old_reference = (entry.provenance.references.get(group) for entry in (row, baseline))
        if new_reference != old_reference:
            return f"{group} was judged against different answers of row '{mine.get('reference')}'"
    mine, theirs = (entry.outcomes.get(group, {}) for entry in (row, baseline))
    if mine.keys() != theirs.keys():
        pairs = "held-out pairs" if group == HELDOUT else "prompts"
        missing, new = len(theirs.keys() - mine.keys()), len(mine.keys() - theirs.keys())
        return f"different {pairs}: {missing:,} are missing, and {new:,} are new"
    if len({prompt_of(key) for key in mine}) < 2:
        return "one prompt is too few for a test"
    return None


def first_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The first field that differs, as `model: a -> b`."""
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            return f"{key}: {_short(old.get(key))} -> {_short(new.get(key))}"
    return "the descriptions differ"


def _short(value: Any) -> str:
    """A value on one line, a hash by its beginning."""
    text = str(value)
    return f"{text[:8]}…" if re.fullmatch(r"[0-9a-f]{40,64}", text) else text[:60]
