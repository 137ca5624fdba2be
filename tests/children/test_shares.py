"""The batches of a pass are shared among its processes: each has one owner, whatever their number."""

import pytest

from harness.children.shares import gathered, own, sharing


def test_a_process_by_itself_has_all() -> None:
    assert list(own("abc")) == [("a", True), ("b", True), ("c", True)]
    assert gathered([1, 2]) == [1, 2]


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("processes", [1, 2, 3, 7])
@pytest.mark.parametrize("batches", [0, 1, 2, 5, 6])
def test_each_batch_has_one_owner(batches: int, processes: int, even: bool) -> None:
    shares = []
    for index in range(processes):
        with sharing(index, processes, even=even):
            shares.append(list(own(range(batches))))
    assert sorted(batch for share in shares for batch, counts in share if counts) == list(range(batches))
    if even:
        assert {len(share) for share in shares} == {-(-batches // processes)}
    else:
        assert all(counts for share in shares for _, counts in share)


def test_afterwards_it_has_all_again() -> None:
    with pytest.raises(RuntimeError), sharing(1, 2):
        raise RuntimeError
    assert list(own("ab")) == [("a", True), ("b", True)]
