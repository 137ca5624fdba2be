"""Pairs of a ranked prompt's responses, for trainers that learn from pairs."""

from collections.abc import Sequence
from typing import Literal

PairSelection = Literal["best_worst", "best_rest", "adjacent", "all_pairs"]
"""Which pairs are formed from a prompt's ranked responses: those used by the harness's loss `dpo_<pairing>`."""


def ranked_pairs(scores: Sequence[float], pairing: PairSelection) -> list[tuple[int, int]]:
    """Indices (better, worse) of the responses of each pair. The scores of a pair differ strictly, and tied responses
    are interchangeable, so these are the pairs used by the harness's loss `dpo_<pairing>`."""
    levels = sorted(set(scores), reverse=True)
    level = [levels.index(score) for score in scores]
    last = len(levels) - 1

    def is_in_pairing(better: int, worse: int) -> bool:
        match pairing:
            case "best_worst":
                return better == 0 and worse == last
            case "best_rest":
                return better == 0
            case "adjacent":
                return worse == better + 1
            case "all_pairs":
                return True

    return [(i, j) for i, a in enumerate(level) for j, b in enumerate(level) if a < b and is_in_pairing(a, b)]
