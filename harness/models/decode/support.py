"""Whether a model can be decoded in slots: from its configuration, and by a comparison with its own forward pass."""

import logging
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from harness.models.batching import is_out_of_memory
from harness.models.config import layers, text_config
from harness.models.decode.attention import running, slot_attention
from harness.models.decode.prompts import compute_beginning, compute_prompts
from harness.models.decode.rows import Ending
from harness.models.decode.slots import SlotBatch

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

TOLERANCE = 0.1
"""Largest mean difference of logits, as a share of their standard deviation. Rounding in bfloat16 gives 0.01; wrong
positions or a wrong mask give about 1."""
TEXTS = ((3, 9), (6, 12))
"""Two texts of the comparison: tokens of the prompt, and in all."""

_log = logging.getLogger(__name__)
_checked: "WeakKeyDictionary[PreTrainedModel, bool]" = WeakKeyDictionary()


def decodes_in_slots(model: "PreTrainedModel") -> bool:
    """Whether decoding in slots gives what the model's own forward pass gives."""
    if model not in _checked:
        _checked[model] = _has_plain_attention(model) and _agrees(model)
    return _checked[model]


def _has_plain_attention(model: "PreTrainedModel") -> bool:
    """Whether all layers are attention, over all tokens or those of a sliding window, by the function that
    `transformers` lets others choose."""
    from transformers import PreTrainedModel

    types = set(getattr(text_config(model), "layer_types", None) or ())
    if not types <= {"full_attention", "sliding_attention"}:
        return False
    return all(m._supports_attention_backend for m in model.modules() if isinstance(m, PreTrainedModel))


def _agrees(model: "PreTrainedModel") -> bool:
    import torch

    # Any tokens will do; those with special meanings tend to be the first or the last.
    size = model.get_input_embeddings().weight.shape[0]
    texts = [[(size // 3 + 7 * i + 31 * j) % size for i in range(n)] for j, (_, n) in enumerate(TEXTS)]
    windows: list[int | None] = []
    try:
        with torch.inference_mode():
            expected = [model(input_ids=torch.tensor([ids], device=model.device)).logits[0].float() for ids in texts]
            with slot_attention(model):
                got = _in_slots(model, texts, windows)
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        # What a model's own code raises when it is given another cache than its own.
        if is_out_of_memory(error):
            raise
        _log.debug("%s: not decoded in slots: %s", model.name_or_path, error)
        return False
    finally:
        running.step = running.windows = None
    differences = [
        (logits - whole[prompt - 1 :]).abs().mean() / whole.std()
        for (prompt, _), logits, whole in zip(TEXTS, got, expected, strict=True)
    ]
    return windows == _windows(model) and bool(max(differences) <= TOLERANCE)


def _in_slots(model: "PreTrainedModel", texts: list[list[int]], windows: list[int | None]) -> "list[Tensor]":
    """The logits after each text's prompt and each later token [N - P + 1, V]; notes the windows of all layers."""
    import torch

    batch = SlotBatch(model, Ending(set()), len(texts), max(map(len, texts)))
    logits: list[list[Tensor]] = []
    starts = [prompt for prompt, _ in TEXTS]
    beginning = compute_beginning(model, texts[1][:2])
    prompts = compute_prompts(model, [ids[:start] for ids, start in zip(texts, starts, strict=True)], beginning)
    for slot, (start, computed) in enumerate(zip(starts, prompts, strict=True)):
        batch.place(slot, computed, start)
        logits.append([computed.logits])
    for step in range(TEXTS[0][1] - TEXTS[0][0]):
        places = [start + step for start in starts]
        running.windows = windows if step == 0 else None
        new = batch.logits([ids[at] for ids, at in zip(texts, places, strict=True)], places)
        for row, one in zip(logits, new, strict=True):
            row.append(one)
    return [torch.stack(row).float() for row in logits]


def _windows(model: "PreTrainedModel") -> list[int | None]:
    """The sliding window of each layer, as the configuration has it."""
    types = getattr(text_config(model), "layer_types", None)
    return [
        getattr(layer, "sliding_window", None) if types is None or "sliding" in types[i] else None
        for i, layer in enumerate(layers(model))
    ]
