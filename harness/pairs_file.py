"""Preference pairs from a JSONL file, in the columns that such files have, and their split into train and held-out.

The columns are detected from the first row; other columns are left out, but for `category`, which is kept:

- `question, chosen, rejected` and maybe `system` (Intel/orca_dpo_pairs); an empty system is left out.
- `prompt, chosen, rejected`: each a text or a list of {role, content}; the answers are then the last message, and what
  is before it must be the prompt.
- `instruction, chosen, rejected` and maybe `input`, which follows the instruction after an empty line.

Every row is checked; one that can't be read raises DataError naming `FILE:LINE`.
"""

import gzip
import hashlib
import json
import logging
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from harness.errors import DataError, closest
from harness.types import Message, Messages, PreferencePair, prompt_id

COLUMNS = ("prompt", "question", "instruction")
"""The column that tells a file's form; the first that the first row has counts."""

_FORMS = "prompt, chosen, rejected; or system, question, chosen, rejected; or instruction, input, chosen, rejected"
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
    """How many of so many prompts a `Holdout` holds out."""
    return holdout if isinstance(holdout, int) else round(holdout * prompts)


def read_content(path: Path) -> bytes:
    """A file's content; one that ends in .gz is unpacked. Raises DataError."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except FileNotFoundError:
        there = [p.name for p in path.parent.glob("*.json*")] if path.parent.is_dir() else []
        close = closest(path.name, there)
        hint = f"; did you mean '{close}'?" if close else ""
        raise DataError(f"{path}: no such file; expected a JSONL file of preference pairs{hint}") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: can't be read ({reason}); expected a JSONL file, plain or .gz") from None


def content_sha256(content: bytes) -> str:
    """SHA-256 of a file's unpacked content, in hex."""
    return hashlib.sha256(content).hexdigest()


def parse_pairs(
    content: bytes, name: str, source: str, *, limit: int | None = None, weight: float = 1.0
) -> list[PreferencePair]:
    """The pairs of a JSONL file's content, in file order.

    Of rows with the same prompt (the same id) the first is kept: everything is joined by id. A row whose chosen and
    rejected texts are the same holds no preference. How many rows were left out for either is logged. `limit` reads no
    further than that many pairs; of these, `weight` below 1 takes that share (rounded, at least one), chosen by the
    hash of their ids. `name` is what errors call the file. Raises DataError.
    """
    pairs: dict[str, PreferencePair] = {}
    repeated = same = 0
    for pair in _rows(content, name, source):
        if pair.chosen == pair.rejected:
            same += 1
            continue
        if pair.id in pairs:
            repeated += 1
        pairs.setdefault(pair.id, pair)
        if len(pairs) == limit:
            break
    if not pairs:
        raise DataError(f"{name}:1: expected at least one row with the columns {_FORMS}")
    if same:
        _log.warning("%s: %d rows have the same text as chosen and rejected and were left out", name, same)
    if repeated:
        _log.warning("%s: %d rows repeat an earlier prompt and were left out", name, repeated)
    taken = _lowest(pairs, max(1, round(weight * len(pairs))), "weight") if weight < 1 else pairs.keys()
    return [pair for pair in pairs.values() if pair.id in taken]


def split(
    pairs: Sequence[PreferencePair], holdout: float, seed: int
) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """(train, held-out), each in the order of `pairs`; no prompt is on both sides.

    Held out are, of the n distinct ids, the `heldout_count` with the lowest SHA-256 of `seed:id`. So the shares are
    exact, the order of rows doesn't matter, and the seed draws another split. The price of exact shares: a new prompt
    can move one other over the line (a threshold on the hash would move none, and leave small sets with uneven shares).
    Raises DataError when a side would be empty.
    """
    ids = {pair.id for pair in pairs}
    count = heldout_count(holdout, len(ids))
    if not 0 < count < len(ids):
        sides = f"{len(ids) - count} for training and {count} held out"
        raise DataError(f"holdout {holdout} of {len(ids)} prompts leaves {sides}; expected at least 1 on each side")
    heldout = _lowest(ids, count, str(seed))
    return [p for p in pairs if p.id not in heldout], [p for p in pairs if p.id in heldout]


def _lowest(ids: Iterable[str], count: int, salt: str) -> set[str]:
    return set(sorted(ids, key=lambda i: hashlib.sha256(f"{salt}:{i}".encode()).digest())[:count])


def _rows(content: bytes, name: str, source: str) -> Iterator[PreferencePair]:
    column = None
    # Not splitlines(): JSON texts may hold U+2028 and its like.
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = _object(line)
            column = column or _column(row)
            yield _pair(row, column, source)
        except _Unreadable as error:
            raise DataError(f"{name}:{number}: {error}") from None


class _Unreadable(Exception):
    """What is wrong with a row, and what was expected."""


def _object(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError:
        raise _Unreadable("not UTF-8; expected one JSON object a line, in UTF-8") from None
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise _Unreadable(f"not JSON ({reason}); expected one JSON object a line") from None
    if not isinstance(row, dict):
        raise _Unreadable(f"expected a JSON object, got {_kind(row)}")
    return row


def _column(row: dict[str, Any]) -> str:
    column = next((c for c in COLUMNS if c in row), None)
    if column is None or not {"chosen", "rejected"} <= row.keys():
        there = ", ".join(sorted(row))[:200] or "none"
        raise _Unreadable(f"columns not recognised: expected {_FORMS}; got {there}")
    return column


def _pair(row: dict[str, Any], column: str, source: str) -> PreferencePair:
    if column == "prompt":
        messages = _prompt(row)
    elif column == "question":
        system = _optional_text(row, "system")
        user = Message(role="user", content=_text(row, "question"))
        messages = (Message(role="system", content=system), user) if system.strip() else (user,)
    else:
        extra = _optional_text(row, "input")
        text = _text(row, "instruction") + (f"\n\n{extra}" if extra.strip() else "")
        messages = (Message(role="user", content=text),)
    chosen, rejected = (_answer(row, c, messages) for c in ("chosen", "rejected"))
    category = row.get("category")
    return PreferencePair(
        id=prompt_id(messages),
        messages=messages,
        chosen=chosen,
        rejected=rejected,
        source=source,
        category=category if isinstance(category, str) else None,
    )


def _prompt(row: dict[str, Any]) -> Messages:
    if not isinstance(row.get("prompt"), list):
        return (Message(role="user", content=_text(row, "prompt")),)
    messages = _messages(row, "prompt")
    if messages[-1].role != "user":
        raise _Unreadable(f"prompt: expected its last message to be the user's, got the {messages[-1].role}'s")
    return messages


def _answer(row: dict[str, Any], column: str, prompt: Messages) -> str:
    if not isinstance(row.get(column), list):
        return _text(row, column)
    *before, last = _messages(row, column)
    if last.role != "assistant":
        raise _Unreadable(f"{column}: expected its last message to be the assistant's, got the {last.role}'s")
    spoken = [(m.role, m.content.strip()) for m in prompt]
    if before and [(m.role, m.content.strip()) for m in before] not in (
        spoken,
        [s for s in spoken if s[0] != "system"],
    ):
        raise _Unreadable(f"{column}: expected the messages before the answer to be the prompt's")
    return last.content


def _messages(row: dict[str, Any], column: str) -> Messages:
    messages = []
    for i, item in enumerate(row[column]):
        if not isinstance(item, dict) or item.get("role") not in ("system", "user", "assistant"):
            raise _Unreadable(f"{column}.{i}: expected {{role: system, user or assistant, content: text}}")
        messages.append(Message(role=item["role"], content=_text(item, "content", f"{column}.{i}.content")))
    if not messages:
        raise _Unreadable(f"{column}: expected at least one message, got an empty list")
    return tuple(messages)


def _text(row: dict[str, Any], column: str, shown: str | None = None) -> str:
    value = row.get(column)
    shown = shown or column
    if column not in row:
        raise _Unreadable(f"column '{shown}' is missing; expected text")
    if not isinstance(value, str):
        raise _Unreadable(f"{shown}: expected text, got {_kind(value)}")
    if not value.strip():
        raise _Unreadable(f"{shown}: expected text, got an empty one; fill it in or remove the row")
    return _encodable(value, shown)


def _optional_text(row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _Unreadable(f"{column}: expected text, got {_kind(value)}")
    return _encodable(value, column)


def _encodable(value: str, shown: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Unreadable(f"{shown}: expected text, got half of a surrogate pair") from None
    return value


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
