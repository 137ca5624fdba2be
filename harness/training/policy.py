"""The policy as a module to train, and as a folder that transformers loads.

LoRA: the base is frozen in the recipe's dtype. Adapters are float32, and their matrix products use the base's dtype.
Full fine-tuning: weights are float32, because half precision loses updates as small as those of preference training.
Their products are in bfloat16 if the recipe's dtype is a half-precision one and this machine is good at bfloat16.
"""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase, set_seed

from harness.errors import ModelError
from harness.models.checkpoints.adapters import name_base
from harness.models.checkpoints.folder import is_adapter
from harness.models.checkpoints.saving import follow_umask
from harness.models.load import load_causal_lm, refuse_adapter
from harness.models.lora import round_once
from harness.models.processor import bfloat16_here
from harness.recipe.policy import Policy
from harness.recipe.training import Lora


def load_policy(policy: Policy, lora: Lora | None, seed: int, adapter: Path | None = None) -> Any:
    """The policy on the device, with dropout off. `lora` None: all weights are trained. `adapter`: the folder of the
    one whose training goes on; None: a new one."""
    model = load_untrained(policy, lora)
    set_seed(seed)
    if lora is None:
        return model.requires_grad_(True)
    model = _with_lora(model, policy, lora)
    if adapter is not None:
        take_weights(model, adapter)
    return model


def take_weights(model: Any, adapter: Path) -> None:
    """Give the adapter of a model the weights of the one in a folder. Raises ModelError unless it has all of them, and
    no others."""
    from peft import set_peft_model_state_dict
    from peft.utils import load_peft_weights

    loaded = set_peft_model_state_dict(model, load_peft_weights(str(adapter), device="cpu"))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if wrong := sorted([*loaded.unexpected_keys, *trained.intersection(loaded.missing_keys)]):
        raise ModelError(f"{adapter}: not the adapter of this training: {wrong[0]} doesn't fit; train it again")


def load_untrained(policy: Policy, lora: Lora | None) -> Any:
    """The policy in the dtype that `lora` or full fine-tuning needs, with dropout off, before any adapter is added."""
    bits = lora.bits if lora else None
    refuse_adapter(policy.model, policy.revision)
    model = load_causal_lm(policy.model, policy.revision, policy.dtype if lora else "float32", bits)
    disable_dropout(model)
    return model


def disable_dropout(model: nn.Module) -> None:
    """Set every dropout of the model, and the noise of routers in training, to 0: its log-probabilities are compared
    with the reference's."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            if ("drop" in name or "jitter" in name) and isinstance(value, float):
                setattr(module, name, 0.0)


def lora_config(policy: Policy, lora: Lora, model: nn.Module) -> Any:
    """PEFT's configuration of the recipe's adapters of a model. `all-linear` leaves out routers that return more than
    a linear layer's output, which an adapter can't be added to."""
    from peft import LoraConfig

    routers = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and "Router" in type(m).__name__]
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha or 2 * lora.r,
        lora_dropout=lora.dropout,
        target_modules=_targets(lora),
        exclude_modules=(lora.target_modules == "all-linear" and routers) or None,
        bias="none",
        task_type="CAUSAL_LM",
        revision=policy.revision,
    )


def _targets(lora: Lora) -> str | list[str]:
    return lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)


def _with_lora(model: Any, policy: Policy, lora: Lora) -> Any:
    from peft import get_peft_model

    try:
        return round_once(get_peft_model(model, lora_config(policy, lora, model)))
    except ValueError as error:
        first, targets = str(error).strip().splitlines()[0], _targets(lora)
        raise ModelError(f"policy {policy.model}: LoRA on target_modules {targets} is not possible: {first}") from error


def autocast_dtype(policy: Policy, lora: Lora | None) -> torch.dtype | None:
    """The dtype of matrix products in training; None if it is that of the trained weights."""
    if policy.dtype == "float32":
        return None
    if lora is None:
        return torch.bfloat16 if bfloat16_here().good else None
    dtype: torch.dtype = getattr(torch, policy.dtype)
    return dtype


def products(autocast: torch.dtype | None) -> str:
    """What a training's report says of the dtype of its matrix products."""
    return str(autocast or torch.float32).removeprefix("torch.")


def uncast_adapter_inputs(model: nn.Module, dtype: torch.dtype | None) -> AbstractContextManager[None]:
    """While open, adapters don't cast their inputs to float32: autocasting to `dtype` suffices, and saves a float32
    copy of every layer's input. Does nothing for `dtype` None or a model without adapters."""
    from peft import PeftModel
    from peft.helpers import disable_input_dtype_casting

    if dtype is None or not isinstance(model, PeftModel):
        return nullcontext()
    context: AbstractContextManager[None] = disable_input_dtype_casting(model)
    return context


def trainable_parameters(model: nn.Module) -> int:
    """The number of trained weights."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def save_policy(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    base: Policy,
    weights: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write a folder with the tokenizer and, as safetensors, a whole model, or an adapter that names its base. `base`:
    what training started from. `weights`: the model's, if they are not those that it holds."""
    model.eval()
    with torch.no_grad():
        model.save_pretrained(folder, state_dict=weights)
    if is_adapter(folder):
        name_base(folder, base.model, base.revision)
    tokenizer.save_pretrained(folder)
    follow_umask(folder)
