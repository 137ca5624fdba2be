"""Each row's colour and mark, the same in every chart of a board, and its name where there is little room."""

from collections.abc import Sequence
from typing import NamedTuple

from harness.boards.entry import Entry

COLOURS = 10
"""Colours in `page.css`."""
MARKS = ("dot", "square", "diamond", "bar")
LONGEST = 48
"""Characters of a name in a chart."""


class Look(NamedTuple):
    """A colour, as a class of `page.css`, and the shape of a mark."""

    colour: str
    mark: str


PLAIN = Look("plain", "dot")
"""Of what is no row: the value of an axis."""


class Looks:
    """The looks of a board's rows. The rows of one method share theirs, where there are several methods; the untrained
    policy is grey."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        methods = {entry.id: _method(entry) for entry in entries if entry.method != "base"}
        if len(set(methods.values())) < 2:
            methods = {row: row for row in methods}
        order = list(dict.fromkeys(methods.values()))
        self._of = {name: _look(i) for i, name in enumerate(order)}
        self._of |= {row: self._of[method] for row, method in methods.items()}
        self._of |= {entry.id: Look("base", "dot") for entry in entries if entry.method == "base"}
        self.groups = {**{e.id: e.id for e in entries if e.method == "base"}, **methods}
        """Row -> what its look stands for: its method, or itself."""

    def __getitem__(self, name: str) -> Look:
        """The look of a row, or of a method's rows; a plain one for other names."""
        return self._of.get(name, PLAIN)


def _method(entry: Entry) -> str:
    about = entry.provenance
    if about.checkpoint is not None:
        return about.checkpoint.row
    return about.method_id or (about.sweep.row if about.sweep else None) or entry.id


def _look(i: int) -> Look:
    return Look(f"k{i % COLOURS}", MARKS[i // COLOURS % len(MARKS)])


def short(text: str) -> str:
    """A name of at most LONGEST characters. The middle is cut out: rows of a sweep begin alike and end differently."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 3]}…{text[LONGEST // 3 + 1 - LONGEST :]}"
