"""What decides a row's figures: two rows of the same substance are one row, on whatever boards they are."""

from typing import Any

from harness.boards.entry import Entry, who_judged

_ASKED = ("answers/", "verdicts/")
_TRAINED = ("train/", "heldout/", *_ASKED)
"""How the ids of the stages begin that a row without and with a training has to itself. A stage's key stands for
everything that it was computed from."""


def substance(entry: Entry) -> dict[str, Any]:
    """What decides a row's figures, and the figures, part by part. It has neither the row's id, nor its recipe: an
    untrained row is the same whatever a recipe trains, and a recipe's name decides nothing."""
    about = entry.provenance
    stages = _ASKED if about.training is None else _TRAINED
    return {
        "method": entry.method,
        "policy": about.policy,
        "training seed": about.training_seed,
        "judge": who_judged(about.judge),
        "benchmarks": about.benchmarks,
        "reference answers": about.references,
        "stages": sorted(key for name, key in about.keys.items() if name.startswith(stages)),
        "held-out pairs": sorted(entry.outcomes.get("heldout", ())),
        "outcomes": entry.outcomes,
        "figures": entry.metrics,
    }


def differing(one: Entry, other: Entry) -> list[str]:
    """The parts in which two rows differ; empty where they are the same row."""
    ours, theirs = substance(one), substance(other)
    return [part for part in ours if ours[part] != theirs[part]]
