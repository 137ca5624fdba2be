"""Batches: what they may hold, and that those before don't matter."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.models import batching
from harness.models import load as models
from harness.models.batching import BatchLimits, Job, batch_limits, batches, longest_first, prefill_groups
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
LIMITS = st.builds(BatchLimits, st.integers(1, 16), st.integers(100, 5000), st.integers(0, 4000))


@given(MANY_JOBS, LIMITS)
def test_batches_hold_every_job_once_and_no_more_than_they_may(jobs: list[Job], limits: BatchLimits) -> None:
    made = list(batches(longest_first(jobs), limits))
    assert sorted(indexed.request for batch in made for indexed in batch) == list(range(len(jobs)))
    for batch in made:
        assert all(job == jobs[place] for place, job in batch)
        rows = sum(len(job.samples) for _, job in batch)
        widest = max(len(job.prompt) for _, job in batch)
        assert len(batch) == 1 or rows <= limits.sequences
        limit = max(job.sampling.max_new_tokens for _, job in batch)
        assert len(batch) == 1 or rows * (widest + limit) <= limits.tokens
        for i, (_, job) in enumerate(batch):
            assert (widest - len(job.prompt)) * sum(len(j.samples) for _, j in batch[i:]) <= limits.padding


@given(MANY_JOBS, LIMITS, st.integers(0, 6))
def test_without_the_first_batches_the_others_stay_the_same(jobs: list[Job], limits: BatchLimits, gone: int) -> None:
    """A run that was killed asks for what is missing, in the order in which it asked before."""
    made = [[place for place, _ in batch] for batch in batches(longest_first(jobs), limits)]
    missing = sorted(place for batch in made[gone:] for place in batch)
    again = batches(longest_first([jobs[place] for place in missing]), limits)
    assert [[missing[place] for place, _ in batch] for batch in again] == made[gone:]


def test_one_long_prompt_does_not_make_the_others_wide() -> None:
    limits = BatchLimits(64, 10**6, 10_000)
    jobs = longest_first([Job([1] * n, Sampling()) for n in (2000, *[50] * 63)])
    assert [len(batch) for batch in batches(jobs, limits)] == [1, 63]
    jobs = longest_first([Job([1] * n, Sampling()) for n in (150, *[50] * 63)])
    assert [len(batch) for batch in batches(jobs, limits)] == [64]
    jobs = longest_first([Job([1] * n, Sampling()) for n in (2000, *[50] * 3)])
    assert [len(batch) for batch in batches(jobs, limits)] == [4]


@given(st.lists(st.integers(1, 3000), max_size=100))
def test_prompts_that_are_read_together_are_alike(lengths: list[int]) -> None:
    lengths.sort(reverse=True)
    sizes = prefill_groups(lengths)
    assert sum(sizes) == len(lengths)
    left = iter(lengths)
    for size in sizes:
        group = [next(left) for _ in range(size)]
        assert size == 1 or max(group) * size <= sum(group) / 0.8 + 64


def test_the_room_follows_from_the_model_and_the_memory(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models.load_causal_lm(str(tiny_model), dtype="float32")
    limits = batch_limits(model, None)
    assert limits == batch_limits(model, None)
    assert limits.sequences == 64
    assert batch_limits(model, 3) == limits._replace(sequences=3)
    assert limits.padding == sum(p.numel() for p in model.parameters()) // (2 * 2 * 2 * 8)
    # Two layers of two heads of 8 keys and values, and what a layer has at once (6 * 32 + 3 * 64), 4 bytes each.
    a_token = (2 * 2 * 2 * 8 + 6 * 32 + 3 * 64) * 4
    weights = sum(p.numel() * 4 for p in model.parameters())
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(batching, "CGROUP_LIMIT", limit)
    limit.write_text(f"{weights + 4000 * a_token}\n")
    assert batch_limits(model, None).tokens == 1000
    limit.write_text("max\n")
    assert batch_limits(model, None).tokens > 10**5
    limit.write_text("100\n")
    assert list(batches(longest_first([Job([1], Sampling())] * 2), batch_limits(model, None))) != []
