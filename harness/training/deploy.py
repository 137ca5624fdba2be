"""Writes the results of a training: the deployed policy, and what was trained where that is not the same."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from harness.models.checkpoints.folder import CONFIG
from harness.models.load import Dtype, load_causal_lm, with_adapter
from harness.recipe.policy import Policy
from harness.recipe.training import Training
from harness.training.checkpoint import CHECKPOINT, TRAINED
from harness.training.policy import save_policy
from harness.training.rounding import rounded_weights


def save_result(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    artifact: Path,
    start: Policy,
    training: Training,
    *,
    dtype: Dtype,
    seed: int,
    weights: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write `CHECKPOINT`, and `TRAINED` where weights are rounded. `start`: what training started from. `dtype`: of the
    deployed weights of a whole model; `seed`: of their rounding. `weights`: sharded weights, gathered from all
    processes."""
    if training.lora is None:
        save_whole(model, tokenizer, artifact, start, dtype=dtype, seed=seed, weights=weights)
    elif not training.merge:
        save_policy(model, tokenizer, artifact / CHECKPOINT, start, weights)
    else:
        adapter = artifact / TRAINED
        save_policy(model, tokenizer, adapter, start, weights)
        save_in(dtype, merged(start, adapter), tokenizer, artifact / CHECKPOINT, start, seed)
        if dtype == "float32":
            shutil.rmtree(adapter)


def save_fine_tuned(
    model: Any, tokenizer: PreTrainedTokenizerBase, artifact: Path, start: Policy, training: Training, *, seed: int
) -> None:
    """The same for supervised fine-tuning, whose adapters are always merged: other trainings start from a whole
    model."""
    if training.lora:
        with tempfile.TemporaryDirectory(dir=artifact) as folder:
            save_policy(model, tokenizer, Path(folder), start)
            model = merged(start, Path(folder))
    save_whole(model, tokenizer, artifact, start, dtype=start.dtype, seed=seed)


def save_whole(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    artifact: Path,
    start: Policy,
    *,
    dtype: Dtype,
    seed: int,
    weights: dict[str, torch.Tensor] | None = None,
) -> None:
    """The same for a whole model, which is in float32."""
    if dtype != "float32":
        save_policy(model, tokenizer, artifact / TRAINED, start, None if weights is None else dict(weights))
    save_in(dtype, model, tokenizer, artifact / CHECKPOINT, start, seed, weights)


def merged(start: Policy, adapter: Path) -> Any:
    """The whole model in float32 with the adapter in a folder merged into its weights. The adapter of a quantised base
    is merged into the weights that were quantised."""
    # First in the dtype of the base that the adapter was trained on: a model's own weights may be in a wider one.
    base = load_causal_lm(start.model, start.revision, start.dtype).float()
    return with_adapter(base, adapter).merge_and_unload()


def save_in(
    dtype: Dtype,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    start: Policy,
    seed: int,
    weights: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write a whole model, which is in float32, into a folder in a dtype: rounded stochastically to a half-precision
    one, by random numbers that depend on `seed`."""
    if dtype == "float32":
        save_policy(model, tokenizer, folder, start, weights)
        return
    exact = model.state_dict() if weights is None else weights
    save_policy(model, tokenizer, folder, start, rounded_weights(model, exact, getattr(torch, dtype), seed))
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config["dtype"] = dtype  # transformers writes that of the weights that the model holds
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
