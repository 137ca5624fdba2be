"""A board's rows: what an entry file holds, and which rows may stand in one table."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field, field_serializer

from harness.boards.provenance import Provenance
from harness.figures import Figure
from harness.types import Metric, Record


class BoardRow(Record):
    """A row as `board.json` shows it. `method`: the loss's name (`trl:...` for TRL's losses), `sft` for a policy that
    was only fine-tuned, `system` for answers from a file, `public` for a row of a public leaderboard, `reported`
    for one that was measured elsewhere, or `base` for the untrained policy."""

    id: str = Field(min_length=1)
    method: str
    metrics: dict[str, Metric] = Field(default_factory=dict)
    provenance: Provenance = Provenance()

    def value(self, metric: str) -> float | None:
        """A metric's value; None where the row does not have it or it was not scored."""
        return self.metrics[metric].value if metric in self.metrics else None

    @field_serializer("provenance")
    def _as_read(self, provenance: Provenance) -> dict[str, Any]:
        return provenance.plain()


class Entry(BoardRow):
    """A row as its own file holds it, complete enough to be compared, merged and gated without the store.

    `outcomes`: benchmark -> question id (with `/turn` where there are turns) -> value, None where it was not scored;
    under `heldout`, pair id -> margin."""

    outcomes: dict[str, dict[str, float | None]] = Field(default_factory=dict)
    figures: tuple[Figure, ...] = ()
    """The figures that the row's benchmarks declare, so that a board can be drawn where they are not installed."""
    resamples: dict[str, list[float]] = Field(default_factory=dict)
    """Bootstrap resamples of figures that are not means over prompts, such as the length-controlled win rate. All rows
    on the same prompts use the same resamples, so that their differences are those of a paired bootstrap."""
    strata: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Benchmark -> prompt -> category, for benchmarks that ask a fixed number of prompts of each category."""


def stands_for_its_method(entry: BoardRow) -> bool:
    """Whether a row is compared with others: that of a training's last checkpoint, or the one that was chosen on other
    prompts; of several rounds, of the last one. The best of several would be a choice by the prompts that it is then
    praised for."""
    about = entry.provenance
    if about.round is not None and not about.round.is_last:
        return False
    return about.selection.is_chosen if about.selection is not None else about.checkpoint is None


def comparable(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Groups of rows that may be ranked against each other: same judge, same benchmarks and same held-out pairs, in
    order of first appearance. A row of a sweep, or one without held-out outcomes, joins the first group with its judge
    and benchmarks. Of the checkpoints of a training only one row is here (`stands_for_its_method`)."""
    groups: list[tuple[str, set[str], list[Entry]]] = []
    for entry in entries:
        if not stands_for_its_method(entry):
            continue
        measures = measured_by(entry)
        # A sweep over seed sets is one table: each row's held-out figures use its own pairs, and a note says so.
        pairs = set() if entry.provenance.sweep else set(entry.outcomes.get("heldout", {}))
        for key, group_pairs, rows in groups:
            if key == measures and (not group_pairs or not pairs or group_pairs == pairs):
                group_pairs |= pairs
                rows.append(entry)
                break
        else:
            groups.append((measures, pairs, [entry]))
    return [rows for _, _, rows in groups]


def who_judged(judge: Any) -> Any:
    """A judge's identity without where it was asked, which older boards have in it: that is no part of who it is."""
    if isinstance(judge, Mapping):
        return {name: who_judged(value) for name, value in judge.items() if name not in ("base_url", "address_sha256")}
    return [who_judged(one) for one in judge] if isinstance(judge, list) else judge


def measured_by(entry: BoardRow) -> str:
    """What a row was measured with, as a key: judge, benchmarks, and the reference answers."""
    about = entry.provenance
    return json.dumps([who_judged(about.judge), about.benchmarks or None, about.references or None], sort_keys=True)
