"""Draws the prompts that people label, and decides in secret which answer stands where.

The key, a file of its own, says whose answers a page shows. The page holds none of it: its pairs are numbered in
a random order, and sides are drawn from the system's randomness, not from the seed that draws the prompts.
"""

import random
import secrets
from pathlib import Path
from typing import Literal

from pydantic import Field

from harness.boards.read import read_record
from harness.boards.writing import own_file, replace_files, writing
from harness.engine.stage import derived_seed
from harness.errors import DataError, StoreError
from harness.judging.gold.pairs import Contest, Pair
from harness.types import Record

KEY = ".key.json"


class Item(Record):
    """A pair on a page. `row_is`: the side of the row's answer; `same`: both answers are equal, and nobody is asked."""

    number: int
    prompt: str
    row: str
    row_is: Literal["left", "right", "same"]
    answers: str


class Key(Record):
    """What a page hides. `id`: the page's, which its saved labels carry. `seed`: the prompts were drawn with it."""

    id: str = Field(pattern="^[0-9a-f]{12}$")
    benchmark: str
    rows: tuple[str, ...]
    against: str | None
    seed: int
    items: tuple[Item, ...]


class Draw(Record):
    """A key, and the pairs of its page by number."""

    key: Key
    pairs: dict[int, Pair]


def draw(found: Contest, prompts: int, seed: int) -> Draw:
    """`prompts` of the prompts, a simple random sample and the same for all rows, in a random order. Another draw with
    this seed and more prompts contains these."""
    shuffled = sorted(found.prompts)
    random.Random(derived_seed(seed, "labels", found.benchmark)).shuffle(shuffled)
    pairs = [found.pairs[prompt, row] for prompt in shuffled[:prompts] for row in found.rows]
    secret = secrets.SystemRandom()
    secret.shuffle(pairs)
    items = []
    for number, pair in enumerate(pairs, start=1):
        side: Literal["left", "right", "same"] = secret.choice(("left", "right"))
        side = "same" if pair.answer == pair.other else side
        items.append(Item(number=number, prompt=pair.prompt, row=pair.row, row_is=side, answers=pair.hash))
    key = Key(
        id=secrets.token_hex(6),
        benchmark=found.benchmark,
        rows=found.rows,
        against=found.against,
        seed=seed,
        items=tuple(items),
    )
    return Draw(key=key, pairs=dict(enumerate(pairs, start=1)))


def save_key(folder: Path, key: Key) -> Path:
    """Write a key into the folder of a board's or a file's labels. Raises StoreError."""
    path = own_file(folder, f"{key.id}{KEY}")
    try:
        with writing(folder):
            replace_files({path: (key.model_dump_json(indent=1) + "\n").encode()})
    except OSError as error:
        raise StoreError(f"{path} can't be written ({error.strerror or error}); check space and rights") from None
    return path


def read_key(folder: Path, page: str, labelled: Path) -> Key:
    """The key of a page in the folder of labels of `labelled`, a board or a file. Raises DataError where there is
    none."""
    path = folder / f"{page}{KEY}"
    if not path.is_file():
        known = ", ".join(sorted(p.name.removesuffix(KEY) for p in folder.glob(f"*{KEY}"))) or "none"
        raise DataError(
            f"the labels are from page {page}, which was not written for {labelled}; its pages: {known}. Name the "
            "board or file that the page was written for"
        )
    return read_record(path, Key, "a key that `harness label` wrote", folder)
