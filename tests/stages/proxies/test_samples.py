"""Best of n by a proxy against the known truth: by enumeration, and where both are one or opposite."""

import itertools
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.stages.proxies.answers import standardised
from harness.stages.proxies.samples import best_of


def golds(rows: list[dict[str, Any]]) -> list[float]:
    return [row["gold"]["value"] for row in rows]


def enumerated(proxy: list[float], gold: list[float], n: int) -> float:
    """Over all subsets of n responses; of those that the proxy likes best, each equally often."""
    found = []
    for chosen in itertools.combinations(range(len(proxy)), n):
        top = max(proxy[i] for i in chosen)
        found.append(fmean(gold[i] for i in chosen if proxy[i] == top))
    return fmean(found)


small = st.integers(-3, 3).map(float)


@given(
    st.integers(2, 5).flatmap(
        lambda n: st.lists(st.lists(st.tuples(small, small), min_size=n, max_size=n), min_size=1, max_size=3)
    )
)
def test_it_is_the_mean_over_all_draws(prompts: list[list[tuple[float, float]]]) -> None:
    proxies, truths = ([[pair[k] for pair in prompt] for prompt in prompts] for k in (0, 1))
    rows = best_of(proxies, truths)
    for row in rows:
        of_each = [enumerated(p, g, row["n"]) for p, g in zip(proxies, truths, strict=True)]
        assert row["gold"]["value"] == pytest.approx(fmean(of_each))
        ceiling = [enumerated(g, g, row["n"]) for g in truths]
        assert row["ceiling"] == pytest.approx(fmean(ceiling))


def test_the_truth_itself_reaches_the_ceiling_and_its_opposite_the_floor() -> None:
    truths: list[list[float | None]] = [[0.0, 1.0, 4.0], [2.0, 5.0, 3.0]]
    itself = best_of(truths, truths)
    assert golds(itself) == pytest.approx([row["ceiling"] for row in itself])
    opposite = best_of([[-(s or 0.0) for s in group] for group in truths], truths)
    assert golds(opposite)[-1] == pytest.approx(1.0)
    assert golds(opposite) == sorted(golds(opposite), reverse=True)
    assert [row["kl"] for row in itself] == pytest.approx([0.0, 0.193147, 0.431945], abs=1e-6)


def test_prompts_without_all_scores_are_left_out() -> None:
    truths: list[list[float | None]] = [[0.0, 1.0], [5.0, None], [7.0]]
    rows = best_of([[1.0, 0.0], [1.0, 2.0], [1.0]], truths)
    assert (golds(rows), rows[0]["gold"]["n"]) == ([0.5, 0.0], 1)
    assert best_of([[None, 1.0]], [[1.0, 2.0]]) == []
    assert best_of([[1.0]], [[1.0]]) == []


def test_scores_from_base_in_its_standard_deviations() -> None:
    base: dict[str, float | None] = {"a": 1.0, "b": 3.0, "c": None}
    found = standardised({"a": 4.0, "b": None}, base)
    assert found == {"a": pytest.approx(2 / 2**0.5), "b": None}
    assert standardised({"a": 4.0}, {"a": 1.0, "b": 1.0}) == {"a": None}
    assert standardised({"a": 4.0}, {"a": 1.0}) == {"a": None}
