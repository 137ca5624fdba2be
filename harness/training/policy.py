"""The policy as a module to train, and as a folder that transformers loads.

LoRA: the base stays in the recipe's dtype and is frozen; adapters are held in float32 and take part in that dtype's
products. Full fine-tuning: weights are held in float32, since updates of the size that preference training makes are
lost in half precision; on an accelerator their products are bfloat16 where the recipe's dtype is a half one.
"""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase, set_seed

from harness import models
from harness.errors import ModelError
from harness.recipe import Lora, Policy


def load_policy(policy: Policy, lora: Lora | None, seed: int) -> Any:
    """The policy on the device with its dropout off; `lora` None: all its weights are to be trained."""
    model = load_untrained(policy, lora)
    set_seed(seed)
    return _with_lora(model, policy, lora) if lora else model.requires_grad_(True)


def load_untrained(policy: Policy, lora: Lora | None) -> Any:
    """The policy in the type that `lora` or full fine-tuning needs, its dropout off, before any adapter is added."""
    bits = lora.bits if lora else None
    model = models.load_causal_lm(policy.model, policy.revision, policy.dtype if lora else "float32", bits)
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ModelError(
            f"policy {policy.model} is a PEFT adapter; expected a whole model: merge it into its base first"
        )
    disable_dropout(model)
    return model


def disable_dropout(model: nn.Module) -> None:
    """Set every dropout of the model to 0: the policy's log-probabilities are compared with the reference's."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def lora_config(policy: Policy, lora: Lora) -> Any:
    """PEFT's configuration of the recipe's adapters."""
    from peft import LoraConfig

    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha or 2 * lora.r,
        lora_dropout=lora.dropout,
        target_modules=_targets(lora),
        bias="none",
        task_type="CAUSAL_LM",
        revision=policy.revision,
    )


def _targets(lora: Lora) -> str | list[str]:
    return lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)


def _with_lora(model: Any, policy: Policy, lora: Lora) -> Any:
    from peft import get_peft_model

    try:
        return get_peft_model(model, lora_config(policy, lora))
    except ValueError as error:
        first, targets = str(error).strip().splitlines()[0], _targets(lora)
        raise ModelError(f"policy {policy.model}: LoRA on target_modules {targets} is not possible: {first}") from error


def autocast_dtype(policy: Policy, lora: Lora | None) -> torch.dtype | None:
    """The dtype of the matrix products in training, where it isn't that of the trained weights."""
    if policy.dtype == "float32":
        return None
    if lora is None:
        return None if models.device().type == "cpu" else torch.bfloat16
    found: torch.dtype = getattr(torch, policy.dtype)
    return found


def uncast_adapter_inputs(model: nn.Module, dtype: torch.dtype | None) -> AbstractContextManager[None]:
    """While open, adapters don't turn their inputs into float32: autocasting to `dtype` does what is needed, without
    a float32 copy of every layer's input. For `dtype` None or a model without adapters: nothing."""
    from peft import PeftModel
    from peft.helpers import disable_input_dtype_casting

    if dtype is None or not isinstance(model, PeftModel):
        return nullcontext()
    context: AbstractContextManager[None] = disable_input_dtype_casting(model)
    return context


def trainable_parameters(model: nn.Module) -> int:
    """How many weights are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def save_policy(
    model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path, weights: dict[str, torch.Tensor] | None = None
) -> None:
    """Write a folder that `AutoModelForCausalLM.from_pretrained` loads: an adapter that names its base, or a whole
    model; as safetensors, with the tokenizer. `weights`: gathered from all processes, where they are sharded."""
    model.eval()
    with torch.no_grad():
        model.save_pretrained(folder, state_dict=weights)
    tokenizer.save_pretrained(folder)
