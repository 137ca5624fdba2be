"""Saved models with something wrong, or another way of being right, in their files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Weights = dict[str, torch.Tensor]


def edit_weights(folder: Path, edit: Callable[[Weights], Weights], file: str = "model.safetensors") -> None:
    """Save a file of weights again after `edit`."""
    weights = edit(load_file(folder / file))
    (folder / file).unlink()
    save_file(weights, folder / file, {"format": "pt"})


def drop(*parts: str) -> Callable[[Weights], Weights]:
    """Leave out the weights whose name contains one of these parts."""
    return lambda weights: {name: w for name, w in weights.items() if not any(part in name for part in parts)}


def edit_json(folder: Path, file: str, **fields: Any) -> None:
    """Set fields of a JSON file; a field that is None is removed."""
    path = folder / file
    data = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))


def into_shards(folder: Path, files: list[str]) -> None:
    """Spread the weights over files that an index names."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: files[i % len(files)] for i, name in enumerate(weights)}
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        save_file({name: weights[name] for name in weights if places[name] == file}, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
