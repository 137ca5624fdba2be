"""Decoding in slots: rows come and go, on one or two workers, and nothing of that changes a sample."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.errors import ModelError
from harness.models import chat
from harness.models import load as models
from harness.models.batching import Job
from harness.models.decode import attention, support, workers
from harness.models.decode.packed import packed_weights
from harness.models.decode.support import decodes_in_slots
from harness.models.decoding import decode, decode_all
from harness.protocols import Sampled
from harness.types import Sampling
from tests.models.families.zoo import tiny


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path):
    return models.load_tokenizer(str(tiny_model))


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def texts(count: int, longest: int = 60) -> list[list[int]]:
    """Prompts of many lengths."""
    return [[5 + (7 * k + 3 * i) % 240 for i in range(3 + (17 * k) % longest)] for k in range(count)]


def written(model: Any, tokenizer: Any, jobs: list[Job], batch_size: int | None = None) -> list[Any]:
    return decode_all(model, tokenizer, jobs, seed=0, batch_size=batch_size, advance=lambda _: None)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["gpt_oss", pytest.param("qwen3", marks=pytest.mark.slow)])
def test_samples_are_the_same_in_any_batch_and_on_one_or_two_workers(
    family: str, dtype: torch.dtype, tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bfloat16, too, where a difference of one rounding soon gives another text."""
    model = tiny(family).to(dtype)
    jobs = [Job(ids, Sampling(temperature=1.0, max_new_tokens=20), (0, 1)) for ids in texts(16)]
    started: list[int] = []
    run = workers.Worker.run
    monkeypatch.setattr(workers.Worker, "run", lambda self, threads: (started.append(threads), run(self, threads)))
    two = written(model, tokenizer, jobs)
    assert started == [1, 1]
    monkeypatch.setattr(attention, "PART", 1)
    for batch_size in (3, 11):
        assert written(model, tokenizer, jobs, batch_size) == two
    monkeypatch.setattr(workers, "MOST_WORKERS", 1)
    assert written(model, tokenizer, jobs) == two
    for job, completions in list(zip(jobs, two, strict=True))[::5]:
        assert written(model, tokenizer, [job]) == [completions]
        assert written(model, tokenizer, [job._replace(samples=(1,))]) == [completions[1:]]


@pytest.mark.parametrize("family", ["smollm3", "gemma4", "gemma3n", "gpt_oss", "glm4-experts", "olmo3", "phi4"])
def test_newest_families_write_what_transformers_writes(family: str, tokenizer) -> None:
    model = tiny(family)
    assert decodes_in_slots(model)
    jobs = [Job(ids, Sampling(temperature=0, max_new_tokens=24)) for ids in texts(5)]
    for job, (completion,) in zip(jobs, written(model, tokenizer, jobs), strict=True):
        ids = model.generate(torch.tensor([job.prompt]), max_new_tokens=24, do_sample=False)[0, len(job.prompt) :]
        assert completion.text == tokenizer.decode(ids, skip_special_tokens=True)


def test_rotary_factors_are_those_of_a_rows_own_length(tokenizer) -> None:
    """Factors change after 32 tokens: for prompts below that, across it while writing, and above."""
    model = tiny("phi4-long")
    prompts = [[9] * 4, [8] * 31, [7] * 20, [6] * 50, [5] * 32, [4] * 33]
    jobs = [Job(ids, Sampling(temperature=0, max_new_tokens=20)) for ids in prompts]
    assert decodes_in_slots(model)
    for job, (completion,) in zip(jobs, written(model, tokenizer, jobs), strict=True):
        ids = list(job.prompt)
        with torch.inference_mode():
            while len(ids) < len(job.prompt) + 20 and (len(ids) == len(job.prompt) or ids[-1] != 257):
                ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        assert completion.text == tokenizer.decode(ids[len(job.prompt) :], skip_special_tokens=True)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("family", ["smollm3", "gpt_oss", "gemma3n", "gemma4"])
def test_what_prompts_begin_with_is_computed_once(family: str, tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `transformers` writes it, and the same whatever else is decoded."""
    start = chat.beginning(tokenizer)
    monkeypatch.setattr(workers, "SHORTEST", len(start))
    model = tiny(family)
    prompts = [ids if k % 4 == 0 else [*start, *ids] for k, ids in enumerate(texts(16, 20))]
    assert decodes_in_slots(model)
    computed: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda _module, _args, options: computed.append(options["input_ids"].shape[1]), with_kwargs=True
    )
    greedy = [Job(ids, Sampling(temperature=0, max_new_tokens=12)) for ids in prompts]
    got = written(model, tokenizer, greedy)
    hook.remove()
    begun = sum(ids[: len(start)] == start for ids in prompts)
    saved = sum(map(len, prompts)) - (begun - 1) * len(start)
    assert saved <= sum(n for n in computed if n > 1) < saved + 60  # passes of one and nine tokens measure the cache
    for job, (completion,) in zip(greedy, got, strict=True):
        ids = model.generate(torch.tensor([job.prompt]), max_new_tokens=12, do_sample=False)[0, len(job.prompt) :]
        assert completion.text == tokenizer.decode(ids, skip_special_tokens=True)
    half = model.to(torch.bfloat16)
    sampled = [Job(ids, Sampling(temperature=1.0, max_new_tokens=12)) for ids in prompts]
    together = written(half, tokenizer, sampled)
    assert [row for job in sampled for row in written(half, tokenizer, [job])] == together


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("family", ["qwen3", "lfm2"])
def test_a_finished_sample_may_be_continued(family: str, tokenizer) -> None:
    """In slots at once, in batches after the batch. A continuation has its sample's index, and is as if asked alone."""
    model = tiny(family)
    sampling = Sampling(temperature=1.0, max_new_tokens=12)
    jobs = [Job(ids, sampling, (k % 3,)) for k, ids in enumerate(texts(20))]
    turns: dict[int, list[Sampled]] = {k: [] for k in range(len(jobs))}
    continued: dict[int, Job] = {}

    def arrived(rows: Any) -> None:
        for row in rows:
            turns[row.request].append(row)

    def then(row: Sampled) -> Job | None:
        if row.request in continued or row.request % 4 == 0:
            return None
        continued[row.request] = Job([*jobs[row.request].prompt, 7, 8, 9] * 2, sampling, (row.sample,))
        return continued[row.request]

    decode(model, tokenizer, jobs, seed=0, batch_size=None, arrived=arrived, then=then)
    alone = written(model, tokenizer, jobs)
    seconds = dict(zip(continued, written(model, tokenizer, list(continued.values())), strict=True))
    for k, job in enumerate(jobs):
        expected = [alone[k], *([seconds[k]] if k % 4 else [])]
        assert [[row.completion] for row in turns[k]] == expected
        assert {row.sample for row in turns[k]} == set(job.samples)


@pytest.mark.usefixtures("two_threads")
def test_workers_that_run_out_of_memory_take_fewer_rows(tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("qwen3").to(torch.bfloat16)
    jobs = [Job(ids, Sampling(temperature=1.0, max_new_tokens=8)) for ids in texts(40)]
    whole = written(model, tokenizer, jobs)
    forward = type(model).forward
    most = 0

    def small(self: Any, *args: Any, **options: Any) -> Any:
        if options["input_ids"].shape[1] == 1 and len(options["input_ids"]) > most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return forward(self, *args, **options)

    monkeypatch.setattr(type(model), "forward", small)
    monkeypatch.setattr("harness.models.decoding.batch_limits", lambda *_: workers.BatchLimits(64, 10**6, 10**6))
    for most in (9, 1):  # noqa: B007 - read by `small`
        assert written(model, tokenizer, jobs) == whole
    most = 0
    with pytest.raises(ModelError, match="does not fit in memory"):
        written(model, tokenizer, jobs)


@pytest.mark.usefixtures("two_threads")
def test_an_error_in_a_worker_is_raised_and_the_model_is_as_before(tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("qwen3").to(torch.bfloat16)
    jobs = [Job(ids, Sampling(temperature=1.0, max_new_tokens=8)) for ids in texts(40)]
    ids = torch.tensor([jobs[0].prompt])
    before = model(input_ids=ids).logits
    assert decodes_in_slots(model)
    monkeypatch.setattr(workers.SlotBatch, "step", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        written(model, tokenizer, jobs)
    assert torch.equal(model(input_ids=ids).logits, before)
    assert torch.get_num_threads() == 2


def test_packed_weights_give_the_same_and_are_unpacked_afterwards(tokenizer) -> None:
    model = tiny("qwen3").to(torch.bfloat16)
    ids = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        plain = model(input_ids=ids).logits
        with packed_weights(model, 1 << 20):
            assert torch.equal(model(input_ids=ids).logits, plain)
        with packed_weights(model, 16):
            assert "forward" not in vars(model.lm_head)
    assert "forward" not in vars(model.lm_head)


def test_a_model_whose_own_numbers_differ_is_decoded_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("qwen3")
    assert decodes_in_slots(model)
    other = tiny("qwen3", seed=1)
    monkeypatch.setattr(support.SlotBatch, "logits", lambda *_: torch.randn(2, 259))
    assert not decodes_in_slots(other)
    assert not decodes_in_slots(tiny("deepseek_v3"))
    assert not decodes_in_slots(tiny("lfm2"))
