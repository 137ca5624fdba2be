"""Boards whose truth is known, on the way of real ones: a small `tests.perf.claims`, which has many more."""

import pytest

from tests.perf.claims import KINDS, Setting, false_passes, rates


@pytest.mark.parametrize(
    "setting",
    [Setting(1.2, 3, 20, True), Setting(2.3, 5, 80, False), Setting(0.0, 2, 80, True)],
    ids=["three seeds", "ties", "two seeds"],
)
def test_where_methods_are_equal_no_more_than_one_in_twenty_boards_claims_a_difference(setting: Setting) -> None:
    found = rates(setting, 80)
    assert found.false_positive <= 0.1
    assert found.coverage >= 0.9
    assert found.power_gap <= 0.15
    assert found.stderr_gap <= 0.25


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [10, 44, 150])
def test_a_row_that_is_worse_by_the_margin_hardly_ever_passes(kind: str, n: int) -> None:
    assert false_passes(kind, n, 100) <= 0.11
