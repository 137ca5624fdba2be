"""The command that calibrates a judge."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from harness.cli.console import AllowHostOption, question
from harness.cli.run import MaxCostOption, StoreOption

if TYPE_CHECKING:
    from harness.benchmarks.alpaca_eval.annotator import Asking
    from harness.benchmarks.alpaca_eval.evaluators import Annotator
    from harness.engine.store import Store
    from harness.judging.asker import Asker
    from harness.judging.ledger import Ledger
    from harness.pipeline.progress import RunView
    from harness.protocols import Judge
    from harness.servers.spending import Spending

RecordedOption = Annotated[
    list[Path] | None,
    typer.Option(
        help="Annotation files, or a folder with one folder a system; with --on llmbar, the folder of its sets. By "
        "default those in $HARNESS_DATA."
    ),
]
OnOption = Annotated[
    Literal["recorded", "llmbar"],
    typer.Option(help="Pairs that the official judge has judged, or LLMBar's, whose better answer is known."),
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
    on: OnOption = "recorded",
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
    """Measure how well a judge agrees with the official judge, on pairs that the official judge has judged.

    With --on llmbar: how often it is right on pairs whose better answer is
    known, in both orders, natural and adversarial ones apart.
    """
    from harness.benchmarks.alpaca_eval.annotator import Asking
    from harness.benchmarks.alpaca_eval.evaluators import load_annotator
    from harness.engine.store import Store
    from harness.files import store_folder
    from harness.recipe.judge_file import load_judge
    from harness.servers.hosts import allowing
    from harness.servers.spending import Spending

    with allowing(allow_host, question()):
        run = _Calibration(
            judge=load_judge(judge),
            annotator=load_annotator(annotator),
            asking=Asking(without_logprobs, temperature, samples),
            store=Store(store_folder(store)),
            spending=Spending(max_cost),
            concurrency=concurrency,
        )
        if on == "llmbar":
            run.on_llmbar(_llmbar_folder(recorded))
        else:
            run.on_recorded(recorded or [_default_folder()], pairs, seed, out)


class _Calibration(NamedTuple):
    """A judge, and how it is asked."""

    judge: "Judge"
    annotator: "Annotator"
    asking: "Asking"
    store: "Store"
    spending: "Spending"
    concurrency: int

    def on_recorded(self, files: list[Path], pairs: int, seed: int, out: Path | None) -> None:
        """Against the official judge's verdicts."""
        from harness.judging.calibration.measure import calibrate as measure
        from harness.judging.calibration.record import save_calibration
        from harness.judging.calibration.sample import read_recorded
        from harness.judging.calibration.table import show
        from harness.pipeline.progress import RunView
        from harness.printable import terminal

        verdicts, console = read_recorded(files), terminal()
        with RunView(console) as view:
            asker = self._asker(view, pairs)
            found, ledger = measure(
                self.judge, self.annotator, verdicts, pairs=pairs, seed=seed, asker=asker, asking=self.asking
            )
        path = save_calibration(found, out)
        show(found, console)
        console.print(_cost(ledger))
        console.print(f"{path}: {found.text}", soft_wrap=True)

    def on_llmbar(self, folder: Path) -> None:
        """On pairs whose better answer is known."""
        from harness.judging.calibration.known import on_known_pairs, read_llmbar
        from harness.judging.calibration.table import show_known
        from harness.pipeline.progress import RunView
        from harness.printable import terminal

        known, console = read_llmbar(folder), terminal()
        with RunView(console) as view:
            asker = self._asker(view, sum(map(len, known.values())))
            sets, ledger = on_known_pairs(self.judge, self.annotator, known, asker=asker, asking=self.asking)
        show_known(sets, console)
        console.print(_cost(ledger))

    def _asker(self, view: "RunView", pairs: int) -> "Callable[[Judge], Asker]":
        from harness.judging.asker import make_ask
        from harness.judging.costs import journal_of

        def asker(member: "Judge") -> "Asker":
            view.start(f"judging recorded pairs: {member.name}", 2 * pairs * self.asking.samples)
            return make_ask(
                member,
                journal_of(member, self.store),
                concurrency=self.concurrency,
                advance=view.advance,
                retries_invalid=1,
                price=member.token_price(self.spending.table),
                spending=self.spending,
            )

        return asker


def _cost(ledger: "Ledger") -> str:
    from harness.servers.prices import dollars

    replies = f"{ledger.asked + ledger.from_journal} replies, {ledger.asked} of them new"
    return f"{replies}; cost: {dollars(ledger.dollars)}."


def _llmbar_folder(given: list[Path] | None) -> Path:
    from harness.errors import DataError
    from harness.files import local_folder

    folder = given[0] if given else local_folder(None, "llmbar")
    if folder is None or len(given or ()) > 1:
        raise DataError(
            "no pairs: give --recorded FOLDER with LLMBar's Natural.json, Neighbor.json and the others in it, or set "
            "HARNESS_DATA to the folder that holds llmbar/"
        )
    return folder


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
