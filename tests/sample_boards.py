"""Sample boards, and how tests read what is drawn of them."""

import html
import io
import zlib
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.boards.board import Board
from harness.boards.entry import Entry
from harness.boards.provenance import Provenance
from harness.boards.read import read_board
from harness.report.terminal import terminal_table
from harness.types import Metric

LOCAL = {"name": "local", "model": {"model": "smollm2-135m-instruct", "sha256": "ab" * 32}}
BENCHMARKS = {"alpaca_eval": {"prompts": "builtin", "sha256": "cd" * 32}, "mt_bench": {"questions": "builtin"}}


def metric(value: float, half: float = 1.0, n: int = 30, n_invalid: int = 0) -> Metric:
    return Metric(value=value, stderr=half / 2, ci95=(value - half, value + half), n=n, n_invalid=n_invalid)


def entry(row: str, method: str, metrics: dict[str, Metric] | None = None, **provenance: Any) -> Entry:
    figures = {
        "alpaca_eval.win_rate": metric(53.125, 5.0625),
        "mt_bench.score": metric(5.25, 0.5),
        "mt_bench.math": Metric(value=4.5, n=4),
        "heldout.kendall_tau": metric(0.0625, 0.125, n=12),
    }
    figures = figures if metrics is None else metrics
    return Entry(
        id=row,
        method=method,
        metrics=figures,
        provenance={"judge": LOCAL, "judge_calibration": "uncalibrated", "benchmarks": BENCHMARKS, **provenance},
        outcomes={"heldout": {"p1": -0.25}, **outcomes(row, figures)},
    )


DERIVED = (
    ("alpaca_eval.lc_win_rate", "{}", 0, 1.5),
    ("alpaca_eval.win_rate", "{}", 100, 1),
    ("mt_bench.score", "{}/1", 1, 0),
    ("heldout.margin", "{}", 1, 0),
    ("heldout.pair_accuracy", "{}", 1, -0.5),
)
"""Metrics, the keys of their outcomes, and what their outcomes are multiplied with and how far they are off."""


def outcomes(row: str, figures: dict[str, Metric]) -> dict[str, dict[str, float | None]]:
    """Outcomes that give the figures: half of them above the value and half below, so that the standard error is right
    too (for an even n). Every row answers prompts of its own, so that no rows are compared."""
    groups: dict[str, dict[str, float | None]] = {}
    for name, key, scale, offset in DERIVED:
        if (figure := figures.get(name)) is not None:
            apart = (figure.stderr or 0.0) * max(0, figure.n - 1) ** 0.5
            spread = [apart * (-1) ** i * (i < figure.n - figure.n % 2) for i in range(figure.n)]
            values = [((figure.value or 0.0) + x) / scale + offset if scale else offset for x in spread]
            keys = [key.format(f"{zlib.crc32(row.encode())}-{i}") for i in range(figure.n + figure.n_invalid)]
            groups[name.split(".")[0]] = dict(zip(keys, [*values, *[None] * figure.n_invalid], strict=True))
    return groups


def with_provenance(row: Entry, *without: str, **changed: Any) -> Entry:
    """The row with other provenance: fields changed or added, those in `without` left out."""
    plain = {name: value for name, value in row.provenance.plain().items() if name not in without}
    return row.model_copy(update={"provenance": Provenance(**{**plain, **changed})})


def four_rows() -> list[Entry]:
    return [
        entry("base", "base"),
        entry("dpo", "dpo_best_worst"),
        entry("dpo-adjacent", "dpo_adjacent"),
        entry("multi-dpo", "mdpo_linear"),
    ]


def seed_row(method: str, training_seed: int, metrics: dict[str, Metric], **provenance: Any) -> Entry:
    """A row of a method that was trained once a seed."""
    return entry(
        f"{method}.seed-{training_seed}", "sdpo", metrics, method_id=method, training_seed=training_seed, **provenance
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def markdown_tables(text: str) -> list[list[list[str]]]:
    """Every pipe table of a Markdown text as rows of cells, character references resolved; the rule row left out."""
    tables: list[list[list[str]]] = []
    inside = False
    for line in text.split("\n"):
        if line.startswith("|"):
            if not inside:
                tables.append([])
            cells = [html.unescape(cell.strip(" ")) for cell in line.strip("|").split("|")]
            if not all(set(cell) <= {"-", ":"} for cell in cells):
                tables[-1].append(cells)
        inside = line.startswith("|")
    return tables


def drawn(board: Path | Board, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(terminal_table(board if isinstance(board, Board) else read_board(board)))
    return console.file.getvalue()  # type: ignore[attr-defined]


# --- on disk
