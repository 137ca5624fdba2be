"""Log-probabilities of multi-token choices under a causal language model: how an in-process judge reads logits."""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class ChoiceQuestion(NamedTuple):
    """Token ids of a prompt and of each of its choices (at least one token each)."""

    prompt: list[int]
    choices: list[list[int]]


def choice_logps(
    model: "PreTrainedModel", questions: Sequence[ChoiceQuestion], *, batch_size: int
) -> list[list[float]]:
    """log p(choice | prompt) of every choice, in order: the sum over the choice's tokens (natural log).

    Each prompt is computed once, `batch_size` prompts at a time, however many choices it has. The log-probability of a
    choice's first token comes from the prompt's last logits. Longer choices of a prompt continue from its key-value
    cache in one additional forward pass.
    """
    import torch

    order = sorted(range(len(questions)), key=lambda i: (len(questions[i].prompt), i), reverse=True)
    results: list[list[float]] = [[] for _ in questions]
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            group = order[start : start + batch_size]
            for i, logps in zip(group, _batch(model, [questions[i] for i in group]), strict=True):
                results[i] = logps
    return results


def _batch(model: "PreTrainedModel", questions: list[ChoiceQuestion]) -> list[list[float]]:
    import torch

    widest = max(len(q.prompt) for q in questions)
    long = [any(len(c) > 1 for c in q.choices) for q in questions]
    # Padded on the left, so that the last column is every prompt's last token. Padding is masked.
    ids = torch.tensor([[0] * (widest - len(q.prompt)) + q.prompt for q in questions], device=model.device)
    mask = torch.tensor([[0] * (widest - len(q.prompt)) + [1] * len(q.prompt) for q in questions], device=model.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    out = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=any(long), logits_to_keep=1)
    first_BV = torch.log_softmax(out.logits[:, -1].float(), dim=-1)
    total = [[float(first_BV[b, c[0]]) for c in q.choices] for b, q in enumerate(questions)]
    for b, question in enumerate(questions):
        if long[b]:
            # Copy this prompt's cache: continuing from it modifies it in place.
            cache = copy.deepcopy(out.past_key_values)
            cache.batch_select_indices(torch.tensor([b], device=model.device))
            cache.batch_repeat_interleave(len(question.choices))
            rest = _continuation_logps(model, cache, mask[b], question.choices)
            total[b] = [first + later for first, later in zip(total[b], rest, strict=True)]
    return total


def _continuation_logps(
    model: "PreTrainedModel", cache: object, mask_L: "Tensor", choices: list[list[int]]
) -> list[float]:
    """Summed log-probabilities of each choice's second and later tokens. `cache`: the prompt's, one row per choice."""
    import torch

    longest = max(len(choice) for choice in choices)
    padded = torch.tensor([c + [0] * (longest - len(c)) for c in choices], device=model.device)
    real = torch.tensor([[1] * len(c) + [0] * (longest - len(c)) for c in choices], device=model.device)
    steps = torch.arange(longest - 1, device=model.device)
    out = model(
        input_ids=padded[:, :-1],
        attention_mask=torch.cat([mask_L.expand(len(choices), -1), real[:, :-1]], dim=1),
        position_ids=(mask_L.sum() + steps).expand(len(choices), -1),
        past_key_values=cache,
        use_cache=True,
    )
    logps = torch.log_softmax(out.logits.float(), dim=-1).gather(-1, padded[:, 1:, None])[..., 0]
    return [float(x) for x in (logps * real[:, 1:]).sum(-1)]
