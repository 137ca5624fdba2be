"""Sampling from a causal language model in process: batched, prompt computed once for its N samples.

Every sample draws from a random stream of its own, keyed by (seed, prompt, index of the sample). So a sample does not
depend on which others share its batch or on N (up to floating-point noise of batched matrix products): the first two
of N=4 are those of N=2, and batch size stays out of stage keys.
"""

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.chat import end_of_turn
from harness.errors import ModelError
from harness.protocols import Arrived, Sampled
from harness.types import Advance, Completion, FinishReason, Sampling

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CACHE_SHARE = 0.25
"""The share of the device's memory that the cache of a batch may take."""
SHORT = 64
"""Prompts that differ by fewer tokens may share a batch."""
NUCLEUS_SHORTLIST = 1024
"""How many top tokens are sorted for top-p sampling; rows whose nucleus is larger are sorted whole."""

_log = logging.getLogger(__name__)


class Job(NamedTuple):
    """A prompt's token ids, how to sample from it, and which of its samples are wanted (counted from 0)."""

    prompt: list[int]
    sampling: Sampling
    samples: tuple[int, ...] = (0,)


class _Placed(NamedTuple):
    place: int
    prompt: list[int]
    sampling: Sampling
    samples: tuple[int, ...]


def decode(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    wanted: Sequence[Job],
    *,
    seed: int,
    batch_size: int | None,
    arrived: Arrived,
) -> None:
    """Hands the wanted samples over batch by batch. `batch_size`: sequences in one forward at most, None: as the model
    and the device allow; it changes speed and memory, not the samples. A batch that doesn't fit in memory is halved;
    raises ModelError where one sequence doesn't. A prompt that leaves no room in the model's window gets empty
    completions that ended by length."""
    import torch

    window = getattr(model.config, "max_position_embeddings", None) or 1 << 30
    jobs = [_Placed(i, *job) for i, job in enumerate(wanted)]
    # Longest first: the largest batch comes at once, so that a batch that doesn't fit fails at once too.
    jobs.sort(key=lambda job: (job.sampling.max_new_tokens, len(job.prompt), job.place), reverse=True)
    ending = _Ending(tokenizer)
    with torch.inference_mode():
        for batch in batches(jobs, *room(model, batch_size)):
            none = Completion(text="", finish_reason="length", tokens=0)
            done = [Sampled(j.place, k, none) for j in batch if len(j.prompt) >= window for k in j.samples]
            rows = [(job, k) for job in batch if len(job.prompt) < window for k in job.samples]
            written = _decode_what_fits(model, rows, seed, ending, window) if rows else []
            for (job, k), tokens in zip(rows, written, strict=True):
                done.append(Sampled(job.place, k, ending.completion(tokens, job.sampling)))
            arrived(done)


def decode_all(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    jobs: Sequence[Job],
    *,
    seed: int,
    batch_size: int | None,
    advance: Advance,
) -> list[list[Completion]]:
    """What `decode` hands over, as a list: the wanted samples of every job, in order."""
    done: dict[tuple[int, int], Completion] = {}

    def arrived(rows: Sequence[Sampled]) -> None:
        done.update({(row.request, row.sample): row.completion for row in rows})
        advance(len(rows))

    decode(model, tokenizer, jobs, seed=seed, batch_size=batch_size, arrived=arrived)
    return [[done[i, k] for k in job.samples] for i, job in enumerate(jobs)]


def batches(jobs: Sequence[Job | _Placed], most: int, budget: int) -> Iterator[list[Any]]:
    """Jobs in their order, cut into batches: at most `most` sequences and `budget` tokens of cache in each (or one
    job), of prompts no shorter than half the longest, so that little is padded.

    Cut from the front by what is in the batch alone: without the jobs of the first batches, the others stay the same.
    So a run that was stopped after a batch goes on with the batches that it would have had.
    """
    batch: list[Any] = []
    for job in jobs:
        rows = sum(len(j.samples) for j in (*batch, job))
        lengths = [len(j.prompt) for j in (*batch, job)]
        widest, narrowest = max(lengths), min(lengths)
        tokens = rows * (widest + max(j.sampling.max_new_tokens for j in (*batch, job)))
        padded = widest > 2 * narrowest and widest - narrowest > SHORT
        if batch and (rows > most or tokens > budget or padded):
            yield batch
            batch = []
        batch.append(job)
    if batch:
        yield batch


def room(model: "PreTrainedModel", batch_size: int | None) -> tuple[int, int]:
    """(sequences, tokens of cache) that a batch may have. From the model and the device's whole memory, not from what
    is free, so that a machine always forms the same batches."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    bytes_a_token = 2 * config.num_hidden_layers * heads * width * model.dtype.itemsize
    memory, usual = _memory(model)
    return batch_size or usual, max(1, int(CACHE_SHARE * memory / bytes_a_token))


def _memory(model: "PreTrainedModel") -> tuple[int, int]:
    """Bytes of the device's memory, and how many sequences keep it busy."""
    import torch

    if model.device.type == "cuda":
        return torch.cuda.get_device_properties(model.device).total_memory, 256
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), 64


def _decode_what_fits(
    model: "PreTrainedModel", rows: list[tuple[_Placed, int]], seed: int, ending: "_Ending", window: int
) -> list[list[int]]:
    """`_decode_batch`, in halves where the whole doesn't fit in memory."""
    import torch

    try:
        return _decode_batch(model, rows, seed, ending, window)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        is_memory = isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error)
        if not is_memory:
            raise
        if len(rows) == 1:
            length = len(rows[0][0].prompt)
            raise ModelError(
                f"a prompt of {length} tokens does not fit in memory with {model.name_or_path}: use shorter prompts, "
                "fewer max_new_tokens, or a smaller model"
            ) from None
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
    _log.warning("a batch of %d sequences does not fit in memory: halved", len(rows))
    half = len(rows) // 2
    return [
        *_decode_what_fits(model, rows[:half], seed, ending, window),
        *_decode_what_fits(model, rows[half:], seed, ending, window),
    ]


class _Ending:
    """Where a model's turn ends: at its end tokens, and at the `stop` texts of a sampling."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer
        self.tokens = {end_of_turn(tokenizer), tokenizer.eos_token_id} - {None}

    def reached(self, written: list[int], limit: int, stop: tuple[str, ...]) -> bool:
        if len(written) >= limit or (written and written[-1] in self.tokens):
            return True
        if not stop or not written:
            return False
        # A stop of n characters has at most n bytes of UTF-8 a character in as many tokens; some more for what a
        # tokenizer writes differently at the beginning of a text.
        tail = self._text(written[-(4 * max(map(len, stop)) + 8) :])
        return any(text in tail for text in stop)

    def completion(self, written: list[int], sampling: Sampling) -> Completion:
        ended = bool(written) and written[-1] in self.tokens
        text = self._text(written[:-1] if ended else written)
        cuts = [at for stop in sampling.stop if (at := text.find(stop)) >= 0]
        reason: FinishReason = "stop" if ended or cuts else "length"
        return Completion(text=text[: min(cuts)] if cuts else text, finish_reason=reason, tokens=len(written))

    def _text(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))


def _decode_batch(
    model: "PreTrainedModel", rows: list[tuple[_Placed, int]], seed: int, ending: "_Ending", window: int
) -> list[list[int]]:
    """Token ids of each (prompt, sample), the stop token included. Samples of one prompt stand together. Finished rows
    leave the batch as it goes."""
    import numpy as np
    import torch

    device = model.device
    jobs = list({job.place: job for job, _ in rows}.values())
    widest = max(len(job.prompt) for job in jobs)
    pad = next(iter(ending.tokens))
    ids = torch.tensor([[pad] * (widest - len(j.prompt)) + j.prompt for j in jobs], device=device)
    mask = torch.tensor([[0] * (widest - len(j.prompt)) + [1] * len(j.prompt) for j in jobs], device=device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    out = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1)
    cache, logits = out.past_key_values, out.logits[:, -1]
    if len(rows) > len(jobs):
        places = {job.place: i for i, job in enumerate(jobs)}
        copies = torch.tensor([places[job.place] for job, _ in rows], device=device)
        cache.batch_select_indices(copies)
        logits, mask = logits[copies], mask[copies]
    limits = [min(job.sampling.max_new_tokens, window - len(job.prompt)) for job, _ in rows]
    uniforms = np.stack([_uniforms(seed, job.prompt, k, max(limits)) for job, k in rows])
    stop = [job.sampling.stop for job, _ in rows]
    written: list[list[int]] = [[] for _ in rows]
    over = [limit <= 0 for limit in limits]
    alive = list(range(len(rows)))
    step = 0
    while True:
        samplings = [rows[r][0].sampling for r in alive]
        tokens = _pick(logits.float(), samplings, uniforms[alive, step])
        for r, token in zip(alive, tokens.tolist(), strict=True):
            if not over[r]:
                written[r].append(token)
                over[r] = ending.reached(written[r], limits[r], stop[r])
        step += 1
        going = [i for i, r in enumerate(alive) if not over[r]]
        if not going:
            return written
        # Dropping rows copies the cache: only once a quarter of them is done.
        if len(going) <= 0.75 * len(alive):
            kept = torch.tensor(going, device=device)
            cache.batch_select_indices(kept)
            tokens, mask = tokens[kept], mask[kept]
            alive = [alive[i] for i in going]
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
        position = mask.sum(-1, keepdim=True) - 1
        out = model(
            input_ids=tokens[:, None],
            attention_mask=mask,
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
        )
        logits = out.logits[:, -1]


def _uniforms(seed: int, prompt: list[int], sample: int, count: int) -> "np.ndarray":
    """The stream of one sample: uniform numbers in [0, 1), one a token."""
    import numpy as np

    key = hashlib.sha256(repr((seed, prompt, sample)).encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key))).random(count)


def _pick(logits_RV: "Tensor", samplings: list[Sampling], uniforms_R: "np.ndarray") -> "Tensor":
    """One token id a row, by inverse CDF at the row's uniform number; greedy where the temperature is 0."""
    import torch

    greedy = logits_RV.argmax(-1)
    hot = [i for i, s in enumerate(samplings) if s.temperature > 0]
    if not hot:
        return greedy
    rows = torch.tensor(hot, device=logits_RV.device)
    temperature = logits_RV.new_tensor([samplings[i].temperature for i in hot])[:, None]
    probs = torch.softmax(logits_RV[rows] / temperature, dim=-1)
    u = torch.as_tensor(uniforms_R[hot], dtype=probs.dtype, device=probs.device)
    top_p = probs.new_tensor([samplings[i].top_p for i in hot])
    if bool((top_p < 1).any()):
        return greedy.index_copy(0, rows, _nucleus(probs, top_p, u))
    return greedy.index_copy(0, rows, _inverse_cdf(probs, u))


def _nucleus(probs_RV: "Tensor", top_p_R: "Tensor", u_R: "Tensor") -> "Tensor":
    """Top-p sampling (1904.09751): the smallest set of most probable tokens whose mass reaches p, renormalised."""
    k = min(NUCLEUS_SHORTLIST, probs_RV.shape[-1])
    top, order = probs_RV.topk(k, dim=-1)
    if bool((top.sum(-1) < top_p_R).any()):
        top, order = probs_RV.sort(dim=-1, descending=True)
    before = top.cumsum(-1) - top
    kept = top.masked_fill(before >= top_p_R[:, None], 0.0)
    return order.gather(-1, _inverse_cdf(kept, u_R)[:, None])[:, 0]


def _inverse_cdf(weights_RV: "Tensor", u_R: "Tensor") -> "Tensor":
    import torch

    cumulated = weights_RV.double().cumsum(-1)
    target = (u_R.double() * cumulated[:, -1])[:, None]
    return torch.searchsorted(cumulated, target, right=True)[:, 0].clamp(max=weights_RV.shape[-1] - 1)
