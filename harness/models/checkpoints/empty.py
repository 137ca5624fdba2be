"""A model without the values of its weights, for a process that gets its part of them from another one."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel


def without_values(auto: Any, config: "PretrainedConfig", dtype: "torch.dtype") -> "PreTrainedModel":
    """A model of a configuration, whose weights have addresses but no values: memory that nobody touches takes no room.
    Buffers that no checkpoint holds, such as those of rotary embeddings, have their values. `auto`: one of
    transformers' classes for all kinds of models."""
    import torch

    with torch.device("meta"):
        kind = type(auto.from_config(config, trust_remote_code=False))
    model: PreTrainedModel = kind.from_pretrained(None, config=config, state_dict={}, dtype=dtype)
    # accelerate tells the weights of an optimizer apart by their addresses, and those on the device `meta` have none.
    placed: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False, remove_duplicate=False)):
            if id(weight) not in placed:
                empty = torch.empty_like(weight, device="cpu")
                placed[id(weight)] = torch.nn.Parameter(empty, requires_grad=weight.requires_grad)
            setattr(module, name, placed[id(weight)])
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_meta:
                module.register_buffer(name, torch.empty_like(buffer, device="cpu"))
    return model
