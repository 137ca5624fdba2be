"""Whether training has taught anything: held-out pairs against chance, in words."""

import pytest

from harness.boards.entry import Entry
from harness.claims.answer import answer
from harness.stats.intervals import accuracy_metric

ACCURACY = "heldout.pair_accuracy"


def trained(method: str, right: int, of: int, seed: int = 0) -> Entry:
    """A row that orders so many held-out pairs rightly."""
    outcomes = [float(i < right) for i in range(of)]
    return Entry(
        id=f"{method}.seed-{seed}",
        method="dpo_adjacent",
        metrics={ACCURACY: accuracy_metric(outcomes)},
        provenance={"method_id": method, "training_seed": seed, "recipe": {"name": "r", "methods": [{"id": "dpo"}]}},
        outcomes={"heldout": {f"q{i}": outcome for i, outcome in enumerate(outcomes)}},
    )


def told(*rows: Entry) -> str:
    found = answer(rows)
    assert found is not None
    return next(line for line in found.cautions if line.startswith("Held-out pairs in the right order"))


def test_one_row_each_is_told_with_its_interval() -> None:
    text = told(trained("dpo", 7, 12), trained("ipo", 12, 12))
    assert "of which chance and the base have 50 %: dpo 58.3 % (95 % CI 27.7 to 84.8), not significant; ipo" in text
    assert text.endswith("ipo 100.0 % (95 % CI 73.5 to 100.0), significantly more.")


@pytest.mark.parametrize(
    ("right", "said"),
    [
        ((31, 30), "50.0 to 51.7 % in 2 rows, none significantly more"),
        ((50, 31), "51.7 to 83.3 % in 2 rows, 1 significantly more"),
        ((50, 9), "15.0 to 83.3 % in 2 rows, 1 significantly more and 1 significantly fewer"),
    ],
)
def test_several_seeds_are_a_range(right: tuple[int, int], said: str) -> None:
    rows = [trained("dpo", count, 60, seed) for seed, count in enumerate(right)]
    assert f"dpo {said};" in told(*rows, trained("ipo", 30, 60), trained("ipo", 30, 60, 1))


def test_five_methods_are_too_many_to_tell() -> None:
    found = answer([trained(f"m{i}", 30 + i, 60) for i in range(5)])
    assert found is not None
    assert not any(line.startswith("Held-out pairs") for line in found.cautions)
