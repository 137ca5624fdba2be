"""Tiny models train fastest on one thread: what two would share is smaller than what it costs to share it."""

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.training.runs")


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
