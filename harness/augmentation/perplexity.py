"""Perplexity of texts under a causal language model: exp of the mean negative log-likelihood per token."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from harness.types import Advance

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Likelihood(NamedTuple):
    """A text's summed log-likelihood in nats, and its number of tokens."""

    logp: float
    tokens: int


def text_ids(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """The token ids of each text by itself, after the beginning-of-sequence token if the tokenizer has one. The first
    has no likelihood."""
    first = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    return [
        (first + tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))[:max_tokens]
        for text in texts
    ]


def text_likelihoods(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    texts: Sequence[str],
    *,
    max_tokens: int,
    batch_size: int,
    advance: Advance,
) -> list[Likelihood]:
    """The likelihood of each text by itself, in order, over its tokens after the beginning-of-sequence token, or after
    its first token if the tokenizer has none. Texts are truncated to `max_tokens`."""
    import torch

    encoded = text_ids(tokenizer, texts, max_tokens)
    order = sorted(range(len(texts)), key=lambda i: (len(encoded[i]), i), reverse=True)
    likelihoods = [Likelihood(0.0, 0)] * len(texts)
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            chosen = [i for i in order[start : start + batch_size] if len(encoded[i]) > 1]
            if chosen:
                width = max(len(encoded[i]) for i in chosen)
                ids = torch.tensor([encoded[i] + [0] * (width - len(encoded[i])) for i in chosen], device=model.device)
                real = torch.tensor(
                    [[1] * len(encoded[i]) + [0] * (width - len(encoded[i])) for i in chosen], device=model.device
                )
                logits = model(input_ids=ids, attention_mask=real).logits[:, :-1].float()
                logps = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0] * real[:, 1:]
                for i, total in zip(chosen, logps.sum(-1).tolist(), strict=True):
                    likelihoods[i] = Likelihood(total, len(encoded[i]) - 1)
            advance(len(order[start : start + batch_size]))
    return likelihoods


def perplexity(likelihoods: Sequence[Likelihood]) -> dict[str, float | int] | None:
    """Perplexities: `corpus` over all tokens, `median` over texts; `texts` is their number. None without any token."""
    by_text = sorted(math.exp(-x.logp / x.tokens) for x in likelihoods if x.tokens)
    if not by_text:
        return None
    tokens = sum(x.tokens for x in likelihoods)
    half = len(by_text) // 2
    median = by_text[half] if len(by_text) % 2 else (by_text[half - 1] + by_text[half]) / 2
    return {"corpus": math.exp(-sum(x.logp for x in likelihoods) / tokens), "median": median, "texts": len(by_text)}
