"""The files of a model's folder that are loaded: regular ones of its own, JSON objects, and whole safetensors.

A folder may come from a stranger: an index may name a file elsewhere or a pickle, a configuration may be a FIFO, a file
of weights may be cut. Those are errors here, before transformers opens anything.
"""

import io
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from harness import outside
from harness.errors import ModelError
from harness.printable import printable

CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
TEMPLATES_FOLDER = "additional_chat_templates"
_WEIGHTS, _INDEX, _MODULES = "model.safetensors", "model.safetensors.index.json", "modules.json"
_TOKENIZERS = re.compile(
    r"tokenizer\.json|tokenizer_config\.json|vocab\.(json|txt|bpe)|.*\.(model|tiktoken|spm|bpe)|tekken\.json"
)
_NEVER_LOADED = re.compile(
    r"md|rst|py|pyc|ipynb|sh|ya?ml|toml|cfg|ini|lock|log|out|err|jsonl|csv|tsv|parquet|arrow|html|pdf|png|jpe?g|gif|svg"
    r"|webp|mp4|bin|pt|pth|ckpt|h5|msgpack|onnx|gguf|ot|npz|npy|tar|gz|zip|tgz|bak|orig|tmp|swp|asc|sig|sha256|md5|\d+",
    re.IGNORECASE,
)
"""Endings of what lies beside a model: documents, code, logs, and weights in formats that aren't loaded."""
_OPTIONAL_JSON = ("generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_DISTRIBUTED = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")
_LARGEST_HEADER = 32 << 20
_LARGEST_FILE = 512 << 20
"""Bytes of the largest file without weights: tokenizers have up to 40 MB."""


class Tensor(NamedTuple):
    """A tensor as the header of its file describes it. `bytes`: its size there."""

    shape: tuple[int, ...]
    bytes: int


def check_files(folder: Path, with_tokenizer: bool = True) -> None:
    """Check what can be seen without comparing weights: files, JSON, index and headers. Raises ModelError."""
    if not folder.is_dir():
        raise ModelError(f"model folder {folder} does not exist; expected a folder with config.json and safetensors")
    if not any((folder / name).exists() for name in (CONFIG, ADAPTER_CONFIG)):
        raise ModelError(f"model folder {folder} has no config.json (or adapter_config.json); expected a saved model")
    if not any(folder.glob("*.safetensors")) and not (folder / _INDEX).exists():
        pickled = next((p.name for p in sorted(folder.glob("*.bin"))), None)
        beside = f" ({pickled} is a pickle, which may run code, and is not loaded)" if pickled else ""
        raise ModelError(f"model folder {folder} has no *.safetensors file{beside}; save it with safe serialization")
    check_regular(folder)
    if with_tokenizer and not any(_TOKENIZERS.fullmatch(path.name) for path in loaded_files(folder)):
        raise ModelError(f"model folder {folder} has no tokenizer; expected tokenizer.json, vocab.json or a *.model")
    if is_whole(folder):
        tensors(weight_files(folder), folder)
    if is_adapter(folder):
        tensors([folder / ADAPTER_WEIGHTS], folder)


def check_regular(folder: Path) -> None:
    """Check that all files that may be loaded can be opened and lie in the folder, and that those of JSON are objects:
    of a model, or of a tokenizer alone. Raises ModelError."""
    if not folder.is_dir():
        raise ModelError(f"model folder {folder} does not exist; expected a folder with config.json and safetensors")
    for path in loaded_files(folder):
        with opened(path, folder) as file:
            size = os.fstat(file.fileno()).st_size
        if size > _LARGEST_FILE and path.suffix != ".safetensors":
            raise ModelError(f"{path} has {size:,} bytes; expected at most {_LARGEST_FILE:,} beside the weights")
    for name in (CONFIG, ADAPTER_CONFIG, *_OPTIONAL_JSON):
        if (folder / name).exists():
            read_object(folder / name, folder)


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds a PEFT adapter."""
    return (folder / ADAPTER_CONFIG).exists()


def is_whole(folder: Path) -> bool:
    """Whether the folder holds a whole model, perhaps with an adapter beside it. The folders of adapters may hold a
    copy of their base's configuration, without its weights."""
    if not (folder / CONFIG).exists():
        return False
    names = {path.name for path in folder.glob("*.safetensors*")}
    return not is_adapter(folder) or bool(names & {_WEIGHTS, _INDEX})


def read_object(path: Path, folder: Path) -> dict[str, Any]:
    """The JSON object in a file of the folder. Infinity and NaN are allowed, as some models' configurations have them.
    Raises ModelError."""
    try:
        with opened(path, folder) as file:
            data = file.read(outside.LARGEST_TEXT + 1)
        if len(data) > outside.LARGEST_TEXT:
            raise ModelError(f"{path} has more than {outside.LARGEST_TEXT:,} bytes; expected a smaller file")
        value = outside.parse_json(data, nan="keep")
    except ValueError as error:
        raise ModelError(f"{path} is not JSON ({printable(str(error), 200)}); save the model again") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} is not a JSON object; save the model again")
    return value


def opened(path: Path, folder: Path) -> io.BufferedReader:
    """A file of the folder, open for reading. Raises ModelError."""
    try:
        return outside.open_file(path, _hub_blobs(path) or folder)
    except OSError as error:
        raise ModelError(f"{printable(str(path))} can't be read: {error.strerror}") from None


def _hub_blobs(path: Path) -> Path | None:
    """The folder of blobs in the user's Hugging Face cache that a link leads into: downloads into a folder of one's own
    may leave such links. None for everything else."""
    if not path.is_symlink():
        return None
    from huggingface_hub.constants import HF_HUB_CACHE

    blobs = path.resolve().parent
    return blobs if blobs.name == "blobs" and blobs.is_relative_to(Path(HF_HUB_CACHE).resolve()) else None


def loaded_files(folder: Path) -> list[Path]:
    """The files of the folder that loading a model, tokenizer or adapter may read, sorted by their paths: those at its
    top that are not known as something else, shards and templates below it, and the parts of an embedding model."""
    files = set(_may_be_loaded(folder.iterdir()))
    files |= set(_may_be_loaded((folder / TEMPLATES_FOLDER).glob("*")))
    if (folder / CONFIG).exists():
        files |= {path for path in weight_files(folder) if path.parent != folder}
    for part in embedding_parts(folder):
        files |= set(_may_be_loaded(part.rglob("*")))
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


def _may_be_loaded(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        named = path.suffix and not path.name.startswith(".")
        if named and not _NEVER_LOADED.fullmatch(path.suffix[1:]) and not path.is_dir():
            yield path


def embedding_parts(folder: Path) -> list[Path]:
    """The sub-folders that `modules.json` of sentence-transformers names, if there is one. Raises ModelError."""
    path = folder / _MODULES
    if not path.exists():
        return []
    try:
        with opened(path, folder) as file:
            modules = outside.parse_json(file.read(outside.LARGEST_SETTINGS))
        parts = [_inside(folder, module["path"], path) for module in modules if module["path"]]
        return [part for part in parts if not part.is_symlink()]
    except (ValueError, TypeError, KeyError):
        raise ModelError(f"{path}: expected a list of the parts of an embedding model") from None


def _inside(folder: Path, name: Any, source: Path) -> Path:
    """The path in the folder that a file of it names. Raises ModelError."""
    pure = PurePosixPath(name) if isinstance(name, str) and "\\" not in name and "\0" not in name else None
    if pure is None or pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise ModelError(f"{source} names {printable(repr(name), 80)}: expected a path inside the folder")
    return folder / pure


def weight_files(folder: Path) -> list[Path]:
    """The files of a whole model's weights, as transformers chooses them. Raises ModelError."""
    if shard := next((p for p in sorted(folder.glob("shard-*")) if _DISTRIBUTED.fullmatch(p.name)), None):
        raise ModelError(f"{shard} is a part of a distributed checkpoint; save the whole model with save_pretrained")
    named = read_object(folder / CONFIG, folder).get("transformers_weights")
    if named is not None:
        path = _inside(folder, named, folder / CONFIG)
    else:
        path = folder / _WEIGHTS
        if not path.exists() and (folder / _INDEX).exists():
            path = folder / _INDEX
    if not path.name.endswith(".json"):
        return [_safetensors(path, folder / CONFIG)]
    weight_map = read_object(path, folder).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(f"{path} has no weight_map; expected one from tensors to files")
    names = sorted({name if isinstance(name, str) else repr(name) for name in weight_map.values()})
    files = [_safetensors(_inside(folder, name, path), path) for name in names]
    if missing := [file.name for file in files if not file.exists()]:
        listed = printable(", ".join(missing[:3]), 200)
        raise ModelError(f"{path} names {len(missing)} of {len(files)} files that are missing ({listed}); fetch them")
    return files


def _safetensors(path: Path, source: Path) -> Path:
    if path.suffix != ".safetensors":
        raise ModelError(f"{source} names {printable(path.name, 80)} as weights; only safetensors are loaded")
    return path


def tensors(files: Iterable[Path], folder: Path) -> dict[str, Tensor]:
    """The tensors in files of weights, from their headers. Raises ModelError, also for a file that is cut."""
    return {name: tensor for path in files for name, tensor in _header(path, folder).items()}


def _header(path: Path, folder: Path) -> dict[str, Tensor]:
    bad = ModelError(f"{path} is not a safetensors file, or is truncated; save or fetch it again")
    with opened(path, folder) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= min(_LARGEST_HEADER, size - 8):
            raise bad
        text = file.read(length)
    try:
        entries = {name: entry for name, entry in json.loads(text).items() if name != "__metadata__"}
        described = {name: _tensor(entry) for name, entry in entries.items()}
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise bad from None
    if 8 + length + end != size:
        raise bad
    return described


def _tensor(entry: dict[str, Any]) -> Tensor:
    shape, (begin, end) = entry["shape"], entry["data_offsets"]
    if not all(isinstance(n, int) and n >= 0 for n in (*shape, begin, end)) or end < begin:
        raise ValueError("not a tensor")
    return Tensor(tuple(shape), end - begin)
