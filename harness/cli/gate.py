"""Commands about gates: gate, baseline promote."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.boards import BoardArgument
from harness.cli.console import AllowHostOption, question, report_gates, say, short
from harness.cli.run import MaxCostOption, SetOption, StoreOption

if TYPE_CHECKING:
    from harness.gate.check import Result
    from harness.gate.margins import Check


def _margin(text: str) -> float | str | None:
    from harness.figures import read_margin

    try:
        return read_margin(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise typer.BadParameter(f"expected a number, got {text!r}")
    return number


MARGIN = "in the unit of the metric's differences, or as a share of the baseline's value (10%)"
MetricOption = Annotated[str, typer.Option(help="The metric to compare.")]
RowOption = Annotated[str | None, typer.Option(help="The row; by default the only trained one.")]
MarginOption = Annotated[
    str | None,
    typer.Option(
        parser=_margin,
        metavar="MARGIN",
        help=f"How much worse is acceptable, {MARGIN}; by default what the metric declares.",
    ),
]
AlphaOption = Annotated[
    float, typer.Option(parser=_number, metavar="LEVEL", help="One-sided level of the tests, below 0.5.")
]
AllowOption = Annotated[bool, typer.Option("--allow", help="Also a row that a validity guard has flagged.")]


BaselineOption = Annotated[
    Path | None,
    typer.Option(help="A file that `harness baseline promote` wrote, or another board.", show_default=False),
]
BaselineRowOption = Annotated[
    str | None,
    typer.Option(
        help="The baseline's row; by default the one named like --row, else its only trained one. Without "
        "--baseline: a row of the same board."
    ),
]
AnchorMarginOption = Annotated[
    str | None,
    typer.Option(parser=_margin, metavar="MARGIN", help="The same against the baseline's anchor; by default --margin."),
]
MinimumOption = Annotated[
    float | None,
    typer.Option(
        "--min",
        parser=_number,
        metavar="FLOOR",
        help="An absolute floor for the metric, tested by a bound; 60 is 60 %.",
    ),
]
PolicyOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A file of tiers instead of one metric: what must not be lost, and where an inconclusive test passes.",
        show_default=False,
    ),
]
UntilSettledOption = Annotated[
    Path | None,
    typer.Option(
        metavar="RECIPE",
        help="Instead of a board: have the recipe's judge compare --row with --baseline-row on more and more prompts, "
        "until it is settled or --max-cost is reached, by a test that is valid at every n.",
    ),
]
MaybeBoard = Annotated[Path | None, typer.Argument(help="A board's folder, or its board.json.", show_default=False)]


def gate(
    board: MaybeBoard = None,
    baseline: BaselineOption = None,
    row: RowOption = None,
    baseline_row: BaselineRowOption = None,
    metric: MetricOption = "alpaca_eval.win_rate",
    margin: MarginOption = None,
    anchor_margin: AnchorMarginOption = None,
    alpha: AlphaOption = 0.05,
    minimum: MinimumOption = None,
    allow: AllowOption = False,
    policy: PolicyOption = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write JUnit XML.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append a Markdown summary, as to $GITHUB_STEP_SUMMARY.")
    ] = None,
    until_settled: UntilSettledOption = None,
    max_cost: MaxCostOption = None,
    edits: SetOption = None,
    store: StoreOption = None,
    allow_host: AllowHostOption = None,
) -> None:
    """Check that a row is not worse than a baseline's by more than a margin: a paired test over shared prompts.

    Exit code 0: not worse by more than the margin; 1: worse, or below the floor;
    2: the rows can't be compared; 3: inconclusive, on this number of prompts.
    """
    from harness.gate.margins import Check

    check = Check(metric=metric, margin=margin, alpha=alpha, minimum=minimum, anchor_margin=anchor_margin, allow=allow)
    if until_settled is None:
        if board is None:
            raise typer.BadParameter("name a board, or a recipe with --until-settled")
        if max_cost is not None or edits or store is not None or allow_host:
            raise typer.BadParameter("--max-cost, --set, --store and --allow-host go with --until-settled")
        if policy is not None:
            if check != Check(allow=allow):
                raise typer.BadParameter("a policy has its own metrics and margins: leave out the others")
            short(_by_policy)(board, policy, baseline, row, baseline_row, allow, junit, markdown)
            return
        short(_ask)(board, baseline, check, row, baseline_row, junit, markdown)
        return
    if policy is not None:
        raise typer.BadParameter("--policy tests a board; --until-settled tests one metric")
    if board is not None or baseline is not None or row is None or baseline_row is None:
        raise typer.BadParameter("--until-settled judges --row and --baseline-row of its recipe, and takes no board")
    from harness.servers.hosts import allowing

    with allowing(allow_host, question()):
        result = _settle(until_settled, edits, check, row, baseline_row, store, max_cost)
    report_gates([result], junit, markdown)


def _ask(
    board: Path,
    baseline: Path | None,
    check: "Check",
    row: str | None,
    baseline_row: str | None,
    junit: Path | None,
    markdown: Path | None,
) -> None:
    from harness.gate.ask import ask

    report_gates([ask(board, baseline, check, row, baseline_row)], junit, markdown)


def _by_policy(
    board: Path,
    policy: Path,
    baseline: Path | None,
    row: str | None,
    baseline_row: str | None,
    allow: bool,
    junit: Path | None,
    markdown: Path | None,
) -> None:
    from harness.gate.policy import read_policy, run_policy

    results = run_policy(board, read_policy(policy), baseline, row, baseline_row, allow=allow)
    report_gates(results, junit, markdown)


def _settle(
    recipe: Path,
    edits: list[str] | None,
    check: "Check",
    row: str,
    baseline_row: str,
    store: Path | None,
    max_cost: float | None,
) -> "Result":
    from harness.engine.interrupts import gently, to_stderr
    from harness.files import store_folder
    from harness.pipeline.progress import RunView
    from harness.pipeline.settle import until_settled
    from harness.printable import terminal
    from harness.recipe.load import load_study

    study = load_study(recipe, edits or ())
    with gently(to_stderr, last=True):
        return until_settled(study, check, row, baseline_row, store_folder(store), RunView(terminal()), max_cost)


baseline_app = typer.Typer(no_args_is_help=True, help="Baselines for `harness gate`.")


@baseline_app.callback()
def _baseline() -> None:
    pass


@baseline_app.command()
@short
def promote(
    board: BoardArgument,
    row: RowOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="By default baseline.json in the board's folder."),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="What it may not be worse by; by default alpaca_eval.win_rate, else the row's first figure."),
    ] = None,
    margin: MarginOption = None,
    anchor_margin: AnchorMarginOption = None,
    alpha: AlphaOption = 0.05,
    new_anchor: Annotated[
        bool, typer.Option("--new-anchor", help="Make the row the anchor that later ones may not drift from.")
    ] = False,
    allow_worse: Annotated[
        bool, typer.Option("--allow-worse", help="Also a row that is worse, or has drifted; it is recorded.")
    ] = False,
    allow: AllowOption = False,
) -> None:
    """Make a board's row the baseline that gates compare with: one file, with its anchor and its history.

    A row is refused that is worse than the baseline it replaces, or that has
    drifted from the anchor: the first row that was promoted, or the one
    promoted with --new-anchor.
    """
    from harness.gate.baseline import promote as write_baseline
    from harness.gate.margins import Check

    named = {} if metric is None else {"metric": metric}
    check = Check(margin=margin, anchor_margin=anchor_margin, alpha=alpha, allow=allow, **named)
    done = write_baseline(board, row, out, check, allow_worse=allow_worse, new_anchor=new_anchor)
    say(f"{done.path}: the baseline from now on")
    for line in done.lines:
        say(line)
