"""Perplexity of texts under a causal language model: exp of the mean negative log-likelihood a token."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from harness.types import Advance

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Likelihood(NamedTuple):
    """A text's summed log-likelihood in nats, and the tokens that it is of."""

    logp: float
    tokens: int


def text_likelihoods(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    texts: Sequence[str],
    *,
    max_tokens: int,
    batch_size: int,
    advance: Advance,
) -> list[Likelihood]:
    """Of each text on its own, in order: its tokens after the beginning-of-sequence token, or after its first one where
    the tokenizer has none; what is longer than `max_tokens` is cut."""
    import torch

    first = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    encoded = [(first + tokenizer.encode(text, add_special_tokens=False))[:max_tokens] for text in texts]
    order = sorted(range(len(texts)), key=lambda i: (len(encoded[i]), i), reverse=True)
    found = [Likelihood(0.0, 0)] * len(texts)
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
                    found[i] = Likelihood(total, len(encoded[i]) - 1)
            advance(len(order[start : start + batch_size]))
    return found


def perplexity(likelihoods: Sequence[Likelihood]) -> dict[str, float | int] | None:
    """`corpus`: exp of the mean over all tokens; `median`: of the texts' own. None where there are no tokens."""
    own = sorted(math.exp(-x.logp / x.tokens) for x in likelihoods if x.tokens)
    if not own:
        return None
    tokens = sum(x.tokens for x in likelihoods)
    middle = own[len(own) // 2] if len(own) % 2 else (own[len(own) // 2 - 1] + own[len(own) // 2]) / 2
    return {"corpus": math.exp(-sum(x.logp for x in likelihoods) / tokens), "median": middle, "texts": len(own)}
