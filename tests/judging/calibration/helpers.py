"""Pairs with recorded and measured verdicts, and folders of recorded ones."""

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.judging.calibration.figures import JudgedPair


def random_pairs(
    count: int, seed: int = 0, systems: int = 3, invalid: float = 0.0, ties: bool = True
) -> list[JudgedPair]:
    """Pairs with a judge that is right more often than not, and worse when the order is turned."""
    rng = random.Random(seed)

    def said(won: float) -> float | None:
        if rng.random() < invalid:
            return None
        return 0.5 if ties and rng.random() < 0.05 else min(1.0, max(0.0, won + rng.gauss(0, 0.6)))

    pairs = []
    for i in range(count):
        won = rng.choice([0.02, 0.3, 0.9, 0.99, 0.5 if ties else 0.1])
        lengths = rng.randint(1, 900), rng.randint(1, 900)
        pairs.append(JudgedPair(f"s{i % systems}", f"q{i // 2}", won, said(won), said(won), *lengths))
    return pairs


def rates(pairs: list[JudgedPair]) -> dict[str, float]:
    return {s: 100 * float(np.mean([p.won for p in pairs if p.system == s])) for s in {p.system for p in pairs}}


def row(i: int, system: str, preference: Any, **fields: Any) -> dict[str, Any]:
    texts = {"instruction": f"Do {i}.", "output_1": "r" * (i % 7 + 3), "output_2": f"{system} says {'o' * (i % 11)}"}
    return {**texts, "generator_2": system, "annotator": "them", "preference": preference, **fields}


def recorded_folder(parent: Path, verdicts: Mapping[str, Callable[[int], float]], count: int = 30) -> Path:
    folder = parent / "recorded"
    for system, verdict in verdicts.items():
        (folder / system).mkdir(parents=True)
        rows = [row(i, system, verdict(i)) for i in range(count)]
        (folder / system / "annotations.json").write_text(json.dumps(rows))
    return folder
