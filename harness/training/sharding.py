"""Models sharded over processes that each hold a part of every weight: PyTorch's FSDP 2, by accelerate.

The first process reads the weights and hands out the parts; the others never hold a whole model. accelerate shards on
accelerators only: on a CPU the same configuration gives DDP.
"""

import logging
import os
from datetime import timedelta
from typing import Any

import torch
from torch import nn

_log = logging.getLogger(__name__)

LONGEST_WAIT = timedelta(days=1)
"""How long a process of a pass that is done waits for the others: a long batch may keep them."""
_FSDP, _FIRST_LOADS = "ACCELERATE_USE_FSDP", "FSDP_CPU_RAM_EFFICIENT_LOADING"
"""Variables that `accelerate launch` sets and transformers reads."""
SHARDING = {"cuda", "xpu", "npu", "mlu", "musa", "hpu"}
"""Kinds of device on which accelerate shards."""


def is_sharded() -> bool:
    """Whether the models of this process are parts."""
    return os.environ.get(_FSDP, "").lower() == "true" and _kind() in SHARDING


def connect(*, whole: bool = False, **options: Any) -> Any:
    """Connect this process to the others, before any model is loaded: only then do the others leave the weights to the
    first. `whole`: each loads whole models. Returns accelerate's PartialState, which gets `options`."""
    from accelerate import PartialState

    if whole or not is_sharded():
        os.environ[_FIRST_LOADS] = "false"
    return PartialState(cpu=_kind() == "cpu", **options)


def shard(model: nn.Module) -> Any:
    """The model with its weights sharded, for forward passes. Each process must run as many as the others."""
    from accelerate import Accelerator
    from accelerate.utils import fsdp2_prepare_model

    return fsdp2_prepare_model(Accelerator(cpu=_kind() == "cpu"), model).eval()


def communicate_in(dtype: torch.dtype, accelerator: Any) -> None:
    """Gather float32 weights, and add up their gradients over processes, in `dtype`: half of the traffic. Matrix
    products are autocast to it anyway. The weights that are updated stay in float32."""
    from torch.distributed.fsdp import MixedPrecisionPolicy

    _log.info("weights are gathered, and gradients added up, in %s", dtype)
    accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=dtype)


def _kind() -> str:
    return torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu"  # type: ignore[union-attr]
