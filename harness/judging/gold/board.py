"""Puts the figures that gold verdicts correct on a board.

Gold verdicts lie in the board's folder, in `gold/`: people's, which `harness label --read` writes and no run replaces,
and those of the recipe's `evaluation.gold`, which come first where there are any. Those on answers that have changed
since count no longer.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from harness.boards.board import Board
from harness.boards.entry import Entry
from harness.boards.folder import DRAWN, foreign_file
from harness.boards.gold.estimates import with_gold, without_gold
from harness.boards.gold.verdicts import (
    GOLD,
    RECIPE_FILE,
    GoldVerdict,
    peoples_files,
    read_verdicts,
    verdicts_text,
)
from harness.boards.read import read_board
from harness.boards.writing import own_file, replace_files, writing
from harness.errors import DataError, StoreError
from harness.judging.gold.pairs import contest
from harness.report.page import write_page
from harness.report.write import write_board

log = logging.getLogger(__name__)


def save_verdicts(folder: Path, name: str, verdicts: Sequence[GoldVerdict]) -> Path:
    """Write people's verdicts beside a board, as `gold/<name>.jsonl`. Raises StoreError."""
    path = own_file(folder, f"{GOLD}/{name}.jsonl")
    try:
        with writing(folder):
            replace_files({path: verdicts_text(verdicts).encode()})
    except OSError as error:
        raise StoreError(f"{path} can't be written ({error.strerror or error}); check space and rights") from None
    return path


def verdicts_beside(folder: Path) -> list[GoldVerdict]:
    """The gold verdicts in a board's folder: the recipe's, or else people's. Raises DataError."""
    recipes = folder / GOLD / RECIPE_FILE
    files = [recipes] if recipes.is_file() else peoples_files(folder)
    return [verdict for path in files for verdict in read_verdicts(path, folder)]


def gold_entries(folder: Path, name: str, entries: Sequence[Entry]) -> list[Entry]:
    """The rows with what the gold verdicts in a board's folder make of their figures. The answers that the folder holds
    must be those of the rows. Raises DataError."""
    verdicts = verdicts_beside(folder)
    if not verdicts and not any(entry.provenance.gold for entry in entries):
        return list(entries)
    plain = without_gold(entries)
    board = Board(name=name, generated=None, entries=tuple(plain))
    current = current_verdicts(folder, board, verdicts)
    if left := len(verdicts) - len(current):
        log.warning(
            "%d of %d gold verdicts in %s are on other answers than the rows' now; left out",
            left,
            len(verdicts),
            folder / GOLD,
        )
    return with_gold(plain, current) if current else plain


def current_verdicts(folder: Path, board: Board, verdicts: Sequence[GoldVerdict]) -> list[GoldVerdict]:
    """The verdicts on what the board's rows have answered; all of a judge's, which were asked for in the same run."""
    known = {entry.id for entry in board.entries}
    groups: dict[tuple[str, str | None], list[GoldVerdict]] = {}
    for verdict in verdicts:
        if verdict.row in known:
            groups.setdefault((verdict.benchmark, verdict.against), []).append(verdict)
    kept: list[GoldVerdict] = []
    for (benchmark, against), group in groups.items():
        hashed = [verdict for verdict in group if verdict.answers is not None]
        pairs = {}
        if hashed:
            try:
                rows = list(dict.fromkeys(verdict.row for verdict in hashed))
                pairs = contest(folder, board, rows, against, benchmark).pairs
            except DataError as error:
                log.warning("gold verdicts on %s can't be used: %s", benchmark, error)
        for verdict in group:
            pair = pairs.get((verdict.prompt, verdict.row))
            if verdict.answers is None or (pair is not None and pair.hash == verdict.answers):
                kept.append(verdict)
    return kept


def put_on_board(folder: Path) -> Board:
    """Write a board and its page again with the figures that follow from the gold verdicts beside it. Raises DataError
    and StoreError, also where a file of somebody else's would be replaced."""
    with writing(folder):
        board = read_board(folder)
        if foreign := foreign_file(folder, DRAWN):
            raise StoreError(f"{folder}: the harness did not write the {foreign} there; move it away, and try again")
        entries = gold_entries(folder, board.name, board.entries)
        write_board(folder, board.name, entries)
        write_page(folder)
        return read_board(folder)
