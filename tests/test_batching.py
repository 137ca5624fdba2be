"""Batches: what they may hold, and that those before don't matter."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import batching, models
from harness.batching import Job, Room, batches, in_order, room_for
from harness.types import Sampling

MANY_JOBS = st.lists(
    st.builds(
        lambda length, limit, n: Job([1] * length, Sampling(max_new_tokens=limit), tuple(range(n))),
        st.integers(1, 900),
        st.integers(1, 200),
        st.integers(1, 6),
    ),
    max_size=40,
)
ROOMS = st.builds(Room, st.integers(1, 16), st.integers(100, 5000))


@given(MANY_JOBS, ROOMS)
def test_batches_hold_every_job_once_and_no_more_than_they_may(jobs: list[Job], room: Room) -> None:
    made = list(batches(in_order(jobs), room))
    assert sorted(placed.place for batch in made for placed in batch) == list(range(len(jobs)))
    for batch in made:
        assert all(job == jobs[place] for place, job in batch)
        rows = sum(len(job.samples) for _, job in batch)
        widest = max(len(job.prompt) for _, job in batch)
        assert len(batch) == 1 or rows <= room.sequences
        limit = max(job.sampling.max_new_tokens for _, job in batch)
        assert len(batch) == 1 or rows * (widest + limit) <= room.tokens
        assert all(2 * len(job.prompt) >= widest or widest - len(job.prompt) <= 64 for _, job in batch)


@given(MANY_JOBS, ROOMS, st.integers(0, 6))
def test_without_the_first_batches_the_others_stay_the_same(jobs: list[Job], room: Room, gone: int) -> None:
    """A run that was killed asks for what is missing, in the order in which it asked before."""
    made = [[place for place, _ in batch] for batch in batches(in_order(jobs), room)]
    missing = sorted(place for batch in made[gone:] for place in batch)
    again = batches(in_order([jobs[place] for place in missing]), room)
    assert [[missing[place] for place, _ in batch] for batch in again] == made[gone:]


def test_the_room_follows_from_the_model_and_the_memory(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models.load_causal_lm(str(tiny_model), dtype="float32")
    room = room_for(model, None)
    assert room == room_for(model, None)
    assert room.sequences == 64
    assert room_for(model, 3) == room._replace(sequences=3)
    # Two layers of two heads of 8 keys and values, and what a layer has at once (6 * 32 + 3 * 64), 4 bytes each.
    a_token = (2 * 2 * 2 * 8 + 6 * 32 + 3 * 64) * 4
    weights = sum(p.numel() * 4 for p in model.parameters())
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(batching, "CGROUP_LIMIT", limit)
    limit.write_text(f"{weights + 4000 * a_token}\n")
    assert room_for(model, None).tokens == 1000
    limit.write_text("max\n")
    assert room_for(model, None).tokens > 10**5
    limit.write_text("100\n")
    assert list(batches(in_order([Job([1], Sampling())] * 2), room_for(model, None))) != []
