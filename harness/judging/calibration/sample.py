"""Pairs with a recorded verdict of an official judge, from files in the `alpaca_eval` package's annotation format."""

import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.benchmarks.alpaca_eval.annotator import OutputPair
from harness.benchmarks.alpaca_eval.files import instruction_id
from harness.errors import DataError
from harness.files import json_list, pair_hash, read_bytes, sha256

NAMES = ("annotations.json", "annotations.json.gz")


class RecordedPair(NamedTuple):
    """`won`: the recorded probability that the system's output is better than the reference's."""

    system: str
    pair: OutputPair
    won: float


class RecordedVerdicts(NamedTuple):
    """Verdicts from files. `judge`: who gave them. `systems`: pairs by system. `win_rates`: by system, in percent, over
    all verdicts, including those on equal outputs. `left_out`: number of rows by reason. `sha256`: of the files, by
    system."""

    judge: str
    systems: dict[str, list[RecordedPair]]
    win_rates: dict[str, float]
    left_out: dict[str, int]
    sha256: dict[str, str]


def read_recorded(paths: Sequence[Path]) -> RecordedVerdicts:
    """Recorded verdicts. Each path is an annotations file (plain or .gz), or a folder with one subfolder per system
    that holds `annotations.json` (or .gz).

    Left out and counted: later rows on the same instruction (`repeated`), rows without a preference in [1, 2]
    (`failed`; 0 is the package's old code for a draw), equal outputs (`same_outputs`). Raises DataError.
    """
    files = [file for path in paths for file in _files(path)]
    systems: dict[str, list[RecordedPair]] = {}
    rates: dict[str, float] = {}
    hashes, left_out, judges = {}, Counter(repeated=0, failed=0, same_outputs=0), set()
    for file in files:
        data = read_bytes(file)
        rows = json_list(data, str(file))
        system = _single_value(rows, "generator_2", file)
        if system in systems:
            raise DataError(f"{file}: verdicts on {system} were already read from another file; give only one of them")
        judges.add(_single_value(rows, "annotator", file))
        pairs = _pairs(rows, system, str(file), left_out)
        if not pairs:
            raise DataError(f"{file}: none of its verdicts can be used ({dict(left_out)})")
        rates[system] = 100 * math.fsum(p.won for p in pairs) / len(pairs)
        distinct = [p for p in pairs if p.pair.reference != p.pair.output]
        left_out["same_outputs"] += len(pairs) - len(distinct)
        systems[system] = distinct
        hashes[system] = sha256(data)
    if len(judges) != 1:
        raise DataError(f"expected recorded verdicts of one judge, got those of {', '.join(sorted(judges))}")
    return RecordedVerdicts(judges.pop(), systems, rates, dict(left_out), hashes)


def draw_sample(recorded: RecordedVerdicts, count: int, seed: int) -> list[RecordedPair]:
    """`count` pairs, or all if there are fewer, drawn without replacement: equally many of each system, the first ones
    giving one more if the division leaves a remainder. All systems give the same instructions, as far as they have
    them, so that systems can be compared with each other. A larger sample contains the smaller one."""
    ids = sorted({p.pair.question_id for pairs in recorded.systems.values() for p in pairs})
    random.Random(f"instructions {seed}").shuffle(ids)
    place = {question: i for i, question in enumerate(ids)}
    share, remainder = divmod(count, len(recorded.systems))
    drawn: list[RecordedPair] = []
    for i, pairs in enumerate(recorded.systems.values()):
        size = min(share + (i < remainder), len(pairs))
        drawn += sorted(pairs, key=lambda p: place[p.pair.question_id])[:size]
    return drawn


def unseen(sample: Sequence[RecordedPair], fitted_on: frozenset[str]) -> list[RecordedPair]:
    """The pairs that a judge was not fitted to. `fitted_on`: prompts and pairs, as its component says."""
    return [p for p in sample if not {p.pair.question_id, fitted_hash(p)} & fitted_on]


def fitted_hash(recorded: RecordedPair) -> str:
    """A recorded pair as lists of what a model was fitted to have it."""
    return pair_hash(recorded.pair.question_id, (recorded.pair.reference, recorded.pair.output))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = [path / name for name in NAMES if (path / name).is_file()]
    files = files or [f for folder in sorted(path.glob("*/")) for f in (folder / n for n in NAMES) if f.is_file()]
    if not files:
        raise DataError(f"{path}: expected an annotations file, or a folder of folders that hold {' or '.join(NAMES)}")
    return files


def _single_value(rows: Sequence[dict[str, Any]], column: str, file: Path) -> str:
    values = {str(row.get(column)) for row in rows}
    if len(values) != 1:
        raise DataError(f"{file}: expected one value under `{column}`, got {', '.join(sorted(values)) or 'no rows'}")
    return values.pop()


def _pairs(rows: Sequence[dict[str, Any]], system: str, where: str, left_out: Counter[str]) -> list[RecordedPair]:
    pairs: dict[str, RecordedPair | None] = {}
    for number, row in enumerate(rows, start=1):
        instruction, reference, output = (row.get(name) for name in ("instruction", "output_1", "output_2"))
        if not isinstance(instruction, str) or not isinstance(reference, str) or not isinstance(output, str):
            raise DataError(f"{where}, row {number}: expected texts under `instruction`, `output_1` and `output_2`")
        key = instruction_id(instruction)
        if key in pairs:
            left_out["repeated"] += 1
            continue
        won = _won(row.get("preference"))
        left_out["failed"] += won is None
        pairs[key] = None if won is None else RecordedPair(system, OutputPair(key, instruction, reference, output), won)
    return [pair for pair in pairs.values() if pair is not None]


def _won(preference: Any) -> float | None:
    if not isinstance(preference, (int, float)) or isinstance(preference, bool) or not math.isfinite(preference):
        return None
    if preference == 0:
        return 0.5
    return float(preference) - 1 if 1 <= preference <= 2 else None
