"""The fields in which two pieces of nested data differ, by their dotted names, as `--set` takes them."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple


class _Absent:
    """Stands for a field that is not there."""


ABSENT = _Absent()
NOT_THERE = "not set"
_HASH = re.compile(r"[0-9a-f]{40,64}")
LONGEST = 160
"""Characters of a value that is shown."""


class Field(NamedTuple):
    """A field that differs. `name`: dotted, with the id of an item of a list behind it. `old`, `new`: as text."""

    name: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.name}: {self.old} → {self.new}"


def changed_fields(old: Any, new: Any) -> list[Field]:
    """The fields that differ, in the order of the old data. Items of a list that have ids or names (methods, say) are
    matched by them; any other list is one value. A field that is empty on one side and absent on the other is one that
    only one version knows, and no difference."""
    return [_field(name, a, b) for name, a, b in _differing(old, new, "")]


def _field(name: str, old: Any, new: Any) -> Field:
    texts = shown(old), shown(new)
    return Field(name, *(texts if texts[0] != texts[1] else (repr(old), repr(new))))


def _differing(old: Any, new: Any, field: str) -> Iterator[tuple[str, Any, Any]]:
    if _is_same(old, new):
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys([*old, *new]):
            yield from _differing(old.get(name, ABSENT), new.get(name, ABSENT), _dotted(field, name))
        return
    ours, theirs = _named(old), _named(new)
    if ours is None or theirs is None:
        yield field or "all of it", old, new
        return
    places = [list(ours), list(theirs)]
    if [name for name in places[0] if name in theirs] != [name for name in places[1] if name in ours]:
        yield f"{field}: order", ", ".join(places[0]), ", ".join(places[1])
    for name in dict.fromkeys([*ours, *theirs]):
        at = places[0 if name in ours else 1].index(name)
        moved = name in ours and name in theirs and places[1].index(name) != at
        for inner, a, b in _differing(
            ours.get(name, ABSENT), theirs.get(name, ABSENT), _dotted(field, name if moved else at)
        ):
            yield (inner if moved else f"{inner} ({name})"), a, b


def _is_same(old: Any, new: Any) -> bool:
    if old is ABSENT or new is ABSENT:
        there = new if old is ABSENT else old
        return there is ABSENT or there is None or (isinstance(there, str | list | tuple | Mapping) and not there)
    return bool(old == new)


def _named(value: Any) -> dict[str, Any] | None:
    """The items of a list by their ids, or names; None for anything else, and where an item has neither."""
    if not isinstance(value, list | tuple):
        return None
    for key in ("id", "name"):
        names = [item.get(key) if isinstance(item, Mapping) else None for item in value]
        if all(isinstance(name, str) for name in names) and len(set(names)) == len(names):
            return dict(zip(map(str, names), value, strict=True))
    return None


def _dotted(field: str, name: object) -> str:
    return f"{field}.{name}" if field else str(name)


def shown(value: Any) -> str:
    """A value as a recipe would have it, on one line; hashes and long texts are cut, numbers have six digits."""
    if value is ABSENT:
        return NOT_THERE
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    if _HASH.fullmatch(text):
        return f"{text[:8]}…"
    text = text or '""'
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def numbers(report: Mapping[str, Any]) -> dict[str, Any]:
    """The plain figures and words of a stage's report, without what is nested in it."""
    return {name: value for name, value in report.items() if isinstance(value, int | float | str)}


def listed(items: Sequence[str], most: int = 8) -> str:
    """`a, b, c and 4 more`."""
    rest = len(items) - most
    return ", ".join(items) if rest <= 0 else f"{', '.join(items[:most])} and {rest} more"
