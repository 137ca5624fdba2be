"""Sampling: against transformers' own generation where it is greedy, and in distribution where it is not."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.errors import ModelError
from harness.models import chat, decoding
from harness.models import load as models
from harness.models.batching import BatchLimits, Job
from harness.models.decode import workers
from harness.models.decode.slots import LEAST
from harness.models.decoding import decode, decode_all
from harness.protocols import Sampled
from harness.types import Completion, Message, Sampling
from tests.models.decode.greedy import assert_as_transformers

QUESTIONS = ["hi", "what is the time in Rome?", "b", "a rather longer question than the others " * 5]


@pytest.fixture(scope="module")
def loaded(tiny_model: Path):
    return models.load_causal_lm(str(tiny_model), dtype="float32"), models.load_tokenizer(str(tiny_model))


@pytest.fixture
def wide_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Padding is no reason to cut a batch."""
    monkeypatch.setattr(decoding, "batch_limits", lambda _model, size: BatchLimits(size or 64, 10**6, 10**6))


def prompts(tokenizer) -> list[list[int]]:
    return [chat.encode_prompt(tokenizer, [Message(role="user", content=q)]) for q in QUESTIONS]


def run(loaded, sampling: Sampling, n: int = 1, seed: int = 0, batch_size: int = 8) -> list[list[Completion]]:
    model, tokenizer = loaded
    jobs = [Job(ids, sampling, tuple(range(n))) for ids in prompts(tokenizer)]
    done: dict[tuple[int, int], Completion] = {}

    def arrived(rows: Sequence[Sampled]) -> None:
        assert not done.keys() & {(r.request, r.sample) for r in rows}
        done.update({(r.request, r.sample): r.completion for r in rows})

    decode(model, tokenizer, jobs, seed=seed, batch_size=batch_size, arrived=arrived)
    return [[done[i, k] for k in range(n)] for i in range(len(jobs))]


def test_greedy_equals_transformers_generate(loaded) -> None:
    model, tokenizer = loaded
    ours = run(loaded, Sampling(temperature=0, max_new_tokens=24))
    for ids, (completion,) in zip(prompts(tokenizer), ours, strict=True):
        theirs = model.generate(torch.tensor([ids]), max_new_tokens=24, do_sample=False)[0, len(ids) :].tolist()
        ended = theirs[-1] == chat.end_of_turn(tokenizer)
        assert completion.tokens == len(theirs)
        assert completion.text == tokenizer.decode(theirs, skip_special_tokens=True)
        assert completion.finish_reason == ("stop" if ended else "length")


def test_samples_do_not_depend_on_batch_or_n(loaded) -> None:
    sampling = Sampling(temperature=1.0, top_p=0.9, max_new_tokens=16)
    four = run(loaded, sampling, n=4, batch_size=64)
    assert run(loaded, sampling, n=4, batch_size=4) == four
    assert run(loaded, sampling, n=2, batch_size=6) == [c[:2] for c in four]
    assert run(loaded, sampling, n=4, seed=1) != four
    assert len({c.text for group in four for c in group}) > 8


def test_a_sample_does_not_depend_on_which_others_are_wanted(loaded) -> None:
    model, tokenizer = loaded
    sampling = Sampling(temperature=1.0, max_new_tokens=12)
    four = run(loaded, sampling, n=4)
    wanted = [(2, 3), (1,), (0, 3), (3,)]
    jobs = [Job(ids, sampling, samples) for ids, samples in zip(prompts(tokenizer), wanted, strict=True)]
    done: list[Sampled] = []
    decode(model, tokenizer, jobs, seed=0, batch_size=3, arrived=done.extend)
    assert {(r.request, r.sample): r.completion for r in done} == {
        (i, k): four[i][k] for i, samples in enumerate(wanted) for k in samples
    }


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 1.0), (1.0, 0.6)])
def test_first_tokens_follow_the_model_distribution(loaded, temperature: float, top_p: float) -> None:
    """The literal definition of temperature and nucleus sampling, against the counts of many samples."""
    model, tokenizer = loaded
    ids = prompts(tokenizer)[0]
    n = 4000
    sampling = Sampling(temperature=temperature, top_p=top_p, max_new_tokens=1)
    jobs = [Job(ids, sampling, tuple(range(n)))]
    (texts,) = decode_all(model, tokenizer, jobs, seed=3, batch_size=n, advance=lambda _: None)
    with torch.no_grad():
        probs = torch.softmax(model(torch.tensor([ids])).logits[0, -1].double() / temperature, -1).numpy()
    order = np.argsort(-probs)
    keep = order[np.cumsum(probs[order]) - probs[order] < top_p]
    expected = np.zeros_like(probs)
    expected[keep] = probs[keep] / probs[keep].sum()
    by_text: Counter[tuple[str, str]] = Counter((c.text, c.finish_reason) for c in texts)
    end = chat.end_of_turn(tokenizer)
    for token in order[:20]:
        reason = "stop" if token == end else "length"
        text = "" if token == end else tokenizer.decode([int(token)], skip_special_tokens=True)
        same = [t for t in range(len(probs)) if t != end and tokenizer.decode([t], skip_special_tokens=True) == text]
        p = expected[end] if token == end else expected[same].sum()
        assert by_text[text, reason] / n == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / n) + 1e-9)


def test_a_prompt_without_room_gets_empty_completions(loaded) -> None:
    model, tokenizer = loaded
    window = model.config.max_position_embeddings
    long, short = [5] * window, [5] * (window - 3)
    sampling = Sampling(temperature=1, max_new_tokens=9)
    jobs = [Job(long, sampling, (0, 1)), Job(short, sampling, (0, 1))]
    advanced: list[int] = []
    done = decode_all(model, tokenizer, jobs, seed=0, batch_size=8, advance=advanced.append)
    assert sum(advanced) == 4
    assert [(c.text, c.tokens, c.finish_reason) for c in done[0]] == [("", 0, "length")] * 2
    assert all(c.tokens <= 3 for c in done[1])


def test_a_stop_text_ends_a_completion_before_it(loaded) -> None:
    model, tokenizer = loaded
    whole = run(loaded, Sampling(temperature=1.0, max_new_tokens=24), n=3)
    for place, group in enumerate(whole):
        for k, completion in enumerate(group):
            if len(completion.text) < 9:
                continue
            stop = completion.text[5:8]
            job = Job(
                prompts(tokenizer)[place], Sampling(temperature=1.0, max_new_tokens=24, stop=(stop, "~never~")), (k,)
            )
            ((cut,),) = decode_all(model, tokenizer, [job], seed=0, batch_size=None, advance=lambda _: None)
            assert cut.text == completion.text[: completion.text.index(stop)]
            assert cut.finish_reason == "stop"
            assert cut.tokens <= completion.tokens


def test_a_batch_that_does_not_fit_is_halved(loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = loaded
    sampling = Sampling(temperature=1.0, max_new_tokens=12)
    whole = run(loaded, sampling, n=3)
    forward, sizes = type(model).forward, []

    def small(self, *args, **options):
        sizes.append(len(options["input_ids"]))
        if len(options["input_ids"]) > most:
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, *args, **options)

    monkeypatch.setattr(type(model), "forward", small)
    for most in (5, 1):
        assert run(loaded, sampling, n=3, batch_size=64) == whole
        assert max(sizes) > most
    most = 0
    with pytest.raises(ModelError, match="not fit in memory"):
        run(loaded, sampling)


SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "sliding_window": 16,
}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {},
    "gemma2": {},
    "gemma3_text": {"num_hidden_layers": 7},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512},
    "bloom": {"n_layer": 2, "n_head": 4},
}
"""Plain and sliding attention (a window shorter than the texts), soft caps, sinks, states beside attention, learned and
no positions."""


def tiny_of(kind: str, tokenizer, dtype: torch.dtype):
    from transformers import AutoConfig, AutoModelForCausalLM

    known = {} if kind == "gpt2" else {"hidden_size": 32} if kind == "bloom" else SIZES
    size = len(tokenizer)
    tokens = {"vocab_size": size, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": size - 1, "bos_token_id": 1}
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **(known | KINDS.get(kind, {})), **tokens)
    return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


@pytest.mark.usefixtures("wide_batches")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_other_architectures_write_what_transformers_writes(kind: str, dtype: torch.dtype, loaded) -> None:
    """Greedy, two samples a prompt, prompts of several lengths and limits in one batch."""
    _, tokenizer = loaded
    assert_as_transformers(tiny_of(kind, tokenizer, dtype), tokenizer, prompts(tokenizer))


def test_a_model_without_a_cache_of_keys_and_values_is_refused_in_one_line(loaded) -> None:
    from transformers import MambaConfig, MambaForCausalLM

    _, tokenizer = loaded
    torch.manual_seed(0)
    model = MambaForCausalLM(MambaConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1)).eval()
    jobs = [Job([5, 6], Sampling(temperature=0, max_new_tokens=4))]
    with pytest.raises(
        ModelError, match=r"MambaForCausalLM (has no|does not).* cache .*; serve it with vLLM$"
    ) as caught:
        decode_all(model, tokenizer, jobs, seed=0, batch_size=None, advance=lambda _: None)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("wide_batches")
def test_rows_that_finish_leave_and_the_others_go_on_as_if_alone(loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits from 1 to 24: a row leaves nearly every step, from all places."""
    monkeypatch.setattr(workers, "MOST_WORKERS", 1)
    model, tokenizer = loaded
    jobs = [
        Job(ids, Sampling(temperature=1.0, max_new_tokens=1 + (7 * k) % 24), (k,))
        for k in range(24)
        for ids in prompts(tokenizer)[:3]
    ]
    together = decode_all(model, tokenizer, jobs, seed=0, batch_size=72, advance=lambda _: None)
    sizes: list[int] = []

    def seen(_module, _args, options) -> None:
        if options["input_ids"].shape[1] == 1:
            sizes.append(len(options["input_ids"]))

    hook = model.register_forward_pre_hook(seen, with_kwargs=True)
    assert decode_all(model, tokenizer, jobs, seed=0, batch_size=72, advance=lambda _: None) == together
    hook.remove()
    assert sizes[0] > 60
    assert sizes[-1] == LEAST
    assert sizes == sorted(sizes, reverse=True)
    for job, (completion,) in list(zip(jobs, together, strict=True))[::7]:
        ((alone,),) = decode_all(model, tokenizer, [job], seed=0, batch_size=1, advance=lambda _: None)
        assert alone == completion


@pytest.mark.usefixtures("wide_batches")
def test_prompts_are_read_one_after_the_other_and_continued_together(loaded) -> None:
    model, tokenizer = loaded
    sampling = Sampling(temperature=1.0, max_new_tokens=9)
    jobs = [Job([5 + k] * n, sampling, (0, 1)) for k, n in enumerate((180, 20, 22, 170))]
    shapes: list[tuple[int, ...]] = []
    hook = model.register_forward_pre_hook(
        lambda _module, _args, options: shapes.append(tuple(options["input_ids"].shape)), with_kwargs=True
    )
    together = decode_all(model, tokenizer, jobs, seed=0, batch_size=None, advance=lambda _: None)
    hook.remove()
    assert [shape for shape in shapes if shape[1] > 1] == [(1, 350), (1, 42)]
    assert (8, 1) in shapes
    for job, completions in zip(jobs, together, strict=True):
        assert decode_all(model, tokenizer, [job], seed=0, batch_size=None, advance=lambda _: None) == [completions]


def test_a_row_does_not_depend_on_the_sampling_of_its_neighbours(loaded) -> None:
    model, tokenizer = loaded
    ids = prompts(tokenizer)
    samplings = [Sampling(temperature=t, top_p=p, max_new_tokens=16) for t, p in ((0, 1), (1, 1), (0.7, 0.8), (1, 0.1))]
    jobs = [Job(ids[i], samplings[i], (0, 1)) for i in range(4)]
    together = decode_all(model, tokenizer, jobs, seed=0, batch_size=None, advance=lambda _: None)
    for job, completions in zip(jobs, together, strict=True):
        assert decode_all(model, tokenizer, [job], seed=0, batch_size=None, advance=lambda _: None) == [completions]


def test_what_is_as_large_as_what_did_not_fit_is_halved_without_a_try(loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = loaded
    jobs = [Job([5, 6, 7 + k], Sampling(temperature=1.0, max_new_tokens=3)) for k in range(32)]
    options: dict[str, Any] = {"seed": 0, "batch_size": 8, "advance": lambda _: None}
    whole = decode_all(model, tokenizer, jobs, **options)
    forward, failed = type(model).forward, []

    def small(self, *args, **given):
        if len(given["input_ids"]) > 4:
            failed.append(len(given["input_ids"]))
            # As torch says it on a processor.
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"
            )
        return forward(self, *args, **given)

    monkeypatch.setattr(type(model), "forward", small)
    assert decode_all(model, tokenizer, jobs, **options) == whole
    assert failed in ([8], [8, 8])  # each worker tries once, unless the other's sequences keep it busy
    monkeypatch.setattr(type(model), "forward", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        decode_all(model, tokenizer, jobs, **options)
