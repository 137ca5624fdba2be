"""Commands about data: leaks, export, import."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from harness.errors import HarnessError, nearest

if TYPE_CHECKING:
    from harness.dataset_files import Written


def leaks(
    file: Annotated[Path, typer.Argument(help="Prompts: JSONL, plain or .gz; the columns of seed files, or texts.")],
    against: Annotated[str, typer.Option(help="Evaluation sets, by commas.")] = "alpaca_eval,mt_bench",
    threshold: Annotated[float, typer.Option(min=0.1, max=1, help="The overlap from which it is a hit.")] = 0.8,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="With alpaca_eval/ and mt_bench/ in it; else $HARNESS_DATA, else the web."),
    ] = None,
) -> None:
    """Find prompts that are an evaluation set's, perhaps edited: one JSON line a hit; exit code 1 if there is any."""
    import json

    from harness.leak_check import evaluation_prompts, read_prompts
    from harness.leaks import LeakIndex

    # A fetch that fails is one line of ours, without the hub client's on every attempt.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    prompts = read_prompts(file)
    index = LeakIndex(evaluation_prompts(against.split(","), data), threshold)
    hits = 0
    for number, text in prompts:
        if leak := index.find(text):
            hits += 1
            told = {"line": number, "matched": leak.text, "overlap": leak.overlap, "set": leak.set, "id": leak.id}
            print(json.dumps(told, ensure_ascii=False))
    print(f"harness: {hits} of {len(prompts)} prompts overlap {against}", file=sys.stderr)
    if hits:
        raise typer.Exit(1)


FormatOption = Annotated[
    str | None,
    typer.Option("--format", metavar="NAME", help="jsonl, parquet, trl, simpo, nemo-rl or nectar; else by the ending."),
]
OutOption = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Written as Parquet if it ends so.")]


def export_(
    source: Annotated[Path, typer.Argument(help="A ranked dataset: its folder, or a JSONL or Parquet file.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Written as Parquet if it ends so.")
    ] = None,
    form: FormatOption = None,
    pairs: Annotated[str, typer.Option(help="Of trl: best_worst, best_rest, adjacent or all_pairs.")] = "best_worst",
    split: Annotated[str, typer.Option(help="train, heldout or all.")] = "all",
    hub: Annotated[
        str | None,
        typer.Option("--push-to-hub", metavar="OWNER/NAME", help="Upload the folder, with its card, as it is."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="A new dataset on the hub is private.")] = False,
) -> None:
    """Write a ranked dataset in the format of another trainer, or upload its folder to the Hugging Face hub."""
    if hub:
        if out or form or pairs != "best_worst" or split != "all":
            raise HarnessError("--push-to-hub uploads the folder as it is: leave out -o, --format, --pairs and --split")
        from harness.hub_upload import push

        print(push(source, hub, private=private))
        return
    if out is None or private:
        wrong = "--private: only with --push-to-hub" if private else "expected -o FILE, or --push-to-hub OWNER/NAME"
        raise HarnessError(wrong)
    from harness.dataset_files import Own, Split, export
    from harness.formats import Format
    from harness.trl_loss import Pairing

    formats = (*get_args(Format), *get_args(Own))
    chosen = _one_of("--format", form or out.suffix.removeprefix("."), formats)
    kind, half = _one_of("--pairs", pairs, get_args(Pairing)), _one_of("--split", split, get_args(Split))
    _written(out, export(source, out, chosen, kind, half))  # type: ignore[arg-type]


def import_(
    source: Annotated[Path, typer.Argument(help="A file in the format: JSONL, a JSON list, or Parquet.")],
    out: OutOption,
    form: FormatOption = None,
    name: Annotated[str | None, typer.Option("--source", help="What its examples are said to come from.")] = None,
) -> None:
    """Turn a preference dataset of another trainer into a ranked dataset."""
    from harness.dataset_files import Own
    from harness.dataset_files import import_ as read
    from harness.formats import Format

    formats = (*get_args(Format), *get_args(Own))
    chosen = _one_of("--format", form or source.suffix.removeprefix("."), formats)
    _written(out, read(source, out, chosen, name))  # type: ignore[arg-type]


def _one_of(option: str, given: str, known: Sequence[str]) -> str:
    if given not in known:
        raise HarnessError(f"{option}: unknown '{given}'; {nearest(given, known)}")
    return given


def _written(out: Path, done: "Written") -> None:
    print(f"{out}: {done.rows} rows of {done.examples} examples")
    for what, count in done.left_out.items():
        print(f"not held: {count} {what}")
