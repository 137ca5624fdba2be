"""The chart of the best of n: what the known truth says of the response that the ranking likes best, against how far
such a policy is from the one that wrote the responses."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.boards.entry import Entry
from harness.boards.format import with_interval
from harness.report.notes import stage_reports
from harness.report.page.looks import Look
from harness.report.page.plane import Plane, Series, plane
from harness.types import Metric

CHOSEN, CEILING = Look("k0", "dot"), Look("base", "dot")
STAGE = "best_of_n"


def best_of_charts(entries: Sequence[Entry]) -> list[Plane]:
    """A chart for each ranking of which the board knows the truth."""
    reports = [report.get(STAGE) for report, _ in stage_reports(entries, STAGE)]
    return [_chart(rows) for rows in reports if isinstance(rows, list) and len(rows) > 1]


def _chart(rows: Sequence[Mapping[str, Any]]) -> Plane:
    golds = [(row["n"], float(row["kl"]), Metric.model_validate(row["gold"])) for row in rows]
    known = [(n, kl, gold, gold.value) for n, kl, gold in golds if gold.value is not None]
    texts = "; ".join(f"n {n} {with_interval(gold, 3)}" for n, _, gold, _ in known)
    chosen = Series(
        "by the ranking",
        CHOSEN,
        tuple((kl, value) for _, kl, _, value in known),
        f"best by the ranking: {texts}",
        joined=True,
        intervals=tuple(gold.ci95 for _, _, gold, _ in known),
    )
    ceilings = "; ".join(f"n {row['n']} {row['ceiling']:.3f}" for row in rows)
    points = tuple((float(row["kl"]), float(row["ceiling"])) for row in rows)
    ceiling = Series("by gold itself", CEILING, points, f"best by gold itself: {ceilings}", joined=True)
    counts = ", ".join(str(row["n"]) for row in rows)
    return plane(
        "Gold score of the best of n",
        "upper bound on the divergence from the policy that wrote the responses, nats",
        "gold score of the best response",
        [ceiling, chosen],
        [("best by the ranking", CHOSEN), ("best by gold itself", CEILING)],
        f"From left to right the best of {counts} responses, with 95 % CI.",
    )
