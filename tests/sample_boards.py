"""Sample boards, and how tests read what is drawn of them."""

import html
import io
from pathlib import Path
from typing import Any

from rich.console import Console

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
    return Entry(
        id=row,
        method=method,
        metrics=figures if metrics is None else metrics,
        provenance={"judge": LOCAL, "judge_calibration": "uncalibrated", "benchmarks": BENCHMARKS, **provenance},
        outcomes={"alpaca_eval": {"q1": 0.5, "q2": None}, "mt_bench": {"81/1": 5.0}, "heldout": {"p1": -0.25}},
    )


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


def drawn(folder: Path, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(terminal_table(read_board(folder)))
    return console.file.getvalue()  # type: ignore[attr-defined]


# --- on disk
