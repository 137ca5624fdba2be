"""The verdict journals as one small file, for a machine that is to ask for none of them again, such as a CI runner.

The file is a tar.gz with one `verdicts-<judge>.jsonl` for each judge: journal lines (`harness.engine.journal_line`),
sorted by key, each reply once, whatever number of shards had it. The same replies give the same bytes. It is read as a
stranger's: member names, types and sizes are checked, then every line; nothing is unpacked to disk, and one bad line
refuses the whole file. A verdict in it is believed, so it is to be as trusted as a judge.
"""

import gzip
import io
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from harness.boards.writing import replace_files
from harness.engine.journal import Journal
from harness.engine.journal_line import decode, encode
from harness.engine.shards.journal import files_of
from harness.engine.store import Store
from harness.errors import DataError, StoreError
from harness.outside import read_file, reason_of, unpacked
from harness.types import JudgeReply

LARGEST = 1 << 30
"""Bytes that an archive may unpack to."""
MOST_JUDGES = 1000
_WHOLE = re.compile(r"verdicts-[0-9a-f]{16}\.jsonl")
_SHARD = re.compile(r"(verdicts-[0-9a-f]{16})-[01]+\.jsonl")
_KEY = re.compile(r"[0-9a-f]{64}")
_EXPECTED = "expected what `harness cache export FILE --journals` writes"


class Moved(NamedTuple):
    """`verdicts` of so many `judges`. Of an import: `new` were not in the store, and `other` are there with another
    reply, which stays."""

    judges: int
    verdicts: int
    new: int = 0
    other: int = 0


def export_verdicts(store: Store, path: Path) -> Moved:
    """Write all replies of judges in the store to a file. Damaged lines are left out, with a warning. Raises StoreError
    for a journal that can't be read or a file that can't be written."""
    journals = dict(_journals(store))
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, rows in journals.items():
            data = b"".join(encode({"key": key, "reply": rows[key].model_dump(mode="json")}) for key in sorted(rows))
            member = tarfile.TarInfo(name)  # as made: no time, no owner
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as file:
        file.write(tar.getvalue())
    try:
        replace_files({path: packed.getvalue()})
    except OSError as error:
        raise StoreError(f"{path} can't be written ({error.strerror or error}); name another file") from None
    return Moved(len(journals), sum(map(len, journals.values())))


def import_verdicts(store: Store, path: Path) -> Moved:
    """Add the replies in a file to the store's journals, unless they are there. Raises DataError for a file of another
    kind or with anything wrong in it: nothing has then been added."""
    found = _read(path)
    new = other = 0
    for name, rows in found.items():
        journal = Journal(store.journals / name, JudgeReply, column="reply")
        known: dict[str, JudgeReply] = {}
        for part in files_of(store.journals / name):
            known |= Journal(part, JudgeReply, column="reply").rows()
        missing = [(key, reply) for key, reply in rows.items() if key not in known]
        journal.append(missing, together=False)
        new += len(missing)
        other += sum(key in known and known[key] != reply for key, reply in rows.items())
    return Moved(len(found), sum(map(len, found.values())), new, other)


def _journals(store: Store) -> Iterator[tuple[str, Mapping[str, JudgeReply]]]:
    """The judges' journals by name, with what all of their shards have."""
    names = [path.name for path in store.journals.glob("verdicts-*.jsonl")]
    wholes = {name for name in names if _WHOLE.fullmatch(name)}
    wholes |= {f"{match[1]}.jsonl" for name in names if (match := _SHARD.fullmatch(name))}
    for name in sorted(wholes):
        rows: dict[str, JudgeReply] = {}
        for part in files_of(store.journals / name):
            rows = {**Journal(part, JudgeReply, column="reply").rows(), **rows}
        if rows:
            yield name, rows


def _read(path: Path) -> dict[str, dict[str, JudgeReply]]:
    """The replies in a file by journal and key."""
    try:
        data = read_file(path, LARGEST)
        tar = data if path.suffix == ".gz" else unpacked(data, LARGEST)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read ({reason_of(error)}); {_EXPECTED}") from None
    found: dict[str, dict[str, JudgeReply]] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
            for member in archive:
                if problem := _problem_of(member, found):
                    raise DataError(f"{path}: {problem}; {_EXPECTED}")
                file = archive.extractfile(member)
                lines = file.read().removesuffix(b"\n").split(b"\n") if file else []
                found[member.name] = dict(_rows(lines, f"{path}, {member.name}"))
    except (tarfile.TarError, ValueError, OverflowError, OSError, EOFError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path} is not a whole tar.gz ({reason}); {_EXPECTED}") from None
    return found


def _problem_of(member: tarfile.TarInfo, before: Mapping[str, Any]) -> str | None:
    """What is wrong with a member, in words that are safe to print."""
    if not _WHOLE.fullmatch(member.name):
        return f"it holds {member.name[:80]!r}, which is no journal of verdicts"
    if not member.isreg() or member.issparse():
        return f"{member.name} in it is not a regular file"
    if member.name in before:
        return f"{member.name} is in it twice"
    if len(before) >= MOST_JUDGES:
        return f"it holds more than {MOST_JUDGES:,} journals"
    return None


def _rows(lines: list[bytes], where: str) -> Iterator[tuple[str, JudgeReply]]:
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        row = decode(line)
        if isinstance(row, str):
            raise DataError(f"{where}, line {number} {row}; {_EXPECTED}")
        if row.keys() != {"key", "reply", "sum"} or not _KEY.fullmatch(row["key"]) or row["key"] in seen:
            raise DataError(f"{where}, line {number} is not a verdict's line with a key of its own; {_EXPECTED}")
        seen.add(row["key"])
        try:
            reply = JudgeReply.model_validate(row["reply"])
        except (ValidationError, ValueError, TypeError, OverflowError, RecursionError):
            raise DataError(f"{where}, line {number} has no valid reply; {_EXPECTED}") from None
        if reply.error is not None or (reply.price or 0) < 0:
            raise DataError(f"{where}, line {number} has a failed reply or a price below 0; {_EXPECTED}")
        yield row["key"], reply
