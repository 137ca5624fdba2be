"""A run's board: whether it may be written, asked before anything is computed and again at the end; and the writing."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from harness.boards.board import Board
from harness.boards.coverage import worse_coverage
from harness.boards.entry import Entry
from harness.boards.folder import DRAWN, RECIPES_GOLD, check_replaceable, is_unfinished, old_board
from harness.boards.gold.estimates import without_gold
from harness.boards.gold.verdicts import GOLD
from harness.boards.read import DATA, entry_file, read_board
from harness.boards.versions.history import HISTORY, keep_board
from harness.boards.writing import own_file, writing
from harness.engine.execute import ExecutionResult
from harness.errors import DataError, StoreError
from harness.pipeline.entries import make_entries
from harness.pipeline.export.links import check_models_folder, link_models
from harness.pipeline.gold import gold_verdicts, with_gold_verdicts
from harness.pipeline.public_data import public_data, write_public_data
from harness.pipeline.study import StudyPlan, StudyRow
from harness.recipe.load import Study
from harness.report.page import write_page
from harness.report.write import write_board
from harness.stats.paired import prompt_of


def check_folder(folder: Path, study: Study, replace: bool) -> None:
    """Raises StoreError for a folder with links where a study's files go, or, unless `replace`, with files of others or
    another recipe's board. Needs no plan: until this has passed, nothing is written."""
    for name in ("run.log", "entries/x", f"{DATA}/x", f"{HISTORY}/x", RECIPES_GOLD, *DRAWN):
        own_file(folder, name)
    check_models_folder(folder)
    has_rows = any(cell.recipe.methods or cell.recipe.evaluation for cell in study.cells)
    if has_rows and not replace and folder.is_dir():
        with writing(folder):  # another run may be writing its board just now
            check_replaceable(folder, DRAWN, (), _recipes(study))


def check_plan(folder: Path, plan: StudyPlan) -> None:
    """Raises StoreError where it is certain before the run that `write_run` would refuse its board: for a file of
    somebody else's, or since far fewer of the old board's prompts are asked."""
    with writing(folder):
        board = _read_old(folder)
        entries = [Entry(id=m.row.id, method=m.row.method, outcomes=o) for m, o in _most_outcomes(plan, board)]
        _check(folder, plan.study, board, entries, (), "nothing has been computed")


def _most_outcomes(plan: StudyPlan, board: Board) -> Iterator[tuple[StudyRow, dict[str, dict[str, float | None]]]]:
    """For each row of the plan, the questions that it may have verdicts on, by benchmark; only where they are some of
    the questions that the old board has for the row."""
    old = {entry.id: entry.outcomes for entry in board.entries}
    asked = {
        (cell.id, benchmark.name): {question.id: 0.0 for question in benchmark.load_questions()}
        for cell in (plan.study.cells if old else ())
        for benchmark in (cell.recipe.evaluation.benchmarks if cell.recipe.evaluation else ())
    }
    for member in plan.rows:
        before = {name: {prompt_of(key) for key in values} for name, values in old.get(member.row.id, {}).items()}
        most = {name: asked[member.cell.id, name] for name in member.row.verdicts if name in before}
        yield member, {name: dict(ids) for name, ids in most.items() if ids.keys() <= before[name]}


def write_run(folder: Path, plan: StudyPlan, executed: ExecutionResult, replace: bool) -> tuple[Board, Path | None]:
    """Write a run's board, its public data and its page; returns the board, and where the one that it has replaced is
    kept (None: it replaced none, or the same). Unless `replace`, raises StoreError if that would lose files of others,
    another recipe's rows, or a board with far more scored prompts."""
    entries, data = make_entries(plan, executed), public_data(plan, executed)
    gold = gold_verdicts(plan, executed)
    with writing(folder):
        old = None if replace else _read_old(folder)
        if old is not None:
            _check(folder, plan.study, old, entries, data, "the run's results are in the store")
            old = old.model_copy(update={"entries": tuple(without_gold(old.entries))})
        kept = keep_board(folder, entries, old)
        if gold or (folder / GOLD).exists():  # which are about the answers
            write_public_data(folder, data)
            entries = with_gold_verdicts(folder, plan.study.name, entries, gold)
        write_board(folder, plan.study.name, entries)
        write_public_data(folder, data)
        write_page(folder)
        link_models(folder, checkpoint_folders(plan, executed))
        return read_board(folder), kept


def checkpoint_folders(plan: StudyPlan, executed: ExecutionResult) -> dict[str, Path]:
    """The folders of the deployed policies in the store, by the ids of the trained rows."""
    rows = [member.row for member in plan.rows]
    return {r.id: r.checkpoint(executed.artifacts[r.policy.key].folder) for r in rows if r.policy}


def _recipes(study: Study) -> set[str]:
    return {study.name, *(cell.recipe.name for cell in study.cells)}


def _check(
    folder: Path, study: Study, board: Board, entries: Sequence[Entry], data: Collection[str], state: str
) -> None:
    files = (*DRAWN, *(f"entries/{entry_file(entry.id)}" for entry in entries), *data)
    check_replaceable(folder, files, (), _recipes(study))
    # A benchmark that no row has any longer was taken out of the recipe.
    groups = {group for entry in entries for group in entry.outcomes}
    old = [
        entry.model_copy(update={"outcomes": {g: v for g, v in entry.outcomes.items() if g in groups}})
        for entry in board.entries
    ]
    before, after = (Board(name=study.name, generated=None, entries=tuple(rows)) for rows in (old, entries))
    if reason := worse_coverage(before, after):
        raise StoreError(f"{folder} keeps its board: {reason}; {state}; to replace the board, run again with --replace")


def _read_old(folder: Path) -> Board:
    """The board in a folder; without rows where there is none, or its writing was cut short. Raises StoreError for
    one that can't be read."""
    if old_board(folder) is None or is_unfinished(folder):
        return Board(name="", generated=None, entries=())
    try:
        return read_board(folder)
    except DataError as error:
        raise StoreError(f"{error}; the board is kept: repair it, or replace it with --replace") from None
