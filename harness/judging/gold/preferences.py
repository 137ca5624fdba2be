"""A file's preference pairs as people see them, without the file's own preference, and how often they share it."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.boards.gold.verdicts import Choice, GoldVerdict
from harness.boards.writing import own_file, replace_files, writing
from harness.data.pairs import Columns
from harness.data.read import read_pairs
from harness.data.rows import file_rows
from harness.errors import DataError, StoreError
from harness.judging.gold.labels import Labels
from harness.judging.gold.pairs import Contest, Pair
from harness.stats.intervals import proportion_metric
from harness.types import Messages, Metric, PreferencePair

CHOSEN, REJECTED = "chosen", "rejected"
MAJORITY = "the majority"
_SIDES: Mapping[Choice, str] = {"row": CHOSEN, "other": REJECTED, "tie": "tie", "skip": "skip"}


class OwnPairs(NamedTuple):
    """A file's pairs by id, the location of each one's row, and what people are asked: chosen against rejected."""

    pairs: dict[str, PreferencePair]
    places: dict[str, str]
    contest: Contest


class Shared(NamedTuple):
    """How often somebody prefers the answer that the file does: `rate`, in percent of the pairs of which they prefer
    one. `ties`: pairs that they find equally good. `skipped`: pairs that they skipped or did not reach."""

    who: str
    rate: Metric
    agreed: int
    ties: int
    skipped: int


def labels_folder(file: Path) -> Path:
    """Where the pages, keys and verdicts of a file of pairs are."""
    return file.with_name(f"{file.name}.labels")


def own_pairs(file: Path, columns: Columns | None) -> OwnPairs:
    """The pairs of a file in any form that a seed set may have. Raises DataError, also for fewer than two."""
    loaded = read_pairs(file_rows([file]), str(file), file.stem, columns=columns)
    if len(loaded.pairs) < 2:
        raise DataError(f"{file}: one pair; expected at least two to label")
    asked = {
        (pair.id, CHOSEN): Pair(pair.id, CHOSEN, (_shown(pair.messages),), (pair.chosen,), (pair.rejected,))
        for pair in loaded.pairs
    }
    contest = Contest(file.name, (CHOSEN,), REJECTED, asked, tuple(pair.id for pair in loaded.pairs))
    places = {key: f"{file.name}{place.removeprefix(str(file))}" for key, place in loaded.places.items()}
    return OwnPairs({pair.id: pair for pair in loaded.pairs}, places, contest)


def _shown(messages: Messages) -> str:
    """A prompt as one text; of a conversation, with the role of each message."""
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"{message.role.capitalize()}: {message.content}" for message in messages)


def preferred(verdict: GoldVerdict) -> str | None:
    """What the majority prefers: chosen, rejected, or neither (tie); None where nobody has a verdict."""
    if verdict.value is None:
        return None
    return "tie" if verdict.value == 0.5 else CHOSEN if verdict.value > 0.5 else REJECTED


def shared(labels: Labels) -> list[Shared]:
    """For each person, and for the majority of several."""
    found = [
        _shared(name, [_SIDES[v.labels[name]] if name in v.labels else None for v in labels.verdicts])
        for name in labels.people
    ]
    if len(labels.people) > 1:
        found.append(_shared(MAJORITY, [preferred(verdict) for verdict in labels.verdicts]))
    return found


def _shared(who: str, sides: Sequence[str | None]) -> Shared:
    counts = Counter(sides)
    rate = proportion_metric([side == CHOSEN for side in sides if side in (CHOSEN, REJECTED)], scale=100.0)
    return Shared(who, rate, counts[CHOSEN], counts["tie"], counts["skip"] + counts[None])


def save_preferences(file: Path, own: OwnPairs, labels: Labels) -> Path:
    """Write what people prefer of each pair that they were asked about, a JSON object a line, beside the file. Raises
    StoreError."""
    folder = labels_folder(file)
    lines = []
    for verdict in labels.verdicts:
        said = {name: _SIDES[choice] for name, choice in verdict.labels.items()}
        about = {"at": own.places[verdict.prompt], "preferred": preferred(verdict), "labels": said}
        lines.append(json.dumps(about | _row(own.pairs[verdict.prompt]), ensure_ascii=False) + "\n")
    path = own_file(folder, f"{labels.key.id}.jsonl")
    try:
        with writing(folder):
            replace_files({path: "".join(lines).encode()})
    except OSError as error:
        raise StoreError(f"{path} can't be written ({error.strerror or error}); check space and rights") from None
    return path


class Corrected(NamedTuple):
    """All pairs of a file as rows, with what people prefer: `turned`, pairs whose rejected answer the majority prefers,
    are the other way round, and `ties` are left out."""

    rows: list[dict[str, object]]
    turned: int
    ties: int


def corrected(own: OwnPairs, verdicts: Sequence[GoldVerdict]) -> Corrected:
    """A file's pairs as people prefer them; those without a verdict stay."""
    said = Counter[str | None]()
    by_id = {verdict.prompt: preferred(verdict) for verdict in verdicts}
    rows = []
    for pair in own.pairs.values():
        said[side := by_id.get(pair.id)] += 1
        if side != "tie":
            turned = {CHOSEN: pair.rejected, REJECTED: pair.chosen} if side == REJECTED else {}
            rows.append(_row(pair) | turned)
    if not rows:
        raise DataError("people find the answers of all pairs equally good; expected a preference")
    return Corrected(rows, said[REJECTED], said["tie"])


def _row(pair: PreferencePair) -> dict[str, object]:
    category = {} if pair.category is None else {"category": pair.category}
    prompt = [message.model_dump() for message in pair.messages]
    return {"prompt": prompt, CHOSEN: pair.chosen, REJECTED: pair.rejected, **category}
