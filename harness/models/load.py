"""Loading transformers models and tokenizers by name. Safetensors only, no remote code.

A model in a recipe is a built-in name (`BUILTIN`), a local folder, or a hub id. Weights are loaded only here.
"""

import contextlib
import hashlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import ModelError, nearest, quoted
from harness.files import cache_root
from harness.memo import once
from harness.models.builtin import BUILTIN, builtin_folder

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Dtype = Literal["float32", "bfloat16", "float16"]

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "spiece.model")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def check(model: str, revision: str | None = None) -> None:
    """Check a model's name or folder without loading it. Raises ModelError."""
    if model in BUILTIN:
        return
    folder = Path(model)
    if folder.is_absolute():
        _check_folder(folder)
    elif not _HUB_ID.fullmatch(model):
        kinds = "a built-in name, a folder with a config.json, or a hub id (owner/name)"
        raise ModelError(f"unknown model {quoted(model)}: expected {kinds}; {nearest(model, BUILTIN)}")
    else:
        _hub_config(model, revision)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise ModelError(f"model folder {folder} does not exist; expected a folder with config.json and safetensors")
    configs = [folder / name for name in ("config.json", "adapter_config.json") if (folder / name).exists()]
    if not configs:
        raise ModelError(f"model folder {folder} has no config.json (or adapter_config.json); expected a saved model")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ModelError(f"model folder {folder} has no *.safetensors file; save it with safe serialization")
    if not any((folder / name).exists() for name in TOKENIZER_FILES):
        raise ModelError(f"model folder {folder} has no tokenizer; expected one of {', '.join(TOKENIZER_FILES)}")
    for config in configs:
        _read_config(config)
    for path in weights:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = file.read(length) if 0 < length < path.stat().st_size else b""
        if not header.startswith(b"{"):
            raise ModelError(f"{path} is not a safetensors file, or is truncated; save the model again")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise ModelError(f"{path} is not JSON ({error}); save the model again") from None
    if not isinstance(config, dict):
        raise ModelError(f"{path} is not a JSON object; save the model again")
    return config


def check_classifier(model: str, revision: str | None = None) -> None:
    """`check`, and require that the model was saved as a sequence classifier: otherwise its head would be random.
    Raises ModelError."""
    check(model, revision)
    if model in BUILTIN:
        raise ModelError(f"'{model}' is not a reward model; train one from it with {{name: trained, base: {model}}}")
    config = Path(model) / "config.json" if Path(model).is_absolute() else _hub_config(model, revision)
    if config.exists():
        architectures = _read_config(config).get("architectures") or []
        if not any(str(a).endswith("ForSequenceClassification") for a in architectures):
            saved = ", ".join(map(str, architectures)) or "an unnamed architecture"
            raise ModelError(
                f"'{model}' is not a reward model: saved as {saved}, expected ...ForSequenceClassification"
            )


def _hub_config(model: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import logging as hub_logging

    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # its retry messages would surround our one-line error
    try:
        return Path(hf_hub_download(model, "config.json", revision=revision))
    except Exception as error:  # network, access and not-found errors come in many classes
        summary = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        at = f" at revision {revision}" if revision else ""
        reason = f"hub model '{model}'{at} can't be read ({summary})"
        raise ModelError(f"{reason}; check the id, the network, HF_TOKEN") from None


def identity(model: str, revision: str | None = None) -> dict[str, Any]:
    """A model's identity, independent of its path: part of stage keys and of a board row's provenance. A hub id comes
    with the commit of its revision, if this machine's hub cache knows it."""
    return once(("model", model, revision), lambda: _identity(model, revision))


def _identity(model: str, revision: str | None) -> dict[str, Any]:
    if model in BUILTIN:
        return {"model": model, "sha256": BUILTIN[model].sha256}
    if Path(model).is_absolute():
        return {"model": Path(model).name, "sha256": _folder_hash(Path(model))}
    return {"model": model, "revision": _commit(model, revision) or revision or "main"}


def _commit(model: str, revision: str | None) -> str | None:
    """The commit of a hub model's cached config.json; None if it isn't cached."""
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(model, "config.json", revision=revision)
    return Path(cached).parent.name if isinstance(cached, str) else None


def _folder_hash(folder: Path) -> str:
    """SHA-256 over the names and contents of a model folder's files, cached by their sizes and modification times."""
    files = sorted(p for p in folder.iterdir() if p.suffix in {".safetensors", ".json", ".jinja", ".txt", ".model"})
    stamp = json.dumps([[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in files])
    cached = cache_root() / "model-hashes" / hashlib.sha256(f"{folder}{stamp}".encode()).hexdigest()
    if cached.exists():
        return cached.read_text()
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            total.update(f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    with contextlib.suppress(OSError):  # a full or read-only disk: it is computed again next time
        cached.parent.mkdir(parents=True, exist_ok=True)
        scratch = cached.with_suffix(f".{os.getpid()}")
        scratch.write_text(total.hexdigest())
        os.replace(scratch, cached)
    return total.hexdigest()


def local_path(model: str) -> str:
    """The argument for `from_pretrained`: a folder or a hub id. Fetches and converts a built-in model on first use."""
    return str(builtin_folder(model)) if model in BUILTIN else model


def device() -> "torch.device":
    """The accelerator if there is one, else the CPU."""
    import torch

    # A CUDA build of torch names an accelerator even on a machine without one.
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")


def load_tokenizer(model: str, revision: str | None = None) -> "PreTrainedTokenizerBase":
    """The model's tokenizer. If it has no padding token, the end-of-sequence token is used for padding."""
    from transformers import AutoTokenizer

    with _readable(model):
        tokenizer = AutoTokenizer.from_pretrained(local_path(model), revision=revision, trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_causal_lm(
    model: str, revision: str | None = None, dtype: Dtype = "bfloat16", bits: Literal[4, 8] | None = None
) -> "PreTrainedModel":
    """A causal language model in evaluation mode, on the device. A folder with a PEFT adapter is loaded with its base
    model. `bits`: linear layers are quantised by bitsandbytes, to nf4 with double quantisation (4) or LLM.int8 (8)."""
    from transformers import AutoModelForCausalLM

    if bits is None:
        return _load(AutoModelForCausalLM, model, revision, dtype)
    import torch
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=bits == 4,
        load_in_8bit=bits == 8,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )
    on = device().type
    here = f"{on}:{torch.accelerator.current_device_index()}" if on != "cpu" else on
    place = {"quantization_config": config, "device_map": {"": here}}
    loaded = _load(AutoModelForCausalLM, model, revision, dtype, **place)
    for module in loaded.modules():
        # On some CPUs the first forward pass without gradients would repack a layer for a kernel that doesn't support
        # them, and later training would silently go wrong.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return loaded


def load_sequence_classifier(
    model: str, revision: str | None = None, dtype: Dtype = "bfloat16", num_labels: int | None = None
) -> "PreTrainedModel":
    """A sequence classifier (reward model) in evaluation mode, on the device. `num_labels`: size of a new head."""
    from transformers import AutoModelForSequenceClassification

    options = {} if num_labels is None else {"num_labels": num_labels}
    return _load(AutoModelForSequenceClassification, model, revision, dtype, **options)


def _load(auto: Any, model: str, revision: str | None, dtype: Dtype, **options: Any) -> "PreTrainedModel":
    import torch

    path = local_path(model)
    with _readable(model):
        loaded = auto.from_pretrained(
            path,
            revision=revision,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            **options,
        )
    # A quantised model is created on its device and can't be moved.
    return loaded.eval() if "quantization_config" in options else loaded.to(device()).eval()


class _readable:
    """Turns errors of transformers about a bad model folder or hub id into a one-line ModelError."""

    def __init__(self, model: str) -> None:
        self.model = model

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        from safetensors import SafetensorError

        if isinstance(error, (OSError, ValueError, KeyError, RuntimeError, SafetensorError)):
            summary = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelError(f"model '{self.model}' can't be loaded: {summary}") from error
