"""The order of examples: Trainer's own, by seed and epoch, and full batches for every process."""

from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from harness.training.ranked.order import EpochOrder


def test_it_is_the_order_that_accelerate_gives_a_random_sampler() -> None:
    from accelerate.data_loader import prepare_data_loader

    theirs = prepare_data_loader(
        DataLoader(list(range(23)), batch_size=4, shuffle=True), use_seedable_sampler=True, data_seed=11
    )
    ours = EpochOrder(23, 11)
    for epoch in (0, 1, 5):
        theirs.set_epoch(epoch)
        ours.set_epoch(epoch)
        assert [i for batch in theirs for i in batch.tolist()] == list(ours)


@given(st.integers(1, 50), st.integers(0, 100), st.integers(1, 8), st.integers(0, 3))
def test_each_example_once_then_stand_ins(size: int, seed: int, multiple: int, epoch: int) -> None:
    order = EpochOrder(size, seed, multiple)
    order.set_epoch(epoch)
    positions = list(order)
    assert sorted(positions[:size]) == list(range(size))
    assert set(positions[size:]) <= {size}
    assert len(positions) == len(order)
    assert len(positions) % multiple == 0
    assert len(positions) - size < multiple
