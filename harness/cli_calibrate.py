"""The command that calibrates a judge."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from harness.calibration import Calibration
    from harness.judging import Asker

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
"""Figures in the order of the table, in words; see `harness.calibration_figures`."""


def calibrate(
    judge: Annotated[Path, typer.Option("--judge", help="A judge's fields in YAML, or a recipe.", show_default=False)],
    recorded: Annotated[
        list[Path] | None,
        typer.Option(help="Annotation files, or a folder with one folder a system; else $HARNESS_DATA's."),
    ] = None,
    pairs: Annotated[int, typer.Option(min=2, help="How many recorded pairs are judged, in both orders each.")] = 400,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample.")] = 0,
    annotator: Annotated[
        str, typer.Option(help="The alpaca_eval annotator whose prompt is sent.")
    ] = "weighted_alpaca_eval_gpt4_turbo",
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at once to a served judge.")] = 16,
    max_cost: Annotated[
        float | None, typer.Option("--max-cost", metavar="DOLLARS", min=0, help="Stop before it has cost more.")
    ] = None,
    store_folder: Annotated[
        Path | None, typer.Option("--store", metavar="FOLDER", help="Where replies are kept; else the cache folder's.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the calibration here, and not where boards look.")
    ] = None,
) -> None:
    """Measure how far a judge agrees with the official one, on pairs that the official one has judged."""
    from rich.console import Console

    from harness import calibrating
    from harness.annotator import load_annotator
    from harness.calibration import keep
    from harness.calibration_sample import read_recorded
    from harness.console import RunView
    from harness.judge_costs import journal_of
    from harness.judge_file import load_judge
    from harness.judging import make_ask
    from harness.paths import cache_root
    from harness.spending import Spending, dollars, price_of
    from harness.store import Store

    console, asked = Console(highlight=False), load_judge(judge)
    config, verdicts = load_annotator(annotator), read_recorded(recorded or [_default_folder()])
    store, spending = Store(store_folder or cache_root() / "store"), Spending(max_cost)
    with RunView(console) as view:

        def asker(member: Any) -> "Asker":
            view.start(f"judging recorded pairs: {member.name}", 2 * pairs)
            return make_ask(
                member,
                journal_of(member, store),
                concurrency=concurrency,
                advance=view.advance,
                retries_invalid=1,
                price=price_of(member, spending.table),
                spending=spending,
            )

        found, ledger = calibrating.calibrate(asked, config, verdicts, pairs=pairs, seed=seed, asker=asker)
    path = keep(found, out)
    _print(found, console)
    console.print(
        f"{ledger.asked + ledger.from_journal} replies, {ledger.asked} of them new; {dollars(ledger.dollars)}."
    )
    console.print(f"{path}: {found.text}", soft_wrap=True)


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


def _print(found: "Calibration", console: "Console") -> None:
    from rich.table import Table

    from harness.board_rows import figure

    table = Table(box=None, header_style="bold")
    table.add_column(f"{found.pairs} pairs, both orders")
    table.add_column("", justify="right")
    for names, decimals, unit in ((SHARES, 1, " %"), (NUMBERS, 2, "")):
        for name, words in names.items():
            metric = found.figures[name]
            table.add_row(words, figure(metric, decimals) + (unit if metric.value is not None else ""))
    console.print(table)
    board = Table(box=None, header_style="bold")
    for title in ("system", "pairs", "official win rate", "in the sample", "by this judge"):
        board.add_column(title, justify="left" if title == "system" else "right")
    for system, rates in sorted(found.systems.items(), key=lambda item: -item[1].official):
        own = "–" if rates.judge is None else f"{rates.judge:.1f}"
        board.add_row(system, str(rates.pairs), f"{rates.official:.1f}", f"{rates.recorded:.1f}", own)
    console.print(board)
    if any(found.left_out.values()):
        told = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in found.left_out.items() if count)
        console.print(f"Recorded rows left out: {told}.")
