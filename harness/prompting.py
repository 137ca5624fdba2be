"""Which seed prompts a generator of prompts is shown."""

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from harness.prompt_filters import user_text
from harness.types import PreferencePair

ShotSampling = Literal["uniform", "by_category"]


def choose_shots(
    pairs: Sequence[PreferencePair], shots: int, longest: int, rng: random.Random, how: ShotSampling = "uniform"
) -> list[PreferencePair]:
    """`shots` seed rows at random, among those whose request has at most `longest` characters (a request that the
    generator would have no room to write is no example for it); the shortest ones where there are too few.
    `by_category`: as many of each category as can be, so that rare ones are shown as often."""
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
    taken: list[PreferencePair] = []
    while len(taken) < shots:
        taken += [groups[name].pop() for name in order if groups[name]]
    return rng.sample(taken[:shots], shots)
