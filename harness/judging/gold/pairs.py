"""The pairs of answers on a board that people can compare: each row's with the answers that its judge compared it with,
or with another row's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.boards.board import Board
from harness.boards.entry import Entry, comparable
from harness.boards.gold.estimates import main_figure
from harness.boards.gold.verdicts import answers_hash
from harness.boards.read import choose_row
from harness.errors import DataError, nearest, quoted
from harness.report.page.examples import board_examples

WINS = (0.0, 100.0)


class Pair(NamedTuple):
    """A row's answer to a prompt and the one that it is compared with, a text for each turn. `turns`: the user's."""

    prompt: str
    row: str
    turns: tuple[str, ...]
    answer: tuple[str, ...]
    other: tuple[str, ...]

    @property
    def hash(self) -> str:
        return answers_hash(self.answer, self.other)


class Contest(NamedTuple):
    """What is compared: rows on a benchmark, `against` a row, or None: the benchmark's reference. `pairs`: by prompt
    and row, on the prompts for which all rows have both answers. `prompts`: their ids, in order."""

    benchmark: str
    rows: tuple[str, ...]
    against: str | None
    pairs: dict[tuple[str, str], Pair]
    prompts: tuple[str, ...]


def contest(
    folder: Path, board: Board, rows: Sequence[str] | None, against: str | None, benchmark: str | None
) -> Contest:
    """What people are asked. `rows`: by default all that can be compared. `against`: the row to compare with; by
    default the benchmark's reference, or for one without the board's first row. `benchmark`: by default the first with
    a win rate. Raises DataError where the board has no answers, or these can't be compared."""
    examples = board_examples(folder, board.entries)
    sets = list(dict.fromkeys(prompt["set"] for prompt in examples["prompts"]))
    if not sets:
        raise DataError(f"{folder} has no answers beside it (data/), which people could compare; run its recipe again")
    if benchmark is not None and benchmark not in sets:
        raise DataError(f"{folder} has no answers to {quoted(benchmark)}; {nearest(benchmark, sets)}")
    name = benchmark or next((s for s in sets if _has_wins(board.entries, s)), sets[0])
    prompts = {prompt["id"].partition(" ")[2]: prompt for prompt in examples["prompts"] if prompt["set"] == name}
    answers = {
        row: {key.partition(" ")[2]: tuple(answer[0]) for key, answer in given.items() if key.startswith(f"{name} ")}
        for row, given in examples["rows"].items()
    }
    if against is None and not _has_wins(board.entries, name):
        against = next((entry.id for entry in board.entries if answers.get(entry.id)), None)
    if against is not None:
        choose_row(board, against, "--against")
    opponent = against or _reference_row(board.entries, name, answers)
    chosen = _rows(board, rows, name, answers, opponent)
    found = {}
    for prompt_id, prompt in prompts.items():
        for row in chosen:
            answer, other = answers[row].get(prompt_id), _other(prompt, prompt_id, answers, opponent)
            if answer is not None and other is not None and len(answer) == len(other):
                found[prompt_id, row] = Pair(prompt_id, row, tuple(prompt["turns"]), answer, other)
    complete = tuple(prompt for prompt in prompts if all((prompt, row) in found for row in chosen))
    if len(complete) < 2:
        raise DataError(f"{folder}: {', '.join(chosen)} have answers to compare on {len(complete)} prompts of {name}")
    return Contest(name, tuple(chosen), against, found, complete)


def _has_wins(entries: Sequence[Entry], benchmark: str) -> bool:
    """Whether a benchmark's figure is a share of wins against a reference."""
    figure = main_figure(entries, benchmark)
    return figure is not None and figure.ends == WINS and figure.name == "win_rate"


def _reference_row(entries: Sequence[Entry], benchmark: str, answers: dict[str, Any]) -> str | None:
    """The row that a benchmark compares with, if it is one on the board."""
    names = (entry.provenance.benchmark(benchmark).get("reference") for entry in entries)
    return next((name for name in names if isinstance(name, str) and answers.get(name)), None)


def _other(prompt: dict[str, Any], key: str, answers: dict[str, Any], opponent: str | None) -> tuple[str, ...] | None:
    if opponent is not None:
        return answers.get(opponent, {}).get(key)  # type: ignore[no-any-return]
    reference = prompt["reference"]
    return None if reference is None else (str(reference[1]),)


def _rows(
    board: Board, rows: Sequence[str] | None, benchmark: str, answers: dict[str, Any], opponent: str | None
) -> list[str]:
    """The rows that are compared, each of one table."""
    for row in rows or ():
        choose_row(board, row, "--rows")
        if not answers.get(row):
            raise DataError(f"row {quoted(row)} has no answers to {benchmark} beside the board; leave it out of --rows")
        if row == opponent:
            raise DataError(f"row {quoted(row)} is what the others are compared with; leave it out of --rows")
    candidates = [entry.id for entry in board.entries if answers.get(entry.id) and entry.id != opponent]
    tables = [[entry.id for entry in table if entry.id in candidates] for table in comparable(board.entries)]
    tables = [table for table in tables if table]
    if not tables:
        raise DataError(f"{board.name} has no row whose answers to {benchmark} could be compared with others")
    chosen = list(dict.fromkeys(rows or tables[0]))
    if not any(set(chosen) <= set(table) for table in tables):
        raise DataError(f"rows {', '.join(chosen)} have different judges, prompts or references; label them apart")
    return chosen
