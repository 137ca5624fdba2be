"""Pairs that an official judge has given a verdict on, from files in the `alpaca_eval` package's annotation format."""

import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.alpaca_files import instruction_id
from harness.annotator import Pair
from harness.datafiles import json_list, read_bytes, sha256
from harness.errors import DataError

NAMES = ("annotations.json", "annotations.json.gz")


class RecordedPair(NamedTuple):
    """`won`: the recorded probability that the system's output is better than the reference's."""

    system: str
    pair: Pair
    won: float


class Recorded(NamedTuple):
    """Verdicts from files. `judge`: who gave them. `systems`: pairs by system. `win_rates`: by system, in percent, over
    all verdicts, those on equal outputs too. `left_out`: rows by reason. `sha256`: of the files, by system."""

    judge: str
    systems: dict[str, list[RecordedPair]]
    win_rates: dict[str, float]
    left_out: dict[str, int]
    sha256: dict[str, str]


def read_recorded(places: Sequence[Path]) -> Recorded:
    """Recorded verdicts; a place is an annotations file (plain or .gz), or a folder with one folder a system that holds
    `annotations.json` (or .gz).

    Left out, and counted: a second row on an instruction (`repeated`), rows without a preference in [1, 2] (`failed`;
    0 is the package's old mark of a draw), equal outputs (`same_outputs`). Raises DataError."""
    files = [file for place in places for file in _files(place)]
    systems: dict[str, list[RecordedPair]] = {}
    rates: dict[str, float] = {}
    hashes, left_out, judges = {}, Counter(repeated=0, failed=0, same_outputs=0), set()
    for file in files:
        data = read_bytes(file)
        rows = json_list(data, str(file))
        system = _the_one(rows, "generator_2", file)
        if system in systems:
            raise DataError(f"{file}: verdicts on {system} were read from another file already; name one of them")
        judges.add(_the_one(rows, "annotator", file))
        pairs = _pairs(rows, system, str(file), left_out)
        if not pairs:
            raise DataError(f"{file}: no verdict in it can be used ({dict(left_out)})")
        rates[system] = 100 * math.fsum(p.won for p in pairs) / len(pairs)
        differ = [p for p in pairs if p.pair.reference != p.pair.output]
        left_out["same_outputs"] += len(pairs) - len(differ)
        systems[system] = differ
        hashes[system] = sha256(data)
    if len(judges) != 1:
        raise DataError(f"recorded verdicts of one judge expected, found those of {', '.join(sorted(judges))}")
    return Recorded(judges.pop(), systems, rates, dict(left_out), hashes)


def sample(recorded: Recorded, count: int, seed: int) -> list[RecordedPair]:
    """`count` pairs or all that there are, as many of each system as of any other (one more of the first ones where it
    doesn't come out even), drawn without replacement. A system's draw is its own: it doesn't change with the others."""
    share, rest = divmod(count, len(recorded.systems))
    drawn: list[RecordedPair] = []
    for place, (system, pairs) in enumerate(recorded.systems.items()):
        wanted = min(share + (place < rest), len(pairs))
        # Shuffled and cut: a larger sample holds the smaller one, so that its verdicts are not asked for again.
        shuffled = sorted(pairs, key=lambda p: p.pair.question_id)
        random.Random(f"{seed}:{system}").shuffle(shuffled)
        drawn += shuffled[:wanted]
    return drawn


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    found = [place / name for name in NAMES if (place / name).is_file()]
    found = found or [f for folder in sorted(place.glob("*/")) for f in (folder / n for n in NAMES) if f.is_file()]
    if not found:
        raise DataError(f"{place}: expected an annotations file, or a folder of folders that hold {' or '.join(NAMES)}")
    return found


def _the_one(rows: Sequence[dict[str, Any]], column: str, file: Path) -> str:
    found = {str(row.get(column)) for row in rows}
    if len(found) != 1:
        raise DataError(f"{file}: expected one value under `{column}`, found {', '.join(sorted(found)) or 'no rows'}")
    return found.pop()


def _pairs(rows: Sequence[dict[str, Any]], system: str, where: str, left_out: Counter[str]) -> list[RecordedPair]:
    found: dict[str, RecordedPair | None] = {}
    for number, row in enumerate(rows, start=1):
        instruction, reference, output = (row.get(name) for name in ("instruction", "output_1", "output_2"))
        if not isinstance(instruction, str) or not isinstance(reference, str) or not isinstance(output, str):
            raise DataError(f"{where}, row {number}: expected texts under `instruction`, `output_1` and `output_2`")
        key = instruction_id(instruction)
        if key in found:
            left_out["repeated"] += 1
            continue
        won = _won(row.get("preference"))
        left_out["failed"] += won is None
        found[key] = None if won is None else RecordedPair(system, Pair(key, instruction, reference, output), won)
    return [pair for pair in found.values() if pair is not None]


def _won(preference: Any) -> float | None:
    if not isinstance(preference, (int, float)) or isinstance(preference, bool) or not math.isfinite(preference):
        return None
    if preference == 0:
        return 0.5
    return float(preference) - 1 if 1 <= preference <= 2 else None
