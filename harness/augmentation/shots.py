"""Choosing the seed prompts that a generator of new prompts is shown."""

import random
from collections import defaultdict
from collections.abc import Sequence

from harness.augmentation.filters import user_text
from harness.recipe.data import ShotSampling
from harness.types import PreferencePair


def choose_shots(
    pairs: Sequence[PreferencePair], shots: int, longest: int, rng: random.Random, how: ShotSampling = "uniform"
) -> list[PreferencePair]:
    """`shots` random seed rows whose request has at most `longest` characters (a longer one would not fit into the
    generator's output, and so is no good example); if there are too few, the shortest ones. `by_category`: as evenly
    over categories as possible, so that rare ones are shown as often."""
    fitting = [p for p in pairs if len(user_text(p.messages)) <= longest]
    if len(fitting) < shots:
        fitting = sorted(pairs, key=lambda p: (len(user_text(p.messages)), p.id))[:shots]
    shots = min(shots, len(fitting))
    if how == "uniform":
        return rng.sample(fitting, shots)
    groups: dict[str, list[PreferencePair]] = defaultdict(list)
    for pair in rng.sample(fitting, len(fitting)):
        groups[pair.category or ""].append(pair)
    order = rng.sample(sorted(groups), len(groups))
    chosen: list[PreferencePair] = []
    while len(chosen) < shots:
        chosen += [groups[name].pop() for name in order if groups[name]]
    return rng.sample(chosen[:shots], shots)
