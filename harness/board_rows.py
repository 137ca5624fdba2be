"""A board's rows: what an entry file holds, which rows may stand in one table, and how a figure is written."""

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import Field

from harness.paired import Comparison
from harness.types import Metric, Record


class Row(Record):
    """A row as `board.json` shows it. `method` is the loss's name (`trl:...` for TRL's), `sft` for a policy that was
    only fine-tuned, or `base` for the untrained one.

    `provenance` is the caller's. What the drawing reads of it: `judge` and `benchmarks` (identities; they decide which
    rows share a table), `judge_calibration` (text; absent or `uncalibrated`: not calibrated), `data` (what each
    data stage reports: counts, and `reward.heldout_accuracy`, a Metric), `training` (`steps`, `tokens`, `first_loss`,
    `last_loss`, `warnings`, `stopped`; `match`, `budget`, `used` where it was given the budget of row `match_to`),
    `sft` (`row`: the fine-tuned one that it was trained from), `seed`, `method_id` and `training_seed` (where it
    was trained once a seed), `reconstruction` (text). All of it may be absent.
    """

    id: str = Field(min_length=1)
    method: str
    metrics: dict[str, Metric] = Field(default_factory=dict)
    provenance: dict[str, Any] = Field(default_factory=dict)

    def section(self, name: str) -> Mapping[str, Any]:
        """A part of the provenance that is a mapping; empty where it is absent or something else."""
        found = self.provenance.get(name)
        return found if isinstance(found, Mapping) else {}


class Entry(Row):
    """A row as its own file holds it. `outcomes`: metric group -> prompt -> value, None where it was not scored
    (`alpaca_eval`: by question id; `mt_bench`: by `question id/turn`; `heldout`: by pair id, the margin), so that rows
    can be compared, merged and gated without the store."""

    outcomes: dict[str, dict[str, float | None]] = Field(default_factory=dict)
    resamples: dict[str, list[float]] = Field(default_factory=dict)
    """Figures that are no means over prompts (the length-controlled win rate), in bootstrap resamples that are the same
    for all rows of the same prompts: differences of two rows' are those of a paired bootstrap."""


class Board(Record):
    """A board that was read. `generated`: when it was written (UTC, ISO 8601); None for a bare folder of entries.
    `comparisons`: of pairs of rows, by metric; of many rows only some, and none for a bare folder."""

    name: str
    generated: str | None
    entries: tuple[Entry, ...]
    comparisons: dict[str, tuple[Comparison, ...]] = Field(default_factory=dict)


class Column(NamedTuple):
    """A metric's place on the board. `short` is its title in the terminal; `decimals` are those that tables show (CSV
    and JSON hold them all)."""

    metric: str
    group: str
    title: str
    short: str
    decimals: int
    unit: str = ""


COLUMNS = (
    Column("alpaca_eval.win_rate", "AlpacaEval", "win rate", "win %", 1, "%"),
    Column("alpaca_eval.lc_win_rate", "AlpacaEval", "LC win rate", "LC win %", 1, "%"),
    Column("alpaca_eval.avg_length", "AlpacaEval", "average length", "length", 0, "characters"),
    Column("mt_bench.score", "MT-bench", "score", "score", 2),
    Column("mt_bench.turn_1", "MT-bench", "turn 1", "turn 1", 2),
    Column("mt_bench.turn_2", "MT-bench", "turn 2", "turn 2", 2),
    Column("heldout.pair_accuracy", "Held-out", "pair accuracy", "pair acc.", 3),
    Column("heldout.kendall_tau", "Held-out", "Kendall tau", "tau", 3),
    Column("heldout.margin", "Held-out", "margin", "margin", 4),
)
"""The board's own table."""

CATEGORIES = tuple(
    Column(f"mt_bench.{name}", "MT-bench", name, name, 2)
    for name in ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
)
DETAILS = (
    Column("alpaca_eval.wins", "AlpacaEval", "wins", "wins", 0),
    Column("alpaca_eval.draws", "AlpacaEval", "draws", "draws", 0),
    Column("alpaca_eval.losses", "AlpacaEval", "losses", "losses", 0),
    Column("alpaca_eval.discrete_win_rate", "AlpacaEval", "discrete win rate", "discrete %", 1, "%"),
    Column(
        "alpaca_eval.lc_standard_error",
        "AlpacaEval",
        "spread of the LC regression's probabilities (the package's lc_standard_error)",
        "LC spread",
        2,
    ),
    Column("alpaca_eval.from_text", "AlpacaEval", "verdicts by text alone, without weights", "by text", 0),
    Column("alpaca_eval.truncated", "AlpacaEval", "answers cut at the token limit", "cut %", 1, "%"),
)


def further_columns(entries: Iterable[Row]) -> tuple[Column, ...]:
    """DETAILS, then the metrics that this module has no place for, by name."""
    known = {column.metric for column in (*COLUMNS, *CATEGORIES, *DETAILS)}
    names = sorted({name for entry in entries for name in entry.metrics} - known)
    return (*DETAILS, *(Column(name, "", name, name, 4) for name in names))


def present(columns: Iterable[Column], entries: Sequence[Row]) -> list[Column]:
    """The columns that at least one row has a metric for, in their order."""
    return [column for column in columns if any(column.metric in entry.metrics for entry in entries)]


def comparable(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Rows by what they may be ranked against: one list for each judge, benchmarks and held-out pairs, in order of
    first appearance. A row without held-out outcomes, or of a sweep, stands with the first that its judge and
    benchmarks fit."""
    groups: list[tuple[str, set[str], list[Entry]]] = []
    for entry in entries:
        asked = measured_by(entry)
        # A sweep over seed sets is one table: its held-out figures are of each row's own pairs, and its notes say so.
        pairs = set() if entry.section("sweep") else set(entry.outcomes.get("heldout", {}))
        for key, seen, rows in groups:
            if key == asked and (not seen or not pairs or seen == pairs):
                seen |= pairs
                rows.append(entry)
                break
        else:
            groups.append((asked, pairs, [entry]))
    return [rows for _, _, rows in groups]


def measured_by(entry: Row) -> str:
    """What a row's figures were measured by: judge, benchmarks, and whose answers AlpacaEval's were compared with."""
    reference = entry.section("references").get("alpaca_eval")
    return json.dumps([entry.provenance.get("judge"), entry.provenance.get("benchmarks"), reference], sort_keys=True)


def visible(text: str) -> str:
    """The text with its control characters (terminal escapes among them) as their pictures, U+2400 and on."""
    return "".join(_picture(c) if unicodedata.category(c) == "Cc" else c for c in text)


def _picture(control: str) -> str:
    code = ord(control)
    return (
        chr(0x2400 + code) if code < 0x20 else "\N{SYMBOL FOR DELETE}" if code == 0x7F else "\N{REPLACEMENT CHARACTER}"
    )


def number(value: float, decimals: int) -> str:
    """A number with fixed decimals and no negative zero."""
    return f"{round(value, decimals) + 0.0:.{decimals}f}"


def figure(metric: Metric, decimals: int) -> str:
    """`53.1 [48.0, 58.2]`; without the interval where there is none; what was not scored is counted."""
    if metric.value is None:
        return missing(metric)
    if metric.ci95 is None:
        return number(metric.value, decimals)
    low, high = (number(bound, decimals) for bound in metric.ci95)
    return f"{number(metric.value, decimals)} [{low}, {high}]"


def missing(metric: Metric) -> str:
    """Why a metric has no value: there was nothing to score, nothing was scored, or what was did not suffice."""
    if not metric.n and not metric.n_invalid:
        return "–"
    return f"not computable (n={metric.n})" if metric.n else f"not scored (n_invalid={metric.n_invalid})"


def counts(metric: Metric) -> str:
    """`n=30`, or `n=28, 2 invalid`."""
    return f"n={metric.n}" + (f", {metric.n_invalid} invalid" if metric.n_invalid else "")


def common_counts(column: Column, entries: Iterable[Row]) -> str | None:
    """The counts that all rows with a value share: they go into the column's head. None where they differ. A row
    without a value says its own in its cell."""
    metrics = [entry.metrics[column.metric] for entry in entries if column.metric in entry.metrics]
    shown = {counts(metric) for metric in metrics if metric.value is not None}
    return shown.pop() if len(shown) == 1 else None


def troubles(entry: Row) -> list[str]:
    """What a row's training says went wrong: why it stopped early, and its failure signatures."""
    training = entry.section("training")
    signs = training.get("warnings")
    stopped = training.get("stopped")
    return [str(s) for s in [*([stopped] if stopped else []), *(signs if isinstance(signs, list | tuple) else [])]]


def doubts(entry: Row) -> list[str]:
    """The validity guards that fired for a row (see `harness.guards`), in words."""
    found = []
    for place, flags in entry.section("guards").items():
        texts = [str(f["text"]) for f in flags if isinstance(f, Mapping) and "text" in f] if flags else []
        found += [text if place == "row" else f"{place}: {text}" for text in texts]
    return found


NAMED = 8
"""Rows that are named one by one; of more it is said how many they are."""


def whose_doubts(entries: Iterable[Row]) -> list[tuple[str, str]]:
    """(rows, what makes their figures doubtful), what is said of several rows once."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        for doubt in doubts(entry):
            found.setdefault(doubt, []).append(entry.id)
    return [(", ".join(ids) if len(ids) <= NAMED else f"{len(ids)} rows", doubt) for doubt, ids in found.items()]


def is_calibrated(entry: Row) -> bool:
    """Whether the row's judge has a calibration on record; a row that was not judged has nothing to calibrate."""
    calibration = entry.provenance.get("judge_calibration")
    return not entry.section("judge") or calibration not in (None, "", "uncalibrated")


def judge_name(entry: Row) -> str:
    """`local smollm2-135m-instruct`: the judge's component and model, as the identity names them; empty if unjudged."""
    judge = entry.section("judge")
    model = judge.get("model")
    if isinstance(model, Mapping):
        model = model.get("model")
    return " ".join(str(part) for part in (judge.get("name"), model) if part)


UNPAIRED = (
    "Each interval is about its own row: whether two rows differ is in the paired comparisons, and overlapping "
    "intervals say nothing about it."
)
