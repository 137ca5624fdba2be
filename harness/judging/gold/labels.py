"""Reads what people saved, checks it against what they were asked about, and joins several people's labels."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from harness.boards.entry import Entry
from harness.boards.gold.estimates import main_figure
from harness.boards.gold.verdicts import Choice, GoldVerdict
from harness.boards.read import read_record
from harness.errors import DataError
from harness.judging.gold.draw import Item, Key, read_key
from harness.judging.gold.pairs import Contest
from harness.printable import printable
from harness.stats.agreement import cohen_kappa
from harness.types import Record

PEOPLE = "people"
SHARES: Mapping[Choice, float] = {"row": 1.0, "tie": 0.5, "other": 0.0}


class Saved(Record):
    """The file that a page saves. `labels`: by the number of the pair."""

    harness_labels: Literal[1]
    page: str = Field(pattern="^[0-9a-f]{12}$")
    annotator: str = Field(max_length=200)
    labels: dict[str, Literal["left", "right", "tie", "skip"]]


class Agreement(NamedTuple):
    """How far two people agree: on how many pairs that both decided, and Cohen's kappa (None: both always chose the
    same)."""

    first: str
    second: str
    pairs: int
    same: int
    kappa: float | None


class Labels(NamedTuple):
    """What people said about a page's pairs: verdicts for all pairs that were drawn, and how far people agree."""

    key: Key
    people: tuple[str, ...]
    verdicts: list[GoldVerdict]
    agreement: list[Agreement]


def read_labels(folder: Path, paths: Sequence[Path], labelled: Path) -> tuple[Key, dict[str, Saved]]:
    """(the page's key, what each person saved). `folder`: where the keys of `labelled`, a board or a file, are. Raises
    DataError for a file of something else, of another board or page, without any verdict, or with pairs that the page
    does not have."""
    people: dict[str, Saved] = {}
    for path in paths:
        expected = "the file that a page of `harness label` saves"
        saved = read_record(path, Saved, expected, path.parent)
        if not any(label != "skip" for label in saved.labels.values()):
            raise DataError(
                f"{path}: no pair has a verdict, all were skipped or not reached; label some, and save again"
            )
        name = printable(saved.annotator.strip() or path.stem, 40)
        if name in people:
            raise DataError(f"{path}: two files are by {name!r}; give each person one, or change `annotator` in one")
        people[name] = saved
    pages = {saved.page for saved in people.values()}
    if len(pages) > 1:
        raise DataError(f"the files are from different pages ({', '.join(sorted(pages))}); read one page at a time")
    key = read_key(folder, pages.pop(), labelled)
    numbers = {str(item.number) for item in key.items}
    for path, saved in zip(paths, people.values(), strict=True):
        if strange := sorted(saved.labels.keys() - numbers):
            raise DataError(f"{path}: pair {strange[0][:20]!r} is not on page {key.id}; expected 1 to {len(numbers)}")
    return key, people


def joined(key: Key, people: Mapping[str, Saved], found: Contest, entries: Sequence[Entry]) -> Labels:
    """A verdict for each pair: the mean of what people chose; equal answers are a tie. Raises DataError where answers
    have changed since the page was written."""
    changed = [
        item for item in key.items if (p := found.pairs.get((item.prompt, item.row))) is None or p.hash != item.answers
    ]
    if changed:
        rows = ", ".join(dict.fromkeys(item.row for item in changed))
        raise DataError(
            f"the answers of {rows} have changed since page {key.id} was written ({len(changed)} of {len(key.items)} "
            "pairs): its labels are about other answers; write a new page"
        )
    chosen = {
        name: {item.number: _choice(item, saved.labels.get(str(item.number))) for item in key.items}
        for name, saved in people.items()
    }
    verdicts = [
        _verdict(key, item, {name: c for name, by in chosen.items() if (c := by[item.number])}, entries)
        for item in key.items
    ]
    return Labels(key, tuple(people), verdicts, [_agreement(a, b, chosen) for a, b in combinations(chosen, 2)])


def _choice(item: Item, label: str | None) -> Choice | None:
    if label in (None, "tie", "skip"):
        return label  # type: ignore[return-value]
    return "row" if label == item.row_is else "other"


def _verdict(key: Key, item: Item, chosen: Mapping[str, Choice], entries: Sequence[Entry]) -> GoldVerdict:
    shares = [SHARES[choice] for choice in chosen.values() if choice != "skip"]
    if item.row_is == "same":
        shares = [0.5]
    value = sum(shares) / len(shares) if shares else None
    figure = main_figure(entries, key.benchmark)
    if value is not None and key.against is None and figure is not None and figure.pairing is not None:
        value = figure.pairing.offset + 100.0 * value / figure.pairing.scale
    return GoldVerdict(
        benchmark=key.benchmark,
        prompt=item.prompt,
        row=item.row,
        against=key.against,
        value=value,
        by=PEOPLE,
        labels=dict(chosen),
        answers=item.answers,
    )


def _agreement(first: str, second: str, chosen: Mapping[str, Mapping[int, Choice | None]]) -> Agreement:
    both = [(a, chosen[second][number]) for number, a in chosen[first].items()]
    decided = [(a, b) for a, b in both if a in SHARES and b in SHARES]
    return Agreement(first, second, len(decided), sum(a == b for a, b in decided), cohen_kappa(decided))
