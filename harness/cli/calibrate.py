"""The command that calibrates a judge."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.console import AllowHostOption, question

if TYPE_CHECKING:
    from rich.console import Console

    from harness.judging.asker import Asker
    from harness.judging.calibration.record import Calibration
    from harness.protocols import Judge

SHARES = {
    "balanced_agreement": "balanced agreement",
    "longer_balanced_agreement": "  the longer answer wins",
    "gain_over_longer": "  gain over that",
    "both_orders_balanced_agreement": "  of both orders' mean",
    "agreement": "agreement",
    "consistency": "same winner in both orders",
    "first_preferred": "prefers what is shown first",
    "longer_preferred": "prefers the longer answer",
    "longer_preferred_recorded": "  as the official judge does",
    "length_bias": "  difference",
}
NUMBERS = {
    "auc": "AUC",
    "auc_within_systems": "AUC within systems",
    "longer_auc_within_systems": "  the longer answer wins",
    "gain_over_longer_within_systems": "  gain over that",
    "cohen_kappa": "Cohen's kappa",
    "board_kendall_tau": "win rates: Kendall's tau",
    "board_slope": "win rates: slope",
    "board_offset": "win rates: offset",
}
"""Figures in the order of the table, in words; see `harness.judging.calibration.figures`."""


def calibrate(
    judge: Annotated[Path, typer.Option("--judge", help="A judge's fields in YAML, or a recipe.", show_default=False)],
    recorded: Annotated[
        list[Path] | None,
        typer.Option(help="Annotation files, or a folder with one folder a system; by default those in $HARNESS_DATA."),
    ] = None,
    pairs: Annotated[int, typer.Option(min=2, help="Number of recorded pairs to judge, each in both orders.")] = 400,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample of pairs.")] = 0,
    annotator: Annotated[
        str, typer.Option(help="The alpaca_eval annotator whose prompt to send.")
    ] = "weighted_alpaca_eval_gpt4_turbo",
    concurrency: Annotated[int, typer.Option(min=1, help="Concurrent requests to a served judge.")] = 16,
    max_cost: Annotated[
        float | None, typer.Option("--max-cost", metavar="DOLLARS", min=0, help="Stop before it costs more than this.")
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option("--store", metavar="FOLDER", help="Where replies are kept; by default in the cache folder."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the calibration here instead of where boards look.")
    ] = None,
    allow_host: AllowHostOption = None,
) -> None:
    """Measure how well a judge agrees with the official judge, on pairs that the official judge has judged."""
    from harness.benchmarks.alpaca_eval.annotator import load_annotator
    from harness.engine.store import Store
    from harness.files import store_folder
    from harness.judging.asker import make_ask
    from harness.judging.calibration.measure import calibrate as measure
    from harness.judging.calibration.record import save_calibration
    from harness.judging.calibration.sample import read_recorded
    from harness.judging.costs import journal_of
    from harness.pipeline.progress import RunView
    from harness.printable import terminal
    from harness.recipe.judge_file import load_judge
    from harness.servers.hosts import allowing
    from harness.servers.prices import dollars
    from harness.servers.spending import Spending

    console = terminal()
    with allowing(allow_host, question()):
        component = load_judge(judge)
        config, verdicts = load_annotator(annotator), read_recorded(recorded or [_default_folder()])
        opened, spending = Store(store_folder(store)), Spending(max_cost)
        with RunView(console) as view:

            def asker(member: "Judge") -> "Asker":
                view.start(f"judging recorded pairs: {member.name}", 2 * pairs)
                return make_ask(
                    member,
                    journal_of(member, opened),
                    concurrency=concurrency,
                    advance=view.advance,
                    retries_invalid=1,
                    price=member.token_price(spending.table),
                    spending=spending,
                )

            calibration, ledger = measure(component, config, verdicts, pairs=pairs, seed=seed, asker=asker)
    path = save_calibration(calibration, out)
    _print(calibration, console)
    replies = f"{ledger.asked + ledger.from_journal} replies, {ledger.asked} of them new"
    console.print(f"{replies}; {dollars(ledger.dollars)}.")
    console.print(f"{path}: {calibration.text}", soft_wrap=True)


def _default_folder() -> Path:
    from harness.errors import DataError

    shared = os.environ.get("HARNESS_DATA")
    folder = Path(shared).expanduser() / "alpaca_eval" / "recorded" if shared else None
    if folder is None or not folder.is_dir():
        raise DataError(
            "no recorded verdicts: give --recorded FOLDER with <system>/annotations.json in it (alpaca_eval's "
            "`results/` has them), or set HARNESS_DATA to the folder that holds alpaca_eval/recorded"
        )
    return folder


def _print(calibration: "Calibration", console: "Console") -> None:
    from rich.table import Table

    from harness.boards.format import with_interval
    from harness.printable import printable

    table = Table(box=None, header_style="bold")
    table.add_column(f"{calibration.pairs} pairs, both orders")
    table.add_column("", justify="right")
    for names, decimals, unit in ((SHARES, 1, " %"), (NUMBERS, 2, "")):
        for name, words in names.items():
            metric = calibration.figures[name]
            table.add_row(words, with_interval(metric, decimals) + (unit if metric.value is not None else ""))
    console.print(table)
    board = Table(box=None, header_style="bold")
    for title in ("system", "pairs", "official win rate", "in the sample", "by this judge"):
        board.add_column(title, justify="left" if title == "system" else "right")
    for system, rates in sorted(calibration.systems.items(), key=lambda item: -item[1].official):
        judge = "–" if rates.judge is None else f"{rates.judge:.1f}"
        board.add_row(printable(system), str(rates.pairs), f"{rates.official:.1f}", f"{rates.recorded:.1f}", judge)
    console.print(board)
    reasons = [f"{count} {reason.replace('_', ' ')}" for reason, count in calibration.left_out.items() if count]
    if reasons:
        console.print(f"Recorded rows left out: {', '.join(reasons)}.")
