"""Whether a board's question came before its results: the commit that its recipe stands in."""

from collections.abc import Sequence
from datetime import datetime

from harness.boards.entry import Entry


def registration_words(rows: Sequence[Entry]) -> list[str]:
    """A line about the rows that are compared: their recipe's commit, and how many of them it came before. Nothing
    where a row has none, or they are of several recipes."""
    found = [row.provenance.registered for row in rows]
    known = [facts for facts in found if facts]
    if len(known) < len(found) or len({facts.commit for facts in known}) != 1:
        return []
    commit = f"{known[0].commit[:12]}, {datetime.fromisoformat(known[0].time):%Y-%m-%d %H:%M} UTC"
    late = sum(not facts.came_first for facts in known)
    if not late:
        return [f"The recipe was committed before any of these rows was computed ({commit})."]
    return [f"The recipe was committed after {late} of these {len(known)} rows had been computed ({commit})."]
