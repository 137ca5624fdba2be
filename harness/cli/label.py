"""The command that asks people which answers are better, and reads what they said."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.console import say
from harness.cli.own.init import ColumnsOption
from harness.cli.own.label_pairs import is_board, label_pairs, say_agreement
from harness.errors import HarnessError

if TYPE_CHECKING:
    from rich.table import Table

    from harness.boards.gold.estimates import GoldEstimate
    from harness.judging.gold.labels import Labels
    from harness.stats.ppi import Estimate


BoardOrFile = Annotated[
    Path,
    typer.Argument(
        metavar="BOARD|FILE",
        help="A board's folder, or its board.json; or preference pairs: CSV, TSV, JSON, JSONL or Parquet.",
        show_default=False,
    ),
]


def label(
    board: BoardOrFile,
    rows: Annotated[
        str | None, typer.Option(metavar="ROW,ROW", help="The rows to label; by default all that can be compared.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="ROW",
            help="Compare with this row's answers; by default with what the judge compared with, or for a benchmark "
            "without that the board's first row.",
        ),
    ] = None,
    benchmark: Annotated[
        str | None, typer.Option(metavar="NAME", help="By default the first with a win rate against a reference.")
    ] = None,
    pairs: Annotated[
        int,
        typer.Option(min=2, help="Pairs of each row: so many prompts, the same for all rows; or pairs of the file."),
    ] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample of prompts.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="The page; by default in gold/ in the board's folder, or in FILE.labels/. With --read, of a file of "
            "pairs: all its pairs, corrected (JSONL, or Parquet by its name).",
            show_default=False,
        ),
    ] = None,
    columns: ColumnsOption = None,
    read: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Instead: read what a page has saved (repeatable, one file a person).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Have people judge: one offline page of blinded pairs of answers, and win rates from what they say.

    With --read, people's verdicts on a random part of the prompts correct the
    judge's on all of them (prediction-powered inference), where the judge is of
    any help. Of a file of preference pairs, how often people prefer what it does.
    """
    if not is_board(board):
        label_pairs(board, columns, pairs, seed, out, read, for_boards=[rows, against, benchmark])
        return
    if columns is not None:
        raise HarnessError(f"{board}: --columns is for files of pairs; a board has its own")
    folder = (board if board.is_dir() else board.parent).resolve()
    if read:
        if any(option is not None for option in (rows, against, benchmark, out)):
            raise typer.BadParameter("--read knows rows, prompts and benchmark from the page's key; give it alone")
        _read(board, folder, read)
        return
    _write(board, folder, _names(rows), against, benchmark, pairs, seed, out)


def _names(rows: str | None) -> list[str] | None:
    return None if rows is None else [name.strip() for name in rows.split(",") if name.strip()]


def _write(
    board: Path,
    folder: Path,
    rows: list[str] | None,
    against: str | None,
    benchmark: str | None,
    pairs: int,
    seed: int,
    out: Path | None,
) -> None:
    from harness.boards.gold.verdicts import GOLD
    from harness.boards.read import read_board
    from harness.boards.writing import own_file, write_output
    from harness.judging.gold.draw import draw, save_key
    from harness.judging.gold.page import page
    from harness.judging.gold.pairs import contest

    found = contest(folder, read_board(board), rows, against, benchmark)
    drawn = draw(found, pairs, seed)
    key = save_key(folder / GOLD, drawn.key)
    path = out or own_file(folder, f"{GOLD}/{drawn.key.id}.html")
    write_output(path, page(drawn))
    prompts = len({item.prompt for item in drawn.key.items})
    same = sum(item.row_is == "same" for item in drawn.key.items)
    say(
        f"{path}: {len(drawn.key.items) - same} pairs, {prompts} of {len(found.prompts)} prompts of {found.benchmark}, "
        f"{', '.join(found.rows)} against {found.against or 'the reference'}"
        + (f"; {same} pairs of equal answers are ties and not shown" if same else "")
    )
    say(f"Its key is {key}: keep it, and show it to nobody who labels.")
    say(f"Then: harness label {board} --read FILE")


def _read(board: Path, folder: Path, paths: list[Path]) -> None:
    from harness.boards.gold.estimates import estimates
    from harness.boards.gold.verdicts import GOLD
    from harness.boards.read import read_board
    from harness.judging.gold.board import put_on_board, save_verdicts
    from harness.judging.gold.labels import joined, read_labels
    from harness.judging.gold.pairs import contest

    opened = read_board(board)
    key, people = read_labels(folder / GOLD, paths, folder)
    labels = joined(key, people, contest(folder, opened, key.rows, key.against, key.benchmark), opened.entries)
    found = estimates(opened.entries, labels.verdicts)
    path = save_verdicts(folder, key.id, labels.verdicts)
    _print(labels, found)
    say(f"{path}: {sum(v.value is not None for v in labels.verdicts)} verdicts on {len(labels.verdicts)} pairs")
    if key.against is None:
        put_on_board(folder)
        is_there = any(e.figure is not None and e.result is not None and not e.difference for e in found)
        figure = "its rows now have the corrected figure, marked gold" if is_there else "no row has enough for a figure"
        say(f"{board}: {figure}.")


def _print(labels: "Labels", found: "list[GoldEstimate]") -> None:
    from harness.printable import terminal

    say_agreement(labels.agreement)
    terminal().print(_table(found))
    for estimate in found:
        name = _name(estimate)
        if estimate.result is None:
            say(f"{name}: too few verdicts for an estimate")
            continue
        result = estimate.result
        if result.why_not:
            say(f"{name}: {result.why_not}; the labels alone count")
        else:
            low, high = result.correlation_ci95 or (0.0, 0.0)
            say(
                f"{name}: the judge correlates {result.correlation:.2f} [{low:.2f}, {high:.2f}] with the labels; "
                f"with it {result.labels} labels are worth {result.worth:.0f}: {result.worth - result.labels:.0f} saved"
            )
        if estimate.unlabelled:
            pairs = "1 pair was" if estimate.unlabelled == 1 else f"{estimate.unlabelled} pairs were"
            say(f"{name}: {pairs} skipped or not reached; not scored")


def _table(found: "list[GoldEstimate]") -> "Table":
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for title in ("", "labels", "judge alone", "labels alone", "both", "both, on these prompts"):
        table.add_column(title, justify="left" if not title else "right")
    for estimate in found:
        result = estimate.result
        if result is None:
            continue
        judge = "–" if result.judge is None else f"{result.judge:.1f}"
        best = result.corrected
        table.add_row(
            _name(estimate),
            str(result.labels),
            judge,
            _interval(result.labelled),
            "–" if best is None else _interval(best),
            "–" if best is None or best.ci95_here is None else f"[{best.ci95_here[0]:.1f}, {best.ci95_here[1]:.1f}]",
        )
    return table


def _name(estimate: "GoldEstimate") -> str:
    if estimate.difference:
        return f"{estimate.row} \N{MINUS SIGN} {estimate.against}"
    return estimate.row if estimate.against is None else f"{estimate.row} over {estimate.against}"


def _interval(estimate: "Estimate") -> str:
    if estimate.ci95 is None:
        return f"{estimate.value:.1f} (too few to tell)"
    return f"{estimate.value:.1f} [{estimate.ci95[0]:.1f}, {estimate.ci95[1]:.1f}]"
