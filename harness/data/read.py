"""Reads the preference pairs of a dataset and splits them into training and held-out pairs.

`harness.data.pairs` describes the supported columns. Every row is checked. An unreadable row raises DataError with its
location; in a public set, which the user can't correct, it is left out and counted instead.
"""

import hashlib
import logging
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field

from harness.data.columns.contents import Unreadable
from harness.data.columns.layouts import usual
from harness.data.pairs import FORMS, Columns, UnknownColumns, columns_of, prepared, to_pair
from harness.data.rankings import expected_rankings, is_ranking, layout_of, ranking_pair, read_ranking
from harness.data.rows import LocatedRow, json_rows
from harness.errors import DataError
from harness.printable import printable
from harness.types import Messages, PreferencePair

_log = logging.getLogger(__name__)


def _a_share(value: float) -> float:
    if value > 1:
        raise ValueError("expected at most 1 (the share of rows to take; no row is taken twice)")
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
"""The held-out part: a share of the prompts (a float, above 0 and below 1) or their number (an int, at least 1)."""


def heldout_count(holdout: float, prompts: int) -> int:
    """The number of prompts that a `Holdout` holds out; `split` explains when the actual number differs by a few."""
    return holdout if isinstance(holdout, int) else round(holdout * prompts)


class LoadedPairs(NamedTuple):
    """A set's pairs. `left_out`: how many rows were left out, by reason: `same_text` (chosen and rejected are equal, or
    all answers tied: no preference), `repeated_prompts` (only a prompt's first row is kept) and `unreadable`; of
    rankings also `no_preference` (fewer than two different scores, or best and worst have the same text) and `held_out`
    (by the run that made them).
    `read_as`: how many rows had a conversation in a text, by how it was written. `ignored_columns`: in how
    many rows a column that isn't read holds something. `places`: the location of each pair's row, by the pair's id."""

    pairs: list[PreferencePair]
    left_out: dict[str, int]
    read_as: dict[str, int]
    ignored_columns: dict[str, int]
    places: dict[str, str]


def read_pairs(
    rows: Iterable[LocatedRow],
    name: str,
    source: str,
    *,
    columns: Columns | None = None,
    limit: int | None = None,
    weight: float = 1.0,
    strict: bool = True,
    rankings: bool = False,
    errors: list[str] | None = None,
) -> LoadedPairs:
    """The pairs of a set's rows, in order. `rankings`: each row ranks responses, in any layout of
    `harness.data.rankings`, and its pair keeps them all.

    Of rows with the same prompt (the same id) only the first is kept, because everything is joined by id. `limit`: stop
    after so many pairs. `weight`: the share of these pairs to take if below 1 (rounded, at least one), chosen by the
    hash of their ids. `strict`: an unreadable row raises DataError; otherwise it is left out. Rows left out are counted
    and logged; `errors` collects what is wrong with unreadable ones. `name`: the set's name in errors. Raises
    DataError, also if there are no pairs.
    """
    pairs, places = dict[str, PreferencePair](), dict[str, str]()
    left_out = Counter({"same_text": 0, "repeated_prompts": 0, "unreadable": 0})
    left_out.update({"no_preference": 0, "held_out": 0} if rankings else {})
    read_as, ignored = Counter[str](), Counter[str]()
    mapping, errors = None, [] if errors is None else errors
    for place, row in rows:
        try:
            if rankings or (columns is None and is_ranking(row)):
                pair = _ranking(row, place, source, rankings)
            else:
                row, layout = usual(row) if columns is None else (row, [])
                mapping = mapping or columns_of(row, columns)
                ready = prepared(row, mapping, named=columns is not None)
                pair = to_pair(ready.row, mapping, source)
                read_as.update([*layout, *ready.styles])
                ignored.update(ready.ignored)
        except (Unreadable, DataError) as error:
            text = str(error) if isinstance(error, DataError) else f"{place}: {error}"
            if strict or isinstance(error, UnknownColumns):
                raise DataError(text) from None
            errors.append(text)
            left_out["unreadable"] += 1
            continue
        if rankings and row.get("split") == "heldout":
            left_out["held_out"] += 1
            continue
        if pair is None or pair.chosen == pair.rejected:
            left_out["no_preference" if rankings else "same_text"] += 1
            continue
        left_out["repeated_prompts"] += pair.id in pairs
        pairs.setdefault(pair.id, pair)
        places.setdefault(pair.id, place)
        if len(pairs) == limit:
            break
    first_error = errors[0] if errors else ""
    if not pairs:
        raise _without_pairs(name, left_out, first_error, rankings=rankings)
    _log_left_out(name, left_out, first_error)
    _log_counts(logging.WARNING, name, "read as pairs", read_as)
    # A public set's columns, and columns that the user named, are chosen: no warning is due.
    _log_counts(logging.WARNING if columns is None else logging.INFO, name, "ignored columns", ignored)
    selected = _lowest(pairs, max(1, round(weight * len(pairs))), "weight") if weight < 1 else pairs.keys()
    kept = [pair for pair in pairs.values() if pair.id in selected]
    return LoadedPairs(kept, dict(left_out), dict(read_as), dict(ignored), places)


def _log_left_out(name: str, left_out: Counter[str], first_error: str) -> None:
    for reason, count in left_out.items():
        if count:
            _log.warning("%s: %d rows %s and were left out", name, count, _REASONS[reason] % {"first": first_error})


def _log_counts(level: int, name: str, what: str, counts: Counter[str]) -> None:
    if counts:
        listed = ", ".join(f"{printable(style, 60)} ({count} rows)" for style, count in counts.most_common(20))
        _log.log(level, "%s: %s: %s", name, what, listed)


def _without_pairs(name: str, left_out: Counter[str], first_error: str, *, rankings: bool) -> DataError:
    if same := left_out["same_text"] + left_out["no_preference"]:
        rows = f"{same} rows" if first_error or left_out["held_out"] else f"all {same} rows"
        why = _TIED if rankings else "have the same text as chosen and rejected, or tied scores"
        return DataError(f"{name}: {rows} {why}; expected a preference")
    if left_out["held_out"]:
        return DataError(f"{name}: all {left_out['held_out']} rows were held out by the run that made them")
    expected = "a prompt and its ranked responses" if rankings else f"the columns {FORMS}"
    return DataError(first_error or f"{name}:1: expected at least one row with {expected}")


_TIED = "have fewer than two different scores, or the same text as the best and the worst response"
_REASONS = {
    "same_text": "have the same text as chosen and rejected, or tied scores,",
    "repeated_prompts": "repeat an earlier prompt",
    "no_preference": f"{_TIED},",
    "held_out": "were held out by the run that made them",
    "unreadable": "can't be read (the first: %(first)s)",
}


def _ranking(row: dict[str, Any], place: str, source: str, whole: bool) -> PreferencePair | None:
    """The pair of a row that ranks responses; None if it holds no preference. `whole`: with all of them. Raises
    Unreadable or DataError."""
    if (layout := layout_of(row)) is None:
        raise expected_rankings(row)
    return ranking_pair(read_ranking(row, layout, place), source, whole=whole)


def parse_pairs(
    content: bytes, name: str, source: str, *, limit: int | None = None, weight: float = 1.0
) -> list[PreferencePair]:
    """`read_pairs` for the content of a JSONL file or a JSON list. Raises DataError."""
    return read_pairs(json_rows(content, name), name, source, limit=limit, weight=weight).pairs


def split(
    pairs: Sequence[PreferencePair], holdout: float, seed: int
) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """(training, held-out) pairs, each in the order of `pairs`. No prompt is on both sides.

    Prompts with the same `likeness` form a group and stay together. Groups are sorted by the lowest SHA-256 of
    `seed:id` among their prompts. In that order, every group is held out that doesn't exceed the rest of
    `heldout_count`. If some prompts are still missing, the smallest skipped group is held out too if that brings the
    number closer. So the number is exact whenever a prompt without a duplicate is left for training, the order of rows
    doesn't matter, and another seed gives another split. The drawback of exact shares is that a new prompt can move
    another one across the split. (A threshold on the hash would move none, but would give small sets uneven shares.)
    Raises DataError if a side would be empty.
    """
    groups: defaultdict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        groups[likeness(pair.messages)].add(pair.id)
    total = sum(map(len, groups.values()))
    heldout = _whole_groups(groups.values(), heldout_count(holdout, total), str(seed))
    if not 0 < len(heldout) < total:
        sides = f"{total - len(heldout)} for training and {len(heldout)} held out"
        distinct = "" if len(groups) == total else f" ({len(groups)} without duplicates)"
        message = f"holdout {holdout} of {total} prompts{distinct} leaves {sides}; expected at least 1 on each side"
        raise DataError(message)
    return [p for p in pairs if p.id not in heldout], [p for p in pairs if p.id in heldout]


def _whole_groups(groups: Iterable[set[str]], count: int, salt: str) -> set[str]:
    """The union of whole groups with about `count` ids in all; see `split`."""
    heldout: set[str] = set()
    skipped: list[set[str]] = []
    for group in sorted(groups, key=lambda group: min(_hash(i, salt) for i in group)):
        if len(group) <= count - len(heldout):
            heldout |= group
        else:
            skipped.append(group)
    missing = count - len(heldout)
    smallest = min(skipped, key=len, default=set())
    return heldout | smallest if len(smallest) < 2 * missing else heldout


def likeness(messages: Messages) -> str:
    """A normal form, equal for prompts that a reader would call the same: roles and words of all turns except the
    system's, ignoring case, character width, punctuation and white space. Symbols count (1 + 1 is not 1 1). A turn
    without any word is kept as it is."""
    return "\n".join(f"{m.role}: {_words(m.content)}" for m in messages if m.role != "system")


def _words(text: str) -> str:
    normal = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_NON_WORD.sub(_without_punctuation, normal).split()) or text.strip()


_NON_WORD = re.compile(r"[^\w\s]+")


def _without_punctuation(match: re.Match[str]) -> str:
    """Keep combining marks (parts of letters) and symbols; replace punctuation by spaces."""
    return "".join(c if unicodedata.category(c)[0] in "MS" else " " for c in match[0])


def _lowest(ids: Iterable[str], count: int, salt: str) -> set[str]:
    return set(sorted(ids, key=lambda i: _hash(i, salt))[:count])


def _hash(prompt: str, salt: str) -> bytes:
    return hashlib.sha256(f"{salt}:{prompt}".encode()).digest()
