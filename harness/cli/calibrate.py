"""The command that calibrates a judge."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli.console import AllowHostOption, question
from harness.cli.run import MaxCostOption, StoreOption

if TYPE_CHECKING:
    from harness.judging.asker import Asker
    from harness.protocols import Judge

RecordedOption = Annotated[
    list[Path] | None,
    typer.Option(help="Annotation files, or a folder with one folder a system; by default those in $HARNESS_DATA."),
]
AnnotatorOption = Annotated[str, typer.Option(help="The alpaca_eval annotator whose prompt to send.")]
TemperatureOption = Annotated[
    float | None, typer.Option(min=0, max=2, help="By default the annotator's; above 0 for --samples.")
]
WithoutLogprobsOption = Annotated[
    Literal["text", "stated", "refuse"],
    typer.Option(help="A reply without log-probabilities: taken as certain, asked for a probability, or not scored."),
]


def calibrate(
    judge: Annotated[Path, typer.Option("--judge", help="A judge's fields in YAML, or a recipe.", show_default=False)],
    recorded: RecordedOption = None,
    pairs: Annotated[int, typer.Option(min=2, help="Number of recorded pairs to judge, each in both orders.")] = 400,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample of pairs.")] = 0,
    annotator: AnnotatorOption = "weighted_alpaca_eval_gpt4_turbo",
    samples: Annotated[int, typer.Option(min=1, max=16, help="Replies to each prompt, averaged.")] = 1,
    temperature: TemperatureOption = None,
    without_logprobs: WithoutLogprobsOption = "text",
    concurrency: Annotated[int, typer.Option(min=1, help="Concurrent requests to a served judge.")] = 16,
    max_cost: MaxCostOption = None,
    store: StoreOption = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the calibration here instead of where boards look.")
    ] = None,
    allow_host: AllowHostOption = None,
) -> None:
    """Measure how well a judge agrees with the official judge, on pairs that the official judge has judged."""
    from harness.benchmarks.alpaca_eval.annotator import Asking
    from harness.benchmarks.alpaca_eval.evaluators import load_annotator
    from harness.engine.store import Store
    from harness.files import store_folder
    from harness.judging.asker import make_ask
    from harness.judging.calibration.measure import calibrate as measure
    from harness.judging.calibration.record import save_calibration
    from harness.judging.calibration.sample import read_recorded
    from harness.judging.calibration.table import show
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
        asking = Asking(without_logprobs, temperature, samples)
        opened, spending = Store(store_folder(store)), Spending(max_cost)
        with RunView(console) as view:

            def asker(member: "Judge") -> "Asker":
                view.start(f"judging recorded pairs: {member.name}", 2 * pairs * samples)
                return make_ask(
                    member,
                    journal_of(member, opened),
                    concurrency=concurrency,
                    advance=view.advance,
                    retries_invalid=1,
                    price=member.token_price(spending.table),
                    spending=spending,
                )

            found, ledger = measure(component, config, verdicts, pairs=pairs, seed=seed, asker=asker, asking=asking)
    path = save_calibration(found, out)
    show(found, console)
    console.print(
        f"{ledger.asked + ledger.from_journal} replies, {ledger.asked} of them new; cost: {dollars(ledger.dollars)}."
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
