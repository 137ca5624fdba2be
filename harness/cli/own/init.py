"""The command that begins a recipe from people's own data."""

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_args

import typer

from harness.cli.console import say
from harness.errors import HarnessError, nearest

if TYPE_CHECKING:
    from harness.cli.own.recipes import Kind, Source
    from harness.data.columns.survey import Survey
    from harness.data.pairs import Columns
    from harness.protocols import Seed
    from harness.recipe.load import Study

RECIPE = Path("recipe.yaml")
"""What is written unless another file is named; the board is then called like the data."""
HUB_LIMIT = 1000
"""Pairs of a hub dataset that a new recipe uses."""


ColumnsOption = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="ROLE=COLUMN,...",
        help="If a file's have other names: prompt=question,chosen=answer_a,rejected=answer_b.",
        show_default=False,
    ),
]


def init(
    data: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Your pairs: CSV, TSV, JSON, JSONL or Parquet, or the id of a hub dataset (OWNER/NAME); by default "
            "the pairs that ship.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="NAME",
            help="pairs (no augmentation, no judge), quickstart (the whole road), sweep, gate (trains, then checks a "
            "floor), or served (by servers).",
        ),
    ] = "pairs",
    columns: ColumnsOption = None,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE", help="The recipe to write; named like its board."),
    ] = RECIPE,
) -> None:
    """Begin a recipe from your own pairs: reads the file, says what is in it, and writes a commented recipe that
    runs, with its time and cost in it."""
    from harness.cli.own.recipes import SCHEMA, Kind, recipe_text

    chosen: Kind | None = next((known for known in get_args(Kind) if known == kind), None)
    if chosen is None:
        raise HarnessError(f"--from: unknown '{kind}'; {nearest(kind, get_args(Kind))}")
    if out.exists() or out.is_symlink():
        raise HarnessError(f"{out}: is there already; name another file with -o, or remove it")
    source, found = _read(data, columns_of_option(columns), chosen, out)
    text = recipe_text(chosen, source.written, "")
    cost = _cost(_study(text, source.absolute))
    text = recipe_text(chosen, source.written, "".join(f"# {line}\n" for line in cost))
    _write(out, text, SCHEMA)
    say(f"{data or 'the pairs that ship'}: {source.written.said}")
    for warning in found.warnings:
        say(f"harness: warning: {warning}", error=True)
    for line in (*cost, _precision(source.written)):
        say(line)
    say(f"{out}: check it with harness validate {out}, run it with harness run {out}")


class _Data(NamedTuple):
    """`written`: the source as the recipe has it; `absolute`: its path, which the recipe has relative to itself."""

    written: "Source"
    absolute: str | None


def columns_of_option(text: str | None) -> "Columns | None":
    """The mapping of columns that `--columns` gives."""
    if text is None:
        return None
    pairs = [part.partition("=") for part in text.split(",")]
    if any(not role.strip() or not column.strip() for role, _, column in pairs):
        raise HarnessError("--columns: expected ROLE=COLUMN,..., as prompt=question,chosen=good,rejected=bad")
    from pydantic import ValidationError

    from harness.data.pairs import Columns

    try:
        return Columns.model_validate({role.strip(): column.strip() for role, _, column in pairs})
    except ValidationError as error:
        first = error.errors()[0]
        role = "".join(f"{name}: " for name in first["loc"])
        raise HarnessError(f"--columns: {role}{first['msg']}; roles: {', '.join(Columns.model_fields)}") from None


def _read(data: str | None, columns: "Columns | None", kind: "Kind", out: Path) -> "tuple[_Data, Survey]":
    """The data, and what is in it. Raises DataError."""
    from harness.cli.own.recipes import Source
    from harness.data.columns.survey import ranks, survey, unreadable
    from harness.errors import DataError

    ranked, path = False, None if data is None else Path(data).expanduser()
    given = {} if columns is None else {"columns": columns.model_dump(exclude_unset=True)}
    fields: dict[str, Any]
    if path is None:
        fields = {"name": "builtin"}
    elif not path.exists() and re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", data or "") and not _is_a_file(path):
        fields, path = {"name": "hub", "dataset": data, "limit": HUB_LIMIT, **given}, None
    else:
        path = path.absolute()
        fields = {"name": _component(path), "path": str(path), **given}
        ranked = path.is_file() and columns is None and ranks(path)
    if ranked:
        if kind in ("quickstart", "served"):
            raise HarnessError(f"{data}: ranks responses already; expected --from pairs, sweep or gate")
        fields["rankings"] = True
    seed = _built(fields)
    with _quiet():
        if path is not None and path.is_file() and not ranked and (error := unreadable(path, columns)):
            raise error
        pairs = seed.pairs()
    counts = {name: dict(value) for name, value in seed.remarks().items()}
    left_out = counts.get("left_out", {})
    found = survey(pairs, left_out.get("same_text", 0), counts.get("ignored_columns", ()))
    if len(pairs) < 2:
        raise DataError(f"{data}: one pair; expected at least two, one of them to hold out")
    shown = dict(fields) if path is None else {**fields, "path": os.path.relpath(path, out.absolute().parent)}
    dataset = str(fields.get("dataset", "builtin")).rpartition("/")[2]
    name = dataset if path is None else path.stem.partition(".")[0]
    if out.stem != RECIPE.stem:
        name = out.stem
    written = shown["path"] if ranked else shown
    return _Data(Source(name, written, _said(counts, found), len(pairs)), None if path is None else str(path)), found


def _is_a_file(path: Path) -> bool:
    """Whether a path that isn't there was meant as one, by its ending or its folder."""
    return path.parent.is_dir() or path.suffix.lower() in (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".gz")


def _component(path: Path) -> str:
    """The seed component that reads a file or folder."""
    from harness.data.columns.delimited import is_delimited
    from harness.data.rows import is_parquet

    if path.is_dir():
        return "csv" if any(is_delimited(file) for file in path.iterdir()) else "parquet"
    if is_parquet(path):  # also says that there is no such file
        return "parquet"
    return "csv" if is_delimited(path) else "jsonl"


def _built(fields: Mapping[str, Any]) -> "Seed":
    from typing import cast

    from harness.components import build
    from harness.protocols import Seed

    return cast(Seed, build("seed", fields))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the log of rows left out: the summary has their numbers."""
    log = logging.getLogger("harness.data.read")
    before = log.disabled
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = before


_LEFT_OUT = {
    "same_text": "with equal answers or tied scores",
    "repeated_prompts": "that repeat a prompt",
    "unreadable": "that can't be read",
    "no_preference": "with fewer than two different scores",
    "held_out": "held out before",
}


def _said(counts: Mapping[str, Mapping[str, int]], found: "Survey") -> str:
    """What is in the data, in one line."""
    from harness.printable import printable

    parts = [f"{found.pairs} pairs", f"chosen is the longer answer in {found.longer:.0%}"]
    parts += [f"left out: {n} {_LEFT_OUT[why]}" for why, n in counts.get("left_out", {}).items() if n]
    parts += [f"{style} ({n} rows)" for style, n in counts.get("read_as", {}).items()]
    ignored = list(counts.get("ignored_columns", {}))
    parts += [f"not read: {', '.join(ignored[:8])}{', …' * (len(ignored) > 8)}"] if ignored else []
    return printable("; ".join(parts), 600)


def _study(text: str, path: str | None) -> "Study":
    """The recipe, which must be right, as if it stood where it will be written."""
    from harness.outside_yaml import parse_yaml
    from harness.recipe.load import load_study

    document = parse_yaml(text)
    if path is not None:
        path = path.replace("${", "$${")  # variables are filled in paths
        if isinstance(document["data"].get("ranked"), str):
            document["data"]["ranked"] = path
        else:
            document["data"]["seeds"][0]["path"] = path
    return load_study(document, check=False)


def _cost(study: "Study") -> Sequence[str]:
    """What `harness plan` says of the whole: its time here, and what judges cost."""
    from harness.engine.store import Store
    from harness.files import offline, store_folder
    from harness.pipeline.estimates import Estimates
    from harness.pipeline.plan_view import duration
    from harness.pipeline.study import make_study_plan
    from harness.servers.prices import dollars

    with offline(), _quiet():
        estimates = Estimates(make_study_plan(study), Store(store_folder(None)))
        left = estimates.left
        missing = len(estimates.unknown.keys() - estimates.stored)
    unknown = f", without {missing} stages whose time is unknown" if missing else ""
    lines = [f"harness plan, on this machine: about {duration(left.seconds) or 'no time'}, without downloads{unknown}"]
    if left.calls:
        price = "an unknown price" if left.dollars is None else f"about {dollars(left.dollars)}"
        lines.append(f"Its judge is asked about {left.calls:,} times, for {price if left.dollars != 0 else 'nothing'}")
    return lines


def _precision(source: "Source") -> str:
    """What the held-out pairs can tell."""
    from harness.cli.own.recipes import held_out
    from harness.stats.proportions import clopper_pearson

    pairs = held_out(source.pairs)
    low, high = clopper_pearson(0.5, pairs)
    return (
        f"{pairs} pairs are held out: they tell an accuracy to within about {50 * (high - low):.0f} points "
        "(95 % CI), so smaller differences won't show"
    )


def _write(out: Path, text: str, schema_name: str) -> None:
    from harness.boards.writing import write_output
    from harness.cli.own.reference import write_schema

    write_output(out, text)
    beside = out.parent / schema_name
    if not beside.exists():
        write_schema(beside)
