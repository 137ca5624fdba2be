"""How often prediction-powered intervals are right on recorded verdicts, and how much narrower they are than labels'.

Recorded verdicts of AlpacaEval's official judge stand for people's: random parts of 40, 80 and 160 prompts are labels.
The judges that they correct are `features`, which counts properties of a text; the official verdicts on another system;
and the official verdicts themselves, of which a share is exchanged at random. The whole is drawn anew with replacement
(`population`), or is the recorded prompts (`these`), whose mean is then the truth.

    python -m tests.judging.gold.coverage --recorded FOLDER [--samples 300]
"""

import argparse
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from harness.components import build
from harness.judging.calibration.sample import RecordedVerdicts, read_recorded
from harness.stats.ppi import corrected_rate
from harness.types import Candidates, JudgeRequest, Message

SIZES = (40, 80, 160)
LIMITS = (0.0, 100.0)
KEPT = (0.6, 0.8, 0.95)
Verdicts = dict[str, float]


def judges(recorded: RecordedVerdicts) -> Iterator[tuple[str, str, list[float], list[float]]]:
    """(system, judge, the judge's verdicts in percent, the official ones)."""
    official = {s: {p.pair.question_id: 100 * p.won for p in pairs} for s, pairs in recorded.systems.items()}
    features = build("judge", {"name": "reward_model", "reward": {"name": "features", "weights": "gpt4_turbo"}})
    systems = list(recorded.systems)
    for i, system in enumerate(systems):
        gold = official[system]
        requests = [
            JudgeRequest(
                messages=(Message(role="user", content="?"),),
                choices=("m", "M"),
                candidates=Candidates(
                    messages=(Message(role="user", content=p.pair.instruction),),
                    answers=(p.pair.reference, p.pair.output),
                ),
            )
            for p in recorded.systems[system]
        ]
        replies = features.reply(requests)  # type: ignore[attr-defined]
        yield system, "features", [100 * math.exp(r.logprobs["M"]) for r in replies], list(gold.values())
        other = official[systems[i - 1]]
        both = [key for key in gold if key in other]
        yield system, "another system's", [other[key] for key in both], [gold[key] for key in both]
        for kept in KEPT:
            rng, values = random.Random(0), list(gold.values())
            yield system, f"{kept:.0%} kept", [y if rng.random() < kept else rng.choice(values) for y in values], values


def measured(judge: list[float], gold: list[float], size: int, samples: int, population: bool) -> dict[str, float]:
    """Shares of intervals that cover the truth, and their mean widths: with the judge, and by labels alone."""
    rng, truth, n = random.Random(size), fmean(gold), len(gold)
    covered, widths, used, worth = [0, 0], [0.0, 0.0], 0, 0.0
    for _ in range(samples):
        drawn = rng.choices(range(n), k=n) if population else range(n)
        labelled = set(rng.sample(range(n), size))
        labels = [gold[j] if i in labelled else None for i, j in enumerate(drawn)]
        result = corrected_rate([judge[j] for j in drawn], labels, LIMITS)
        used, worth = used + (result.corrected is not None), worth + result.worth
        for k, estimate in enumerate((result.best, result.labelled)):
            interval = estimate.ci95 if population else estimate.ci95_here
            assert interval is not None
            covered[k] += interval[0] <= truth <= interval[1]
            widths[k] += interval[1] - interval[0]
    return {
        "covers": covered[0] / samples,
        "labels_cover": covered[1] / samples,
        "width": widths[0] / samples,
        "width_to_labels": widths[0] / widths[1],
        "used": used / samples,
        "worth": worth / samples,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recorded", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=300)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for system, judge, f, gold in judges(read_recorded([options.recorded])):
        for size in SIZES:
            for whole in ("population", "these"):
                found = measured(f, gold, size, options.samples, whole == "population")
                about = {
                    "system": system,
                    "rate": round(fmean(gold), 1),
                    "judge": judge,
                    "whole": whole,
                    "labels": size,
                }
                about["correlation"] = round(correlation(f, gold), 2)
                rows.append({**about, **{name: round(value, 3) for name, value in found.items()}})
                print(json.dumps(rows[-1]), flush=True)
    for name in ("population", "these"):
        for size in SIZES:
            cells = [row for row in rows if row["whole"] == name and row["labels"] == size]
            strong = [row for row in cells if row["correlation"] > 0.5]
            covers = [row["covers"] for row in cells]
            print(
                f"{name}, {size} labels: cover {fmean(covers):.1%} ({min(covers):.1%} to {max(covers):.1%}); where the "
                f"correlation is over 0.5, {fmean(row['width_to_labels'] for row in strong):.2f} of the labels' width "
                f"(at most {max(row['width_to_labels'] for row in strong):.2f})"
            )


def correlation(first: list[float], second: list[float]) -> float:
    """Pearson's."""
    one, other = fmean(first), fmean(second)
    products = math.fsum((x - one) * (y - other) for x, y in zip(first, second, strict=True))
    squares = math.fsum((x - one) ** 2 for x in first) * math.fsum((y - other) ** 2 for y in second)
    return products / math.sqrt(squares)


if __name__ == "__main__":
    main()
