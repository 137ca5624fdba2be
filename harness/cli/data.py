"""Commands about data: leaks, export, import."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from harness.cli.console import say, say_json
from harness.errors import HarnessError, nearest

if TYPE_CHECKING:
    from harness.data.convert import ConversionSummary


def leaks(
    file: Annotated[
        Path,
        typer.Argument(
            help="Pairs or prompts with a seed file's columns: JSONL, a JSON list, CSV or TSV (plain or .gz), or "
            "Parquet; in JSONL also texts."
        ),
    ],
    against: Annotated[str, typer.Option(help="Evaluation sets, separated by commas.")] = "alpaca_eval,mt_bench",
    threshold: Annotated[float, typer.Option(min=0.1, max=1, help="The least overlap that counts as a leak.")] = 0.8,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="A folder with alpaca_eval/ and mt_bench/; by default $HARNESS_DATA, or else they are downloaded.",
        ),
    ] = None,
) -> None:
    """Find prompts that leak from an evaluation set, verbatim or edited: prints one JSON line a prompt. Exit code 1: at
    least one leaks."""
    from harness.data.leak_check import evaluation_prompts, read_prompts
    from harness.data.leaks import LeakIndex

    # A failed download is one line of ours, without the hub client's line for every attempt.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    prompts = read_prompts(file)
    index = LeakIndex(evaluation_prompts(against.split(","), data), threshold)
    hits = 0
    for number, text in prompts:
        if leak := index.find(text):
            hits += 1
            row = {"line": number, "matched": leak.text, "overlap": leak.overlap, "set": leak.set, "id": leak.id}
            say_json(row)
    say(f"harness: {hits} of {len(prompts)} prompts overlap {against}", error=True)
    if hits:
        raise typer.Exit(1)


FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        help="jsonl, parquet, trl, simpo, nemo-rl or nectar, and for import ultrafeedback; by default export takes "
        "it from the name's end, import from the columns. Boards: every-eval-ever.",
    ),
]
OutOption = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="The file to write: Parquet if its name ends in .parquet; of every-eval-ever: the new board.",
    ),
]


ModelOption = Annotated[
    str | None,
    typer.Option("--model", metavar="ROW", help="Export this row's trained model, with its tokenizer and a card."),
]
DtypeOption = Annotated[
    str | None,
    typer.Option(metavar="DTYPE", help="Of a whole model: float32, bfloat16 or float16.", show_default=False),
]
BaseOption = Annotated[
    str | None,
    typer.Option(metavar="OWNER/NAME[@REVISION]", help="The base model on the hub, if the policy was a folder."),
]
OwnerOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="For every-eval-ever: who evaluated, and trained the models.", show_default=False
    ),
]
StoreOption = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="The store with the model, if the board doesn't link to it.")
]


ExportArgument = Annotated[
    Path,
    typer.Argument(
        metavar="DATASET|BOARD",
        help="A ranked dataset: its folder, or a JSONL or Parquet file. With --model or every-eval-ever: a board.",
    ),
]
ExportOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE|FOLDER",
        help="The file to write: Parquet if its name ends in .parquet. Of a model or a board: a folder.",
    ),
]


def export_(
    source: ExportArgument,
    out: ExportOption = None,
    form: FormatOption = None,
    pairs: Annotated[
        str, typer.Option(help="For the format trl: best_worst, best_rest, adjacent or all_pairs.")
    ] = "best_worst",
    split: Annotated[str, typer.Option(help="train, heldout, or all: then every row names its split.")] = "train",
    hub: Annotated[
        str | None,
        typer.Option("--push-to-hub", metavar="OWNER/NAME", help="Upload the dataset's folder, or the model."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository on the hub private.")] = False,
    model: ModelOption = None,
    merge: Annotated[bool, typer.Option("--merge", help="Of an adapter: a whole model, merged in float32.")] = False,
    dtype: DtypeOption = None,
    base: BaseOption = None,
    store: StoreOption = None,
    owner: OwnerOption = None,
) -> None:
    """Write a ranked dataset in another trainer's format, a board's trained model as a folder that transformers and
    vLLM load, or a board's figures as records of Every Eval Ever; or upload a dataset or a model to the hub."""
    if form == RECORDS:
        others = (model, hub, private, merge, dtype, base, store, pairs != "best_worst", split != "train")
        _export_records(source, out, owner, alone=not any(others))
        return
    if owner is not None:
        raise HarnessError(f"--owner is for --format {RECORDS}")
    if model is not None:
        if form or pairs != "best_worst" or split != "train":
            raise HarnessError("--model: leave out --format, --pairs and --split, which are for datasets")
        _export_model(source, model, out, merge=merge, dtype=dtype, base=base, hub=hub, private=private, store=store)
        return
    if merge or dtype or base or store:
        raise HarnessError("--merge, --dtype, --base and --store are for models: name a board and --model ROW")
    if hub:
        if out or form or pairs != "best_worst" or split not in ("train", "all"):
            raise HarnessError(
                "--push-to-hub uploads the folder's training part, with --split all also what is held out: leave out "
                "-o, --format and --pairs"
            )
        from harness.data.hub import push

        say(push(source, hub, private=private, heldout=split == "all"))
        return
    if out is None or private:
        raise HarnessError(
            "--private: only with --push-to-hub" if private else "expected -o FILE, or --push-to-hub OWNER/NAME"
        )
    from harness.data.convert import NativeFormat, Split, export
    from harness.data.formats import Format
    from harness.data.pairings import PairSelection

    formats = (*get_args(Format), *get_args(NativeFormat))
    chosen = _one_of("--format", form or out.suffix.removeprefix("."), formats)
    kind, half = _one_of("--pairs", pairs, get_args(PairSelection)), _one_of("--split", split, get_args(Split))
    _report(out, export(source, out, chosen, kind, half))  # type: ignore[arg-type]


RECORDS = "every-eval-ever"
"""The format of a board's figures, among those of datasets."""


def _export_records(board: Path, out: Path | None, owner: str | None, *, alone: bool) -> None:
    if out is None or not alone:
        raise HarnessError(f"--format {RECORDS}: expected a board and -o FOLDER, and beside them only --owner NAME")
    from harness.models.builtin.fetch import BUILTIN
    from harness.report.every_eval_ever.export import export_records
    from harness.report.every_eval_ever.identity import HubModel

    builtin = {name: HubModel(model.hub, model.variant) for name, model in BUILTIN.items()}
    done = export_records(board, out, owner, builtin)
    for name in done.files:
        say(str(out / name))
    say(f"{len(done.files)} records with {done.samples:,} samples; check them with every_eval_ever validate")
    for row in done.left_out:
        say(f"left out: row {row}, which has no figures")


def _import_records(source: Path, out: Path) -> None:
    from harness.boards.read import read_board
    from harness.cli.console import print_board
    from harness.printable import terminal
    from harness.report.every_eval_ever.reading import import_records

    done = import_records(source, out)
    print_board(read_board(out), terminal())
    say(f"{out}: {len(done.rows)} rows of {done.records} records; join them to a board with harness merge")
    for content, count in done.left_out.items():
        say(f"left out: {count} {content}")


def _export_model(
    board: Path,
    row: str,
    out: Path | None,
    *,
    merge: bool,
    dtype: str | None,
    base: str | None,
    hub: str | None,
    private: bool,
    store: Path | None,
) -> None:
    if out is None and hub is None:
        raise HarnessError("--model: expected -o FOLDER, or --push-to-hub OWNER/NAME")
    if private and hub is None:
        raise HarnessError("--private: only with --push-to-hub")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    from harness.pipeline.export.model import export_model

    done = export_model(board, row, out, merge=merge, dtype=dtype, base=base, repo=hub, private=private, store=store)
    if done.folder:
        say(f"{done.folder}: its card is {done.folder}/README.md")
    if done.url:
        say(done.url)
    say(f"serve it with: {done.serve}")


def import_(
    source: Annotated[
        Path,
        typer.Argument(
            help="A file in that format: JSONL, a JSON list, Parquet, CSV or TSV; for every-eval-ever, or a folder."
        ),
    ],
    out: OutOption,
    form: FormatOption = None,
    name: Annotated[str | None, typer.Option("--source", help="The source to record for its examples.")] = None,
) -> None:
    """Convert another trainer's preference dataset into a ranked dataset, or records of Every Eval Ever into a board
    of rows that were measured elsewhere."""
    if form == RECORDS:
        if name is not None:
            raise HarnessError(f"--source is for datasets; records of {RECORDS} name their own")
        _import_records(source, out)
        return
    from harness.data.columns.imported import form_of
    from harness.data.convert import NativeFormat
    from harness.data.convert import import_ as read
    from harness.data.formats import ImportFormat

    formats = (*get_args(ImportFormat), *get_args(NativeFormat))
    chosen = _one_of("--format", form, formats) if form else form_of(source)
    _report(out, read(source, out, chosen, name))  # type: ignore[arg-type]


def _one_of(option: str, value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise HarnessError(f"{option}: unknown '{value}'; {nearest(value, choices)}")
    return value


def _report(out: Path, counts: "ConversionSummary") -> None:
    say(f"{out}: {counts.rows} rows of {counts.examples} examples")
    for content, count in counts.left_out.items():
        say(f"left out: {count} {content}")
