"""Models: names become folders, and folders become transformers models. Safetensors only, no remote code.

A model in a recipe is a built-in name (`BUILTIN`), a local folder, or a hub id. Only functions here load weights.
"""

import contextlib
import hashlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.builtin_models import BUILTIN, builtin_folder
from harness.errors import ModelError, nearest, quoted
from harness.memo import once
from harness.paths import cache_root

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Dtype = Literal["float32", "bfloat16", "float16"]

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "spiece.model")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def check(model: str, revision: str | None = None) -> None:
    """A cheap look at a model's name or folder. Raises ModelError."""
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
            raise ModelError(f"{path} is not a safetensors file, or was cut; save the model again")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise ModelError(f"{path} is not JSON ({error}); save the model again") from None
    if not isinstance(config, dict):
        raise ModelError(f"{path} is not a JSON object; save the model again")
    return config


def check_classifier(model: str, revision: str | None = None) -> None:
    """`check`, and that the model was saved as a sequence classifier: its head would be random otherwise. Raises
    ModelError."""
    check(model, revision)
    if model in BUILTIN:
        raise ModelError(f"'{model}' is no reward model; train one on it with {{name: trained, base: {model}}}")
    config = Path(model) / "config.json" if Path(model).is_absolute() else _hub_config(model, revision)
    if config.exists():
        architectures = _read_config(config).get("architectures") or []
        if not any(str(a).endswith("ForSequenceClassification") for a in architectures):
            saved = ", ".join(map(str, architectures)) or "nothing of its architecture"
            raise ModelError(f"'{model}' is no reward model: saved as {saved}, expected ...ForSequenceClassification")


def _hub_config(model: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import logging as hub_logging

    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # its retries would stand around our one line
    try:
        return Path(hf_hub_download(model, "config.json", revision=revision))
    except Exception as error:  # network, access and not-found errors come in many classes
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        at = f" at revision {revision}" if revision else ""
        reason = f"hub model '{model}'{at} can't be read ({first})"
        raise ModelError(f"{reason}; check the id, the network, HF_TOKEN") from None


def identity(model: str, revision: str | None = None) -> dict[str, Any]:
    """What a model is, whatever its path: part of stage keys and of a board row's provenance. A hub id is named with
    the commit that its revision stands for, as far as the hub's cache on this machine knows it."""
    return once(("model", model, revision), lambda: _identity(model, revision))


def _identity(model: str, revision: str | None) -> dict[str, Any]:
    if model in BUILTIN:
        return {"model": model, "sha256": BUILTIN[model].sha256}
    if Path(model).is_absolute():
        return {"model": Path(model).name, "sha256": _folder_hash(Path(model))}
    return {"model": model, "revision": _commit(model, revision) or revision or "main"}


def _commit(model: str, revision: str | None) -> str | None:
    """The commit that the cached config.json of a hub model belongs to."""
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(model, "config.json", revision=revision)
    return Path(cached).parent.name if isinstance(cached, str) else None


def _folder_hash(folder: Path) -> str:
    """SHA-256 over names and contents of a model folder's files, remembered by size and modification time."""
    files = sorted(p for p in folder.iterdir() if p.suffix in {".safetensors", ".json", ".jinja", ".txt", ".model"})
    stamp = json.dumps([[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in files])
    remembered = cache_root() / "model-hashes" / hashlib.sha256(f"{folder}{stamp}".encode()).hexdigest()
    if remembered.exists():
        return remembered.read_text()
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            total.update(f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    with contextlib.suppress(OSError):  # on a full or read-only disk it is computed again
        remembered.parent.mkdir(parents=True, exist_ok=True)
        scratch = remembered.with_suffix(f".{os.getpid()}")
        scratch.write_text(total.hexdigest())
        os.replace(scratch, remembered)
    return total.hexdigest()


def local_path(model: str) -> str:
    """What `from_pretrained` takes: a folder or a hub id. A built-in model is fetched and converted on first use."""
    return str(builtin_folder(model)) if model in BUILTIN else model


def device() -> "torch.device":
    """The accelerator where there is one, else the CPU."""
    import torch

    # A build for CUDA names its accelerator on a machine that has none.
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


def load_tokenizer(model: str, revision: str | None = None) -> "PreTrainedTokenizerBase":
    """The model's tokenizer; one without a padding token pads with its end token."""
    from transformers import AutoTokenizer

    with _readable(model):
        tokenizer = AutoTokenizer.from_pretrained(local_path(model), revision=revision, trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_causal_lm(
    model: str, revision: str | None = None, dtype: Dtype = "bfloat16", bits: Literal[4, 8] | None = None
) -> "PreTrainedModel":
    """A causal language model in evaluation mode, on the device. A folder with a PEFT adapter loads with its base.
    `bits`: its linear layers quantised by bitsandbytes, as nf4 with double quantisation (4) or LLM.int8 (8)."""
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
        # On some CPUs the first forward without gradients would repack a layer for a kernel that has none: training
        # that follows would go wrong without a word.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return loaded


def load_sequence_classifier(
    model: str, revision: str | None = None, dtype: Dtype = "bfloat16", num_labels: int | None = None
) -> "PreTrainedModel":
    """A sequence classifier (reward model) in evaluation mode, on the device. `num_labels`: for a new head."""
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
    # A quantised model is on its device from the start, and refuses to be moved.
    return loaded.eval() if "quantization_config" in options else loaded.to(device()).eval()


class _readable:
    """Turns what transformers raises on a bad model folder or hub id into a one-line ModelError."""

    def __init__(self, model: str) -> None:
        self.model = model

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        from safetensors import SafetensorError

        if isinstance(error, (OSError, ValueError, KeyError, RuntimeError, SafetensorError)):
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelError(f"model '{self.model}' can't be loaded: {first}") from error
