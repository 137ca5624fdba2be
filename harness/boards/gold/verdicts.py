"""Gold verdicts in files: JSON, a verdict a line."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from harness.boards.folder import RECIPES_GOLD
from harness.boards.read import parse_record
from harness.errors import DataError
from harness.outside import LARGEST_TEXT, parse_json, read_text, reason_of
from harness.printable import printable
from harness.types import Record

GOLD = "gold"
"""The subfolder of a board with gold verdicts."""
RECIPE_FILE = RECIPES_GOLD.partition("/")[2]
"""The file in it that a run writes for its recipe's `gold`. All others are people's."""
Choice = Literal["row", "other", "tie", "skip"]


class GoldVerdict(Record):
    """A verdict that counts as true. `prompt`: as in outcomes, with `/turn` where each turn has a verdict. `against`:
    the row that it is compared with; None: judged as the benchmark does. `value`: the outcome as the benchmark has it
    (AlpacaEval: 1 lost, 1.5 a tie, 2 won); against a row, the share of a win: 0, 0.5 or 1. None: it was drawn, but has
    no verdict. `by`: `people`, or a judge's name. `labels`: what each person chose. `answers`: the hash of the texts
    that were compared (`answers_hash`)."""

    benchmark: str = Field(min_length=1)
    prompt: str = Field(min_length=1)
    row: str = Field(min_length=1)
    against: str | None = None
    value: float | None = Field(allow_inf_nan=False)
    by: str = Field(min_length=1)
    labels: dict[str, Choice] = Field(default_factory=dict)
    answers: str | None = None


def answers_hash(answer: Sequence[str], other: Sequence[str]) -> str:
    """A hash of two answers, each with a text for every turn."""
    return hashlib.sha256(json.dumps([list(answer), list(other)]).encode()).hexdigest()[:16]


def verdicts_text(verdicts: Iterable[GoldVerdict]) -> str:
    """The content of a file of verdicts."""
    return "".join(verdict.model_dump_json() + "\n" for verdict in verdicts)


def read_verdicts(path: Path, inside: Path | None = None) -> list[GoldVerdict]:
    """The verdicts of a file; `inside`: the folder that a link must not lead out of. Raises DataError."""
    expected = "gold verdicts as `harness label --read` writes them, a JSON object a line"
    try:
        text = read_text(path, LARGEST_TEXT, inside)
        lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
        for _, line in lines:
            parse_json(line)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read ({printable(reason_of(error), 120)}); expected {expected}") from None
    if not lines:
        raise DataError(f"{path} holds no verdicts; expected {expected}")
    return [parse_record(line, GoldVerdict, f"{path}, line {number}", expected) for number, line in lines]


def peoples_files(board: Path) -> list[Path]:
    """The files of people's verdicts beside a board."""
    return sorted(path for path in (board / GOLD).glob("*.jsonl") if path.name != RECIPE_FILE)
