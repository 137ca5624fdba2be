"""Preference pairs from the rows of a dataset, and their split into train and held-out.

`harness.pairs_rows` says which columns are known. Every row is checked. One that can't be read raises DataError naming
its place; in a public set, which the user can't mend, it is left out and counted instead.
"""

import hashlib
import logging
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field

from harness.errors import DataError
from harness.pairs_rows import FORMS, Columns, UnknownColumns, Unreadable, columns_of, to_pair
from harness.row_files import Row, json_rows
from harness.types import Messages, PreferencePair

_log = logging.getLogger(__name__)


def _a_share(value: float) -> float:
    if value > 1:
        raise ValueError("expected at most 1 (the share of rows to take, and no row is taken twice)")
    return value


Weight = Annotated[float, Field(gt=0), AfterValidator(_a_share)]
"""The share of a seed set's rows to take, above 0 and at most 1."""


def _share_or_count(value: float) -> float:
    if value < 1:
        return value
    if value != int(value):
        raise ValueError("expected a share below 1, or a whole number of prompts")
    return int(value)


Holdout = Annotated[float, Field(gt=0), AfterValidator(_share_or_count)]
"""What is held out: a share of the prompts (a float, above 0 and below 1) or their number (an int, at least 1)."""


def heldout_count(holdout: float, prompts: int) -> int:
    """How many of so many prompts a `Holdout` holds out; `split` says when it may be a few more or less."""
    return holdout if isinstance(holdout, int) else round(holdout * prompts)


class Read(NamedTuple):
    """A set's pairs, and how many of the rows that were read were left out: `same_text` (chosen and rejected are the
    same: no preference), `repeated_prompts` (the first row of a prompt is kept) and `unreadable`."""

    pairs: list[PreferencePair]
    left_out: dict[str, int]


def read_pairs(
    rows: Iterable[Row],
    name: str,
    source: str,
    *,
    columns: Columns | None = None,
    limit: int | None = None,
    weight: float = 1.0,
    strict: bool = True,
) -> Read:
    """The pairs of a set's rows, in their order.

    Of rows with the same prompt (the same id) the first is kept: everything is joined by id. `limit` reads no further
    than that many pairs; of these, `weight` below 1 takes that share (rounded, at least one), chosen by the hash of
    their ids. `strict`: a row that can't be read raises DataError; otherwise it is left out. What was left out is
    counted and logged. `name` is what errors call the set. Raises DataError, also where there is no pair at all.
    """
    pairs: dict[str, PreferencePair] = {}
    left_out = Counter({"same_text": 0, "repeated_prompts": 0, "unreadable": 0})
    found, first = None, ""
    for place, row in rows:
        try:
            found = found or columns_of(row, columns)
            pair = to_pair(row, found, source)
        except Unreadable as error:
            if strict or isinstance(error, UnknownColumns):
                raise DataError(f"{place}: {error}") from None
            first = first or f"{place}: {error}"
            left_out["unreadable"] += 1
            continue
        if pair.chosen == pair.rejected:
            left_out["same_text"] += 1
            continue
        left_out["repeated_prompts"] += pair.id in pairs
        pairs.setdefault(pair.id, pair)
        if len(pairs) == limit:
            break
    if not pairs:
        raise DataError(first or f"{name}:1: expected at least one row with the columns {FORMS}")
    for why, count in left_out.items():
        if count:
            _log.warning("%s: %d rows %s and were left out", name, count, _WHY[why] % {"first": first})
    taken = _lowest(pairs, max(1, round(weight * len(pairs))), "weight") if weight < 1 else pairs.keys()
    return Read([pair for pair in pairs.values() if pair.id in taken], dict(left_out))


_WHY = {
    "same_text": "have the same text as chosen and rejected",
    "repeated_prompts": "repeat an earlier prompt",
    "unreadable": "can't be read (the first: %(first)s)",
}


def parse_pairs(
    content: bytes, name: str, source: str, *, limit: int | None = None, weight: float = 1.0
) -> list[PreferencePair]:
    """`read_pairs` of a JSONL file's content, or a JSON list's. Raises DataError."""
    return read_pairs(json_rows(content, name), name, source, limit=limit, weight=weight).pairs


def split(
    pairs: Sequence[PreferencePair], holdout: float, seed: int
) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """(train, held-out), each in the order of `pairs`; no prompt is on both sides.

    Prompts that `likeness` finds alike stay together. A group's place is the lowest SHA-256 of `seed:id` among its
    prompts. In that order, groups are held out that fit into what is missing from `heldout_count` of the distinct ids;
    should some be missing still, the smallest of the others is held out too if that comes nearer. So the count is exact
    wherever a prompt without its like is left for training, the order of rows doesn't matter, and the seed draws
    another split. The price of exact shares: a new prompt can move another over the line (a threshold on the hash would
    move none, and leave small sets with uneven shares). Raises DataError when a side would be empty.
    """
    groups: defaultdict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        groups[likeness(pair.messages)].add(pair.id)
    total = sum(map(len, groups.values()))
    heldout = _whole_groups(groups.values(), heldout_count(holdout, total), str(seed))
    if not 0 < len(heldout) < total:
        sides = f"{total - len(heldout)} for training and {len(heldout)} held out"
        alike = "" if len(groups) == total else f" ({len(groups)} without those that are alike)"
        message = f"holdout {holdout} of {total} prompts{alike} leaves {sides}; expected at least 1 on each side"
        raise DataError(message)
    return [p for p in pairs if p.id not in heldout], [p for p in pairs if p.id in heldout]


def _whole_groups(groups: Iterable[set[str]], count: int, salt: str) -> set[str]:
    taken: set[str] = set()
    skipped: list[set[str]] = []
    for group in sorted(groups, key=lambda group: min(_place(i, salt) for i in group)):
        if len(group) <= count - len(taken):
            taken |= group
        else:
            skipped.append(group)
    missing = count - len(taken)
    smallest = min(skipped, key=len, default=set())
    return taken | smallest if len(smallest) < 2 * missing else taken


def likeness(messages: Messages) -> str:
    """What prompts have in common that a reader would call the same: roles and words of all turns but the system's,
    without case, width, punctuation and white space. Symbols count (1 + 1 is not 1 1). A turn without any word is
    itself."""
    return "\n".join(f"{m.role}: {_words(m.content)}" for m in messages if m.role != "system")


def _words(text: str) -> str:
    normal = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_NO_WORD.sub(_marks, normal).split()) or text.strip()


_NO_WORD = re.compile(r"[^\w\s]+")


def _marks(match: re.Match[str]) -> str:
    """Combining marks (of letters) and symbols stay; punctuation becomes a space."""
    return "".join(c if unicodedata.category(c)[0] in "MS" else " " for c in match[0])


def _lowest(ids: Iterable[str], count: int, salt: str) -> set[str]:
    return set(sorted(ids, key=lambda i: _place(i, salt))[:count])


def _place(prompt: str, salt: str) -> bytes:
    return hashlib.sha256(f"{salt}:{prompt}".encode()).digest()
