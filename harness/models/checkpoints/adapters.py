"""PEFT adapters: which base they are for, and whether their weights are those that their configuration describes."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.errors import ModelError
from harness.models.builtin.fetch import BUILTIN, builtin_name
from harness.models.checkpoints.complete import complain, quiet, readable
from harness.models.checkpoints.folder import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    is_adapter,
    is_whole,
    read_object,
    tensors,
)
from harness.models.checkpoints.sizes import check_sizes
from harness.printable import printable

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Base(NamedTuple):
    """The model that an adapter is for: a built-in name, a folder or a hub id, as in a recipe."""

    model: str
    revision: str | None


def settings(folder: Path) -> dict[str, Any]:
    """The adapter's configuration, without anything that names code or other adapters. Raises ModelError."""
    path = folder / ADAPTER_CONFIG
    config = read_object(path, folder)
    check_sizes(config, path)
    mapping = config.get("auto_mapping") or {}
    library = mapping.get("parent_library") if isinstance(mapping, dict) else mapping
    if library is not None and not str(library).startswith(("transformers.", "peft.")):
        raise ModelError(f"{path}: auto_mapping names code, {printable(repr(library), 80)}; only transformers' is used")
    if config.get("megatron_config") or config.get("megatron_core") not in (None, "megatron.core"):
        raise ModelError(f"{path}: megatron_core names code; expected an adapter for a model of transformers")
    if str(config.get("peft_type")).upper() == "XLORA":
        raise ModelError(f"{path}: X-LoRA names further adapters and is not supported; merge it into its base first")
    return config


def name_base(folder: Path, model: str, revision: str | None) -> None:
    """Make an adapter that was saved in a folder name its base so that it is found on another machine and after a move:
    by its built-in name or hub id, or by its folder relative to the adapter's. PEFT's card is removed: it is blank but
    for the base's path. (`harness.pipeline.export` writes one that is filled.)"""
    name = os.path.relpath(Path(model).resolve(), folder.resolve()) if Path(model).is_absolute() else model
    path = folder / ADAPTER_CONFIG
    config = read_object(path, folder) | {"base_model_name_or_path": name, "revision": revision}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (folder / "README.md").unlink(missing_ok=True)


def base_of(folder: Path) -> Base:
    """The base that an adapter's configuration names. A name that begins with a dot is relative to the adapter's
    folder. Raises ModelError."""
    config = settings(folder)
    name, revision = config.get("base_model_name_or_path"), config.get("revision")
    path = folder / ADAPTER_CONFIG
    if not isinstance(name, str) or not name or not isinstance(revision, str | None):
        raise ModelError(f"{path} names no base model; set base_model_name_or_path to a folder or a hub id")
    if (builtin := builtin_name(Path(name).name)) is not None:
        return Base(builtin, None)  # it lies in another folder on every machine
    if name in BUILTIN:
        return Base(name, None)
    if name.startswith("."):
        name = str((folder / name).resolve())
    if Path(name).is_absolute() and not Path(name).is_dir():
        raise ModelError(f"{path}: there is no base model in {name}; set base_model_name_or_path to its folder")
    if Path(name).is_dir():
        name = str(Path(name).absolute())
        if is_adapter(Path(name)) and not is_whole(Path(name)):
            raise ModelError(f"adapter {folder} is for the adapter {name}; expected one for a whole model")
    return Base(name, None if Path(name).is_absolute() else revision)


def outputs_of(folder: Path) -> int | None:
    """The number of outputs of a classifier's head that is saved with the adapter; None if there is none."""
    for name, tensor in tensors([folder / ADAPTER_WEIGHTS], folder).items():
        if name.endswith((".score.weight", ".classifier.weight", ".classifier.out_proj.weight")):
            return tensor.shape[0]
    return None


def saves_embeddings(folder: Path) -> bool:
    """Whether embeddings are saved with the adapter: it may have more of them than its base."""
    return any("embed" in name or "wte" in name for name in tensors([folder / ADAPTER_WEIGHTS], folder))


def check_adapter(folder: Path, base: "PreTrainedModel") -> None:
    """Check an adapter's weights against its configuration and its base. `base`: without content (`skeleton`); it is
    changed. Raises ModelError."""
    import torch
    from peft import PeftConfig, get_peft_model_state_dict

    settings(folder)
    stored = {name: tensor.shape for name, tensor in tensors([folder / ADAPTER_WEIGHTS], folder).items()}
    own = {name: tuple(weight.shape) for name, weight in base.state_dict().items()}
    with readable(str(folder)), quiet():
        config = PeftConfig.from_pretrained(str(folder))
        with torch.device("meta"):
            model = _with_peft(base, config)
        state = get_peft_model_state_dict(model, save_embedding_layers=False)
    wanted = {name: tuple(weight.shape) for name, weight in state.items()}
    # Embeddings of the base may be saved with an adapter that leaves them as they are.
    for name in stored.keys() - wanted.keys():
        plain = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
        if plain in own and config.peft_type:
            wanted[name] = own[plain]
    mismatched = {
        name: (stored[name], wanted[name]) for name in stored.keys() & wanted.keys() if stored[name] != wanted[name]
    }
    missing, unexpected = wanted.keys() - stored.keys(), stored.keys() - wanted.keys()
    if (missing or unexpected) and not mismatched and _peft_accepts(model, stored):
        return  # an adapter saved with other names for the same weights
    complain(f"adapter '{folder}'", missing, unexpected, mismatched)


def _with_peft(base: Any, config: Any) -> Any:
    from peft import PeftModel
    from peft.auto import MODEL_TYPE_TO_PEFT_MODEL_MAPPING

    return MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(config.task_type, PeftModel)(base, config)


def _peft_accepts(model: Any, stored: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether PEFT, after its own renaming, has a place for every tensor and a tensor for every place."""
    import torch
    from peft import set_peft_model_state_dict

    state = {name: torch.empty(shape, device="meta") for name, shape in stored.items()}
    try:
        with quiet():
            result = set_peft_model_state_dict(model, state)
    except (KeyError, ValueError, RuntimeError):
        return False
    return not result.unexpected_keys and not any(".default" in key for key in result.missing_keys)
