"""Models and tokenizers by name: checked, identified and loaded. Safetensors only, no remote code.

A model in a recipe is a built-in name (`BUILTIN`), a local folder, or a hub id; a folder or hub repository may hold a
PEFT adapter, which is loaded on its base. Weights are loaded only here, and only if they are complete.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.children.shares import first_loads, leaves_weights_to_first
from harness.errors import ModelError, nearest, quoted
from harness.models import chat
from harness.models.builtin.fetch import BUILTIN, builtin_folder
from harness.models.checkpoints import adapters, hub
from harness.models.checkpoints.complete import Use, auto_class, check_complete, check_report, quiet, readable, skeleton
from harness.models.checkpoints.empty import without_values
from harness.models.checkpoints.folder import CONFIG, check_files, is_adapter, is_whole, loaded_files, read_object
from harness.models.checkpoints.sizes import check_sizes
from harness.models.checkpoints.stamps import cached
from harness.models.facts import identity as identity
from harness.models.facts import notices
from harness.models.facts import sampling_identity as sampling_identity
from harness.models.lora import round_once
from harness.models.templates.checking import tell
from harness.models.tokenizers import load_tokenizer as load_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Dtype = Literal["float32", "bfloat16", "float16"]

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def check(model: str, revision: str | None = None, use: Use | None = "language model") -> None:
    """Check a model's name or folder without loading its weights: also that they are those which its configuration
    describes, if they are on this machine. `use`: what it will be loaded as; None: by another program, which compares
    weights itself. Raises ModelError."""
    _check(model, revision, use, with_tokenizer=True)
    if model not in BUILTIN:
        if not Path(model).is_absolute():
            hub.fetch_tokenizer(model, revision)
        for notice in notices(model, revision):
            tell(notice)
    if use is None or model in BUILTIN or (folder := _checked_folder(model, revision)) is None:
        return

    def load() -> str:
        tokenizer = load_tokenizer(model, revision)
        if use == "language model":
            chat.end_of_turn(tokenizer)
        return ""

    if is_whole(folder):
        cached(f"model-checks/tokenizer-{use.replace(' ', '-')}", folder, loaded_files(folder), load)
    else:
        load()  # it depends on the base, too


def _check(model: str, revision: str | None, use: Use | None, *, with_tokenizer: bool) -> None:
    if model in BUILTIN:
        return
    if not Path(model).is_absolute() and not _HUB_ID.fullmatch(model):
        kinds = "a built-in name, a folder with a config.json, or a hub id (owner/name)"
        raise ModelError(f"unknown model {quoted(model)}: expected {kinds}; {nearest(model, BUILTIN)}")
    folder = _checked_folder(model, revision, with_tokenizer=with_tokenizer)
    if folder is None or use is None:
        return
    if is_whole(folder):
        check_complete(folder, use)
    if is_adapter(folder):
        _check_adapter_folder(folder, use)


def _checked_folder(model: str, revision: str | None, *, with_tokenizer: bool = False) -> Path | None:
    """The folder of a model that isn't built in, its files checked; None for a hub model that isn't on this machine as
    a whole, of which only the configuration is checked. Raises ModelError."""
    if Path(model).is_absolute():
        check_files(Path(model), with_tokenizer)
        return Path(model)
    hub.refuse_folder(model)
    config = hub.configuration(model, revision)
    check_sizes(read_object(config, config.parent), config)
    if not hub.is_whole_snapshot(config.parent):
        return None
    check_files(config.parent, with_tokenizer=False)
    return config.parent


def _check_adapter_folder(folder: Path, use: Use) -> None:
    """Check an adapter with its base."""
    base = folder
    if not is_whole(folder):
        name, revision = _whole_base(folder)
        labels = adapters.outputs_of(folder) if use == "classifier" else None
        _check(name, revision, "new classifier" if labels else use, with_tokenizer=False)
        config = builtin_folder(name) if name in BUILTIN else _checked_folder(name, revision)
        base = config or hub.configuration(name, revision).parent
    else:
        labels = None
    adapters.check_adapter(folder, skeleton(base, use, labels))


def check_trainable(model: str, revision: str | None = None) -> None:
    """`check` for a model that is to be trained. Raises ModelError."""
    if Path(model).is_absolute():
        refuse_adapter(model)  # before its base is looked at
    check(model, revision)
    refuse_adapter(model, revision)


def refuse_adapter(model: str, revision: str | None = None, what: str = "policy") -> None:
    """Raise a ModelError if the model, used as `what`, is a PEFT adapter: training needs a whole model."""
    if model not in BUILTIN:
        folder = Path(model) if Path(model).is_absolute() else hub.configuration(model, revision).parent
        if is_adapter(folder):
            raise ModelError(f"{what} {model} is a PEFT adapter; expected a whole model: merge it into its base first")


def check_classifier(model: str, revision: str | None = None) -> "dict[int, str] | None":
    """`check` for a sequence classifier: it must have been saved as one, otherwise its head would be random. Returns
    its labels by number; None if they aren't known before it is loaded. Raises ModelError."""
    if model in BUILTIN:
        raise ModelError(f"'{model}' is not a reward model; train one from it with {{name: trained, base: {model}}}")
    check(model, revision, None)
    folder = Path(model) if Path(model).is_absolute() else hub.configuration(model, revision).parent
    if not is_adapter(folder) or is_whole(folder):
        saved = saved_as(str(folder))
        if not any(name.endswith("ForSequenceClassification") for name in saved):
            listed = ", ".join(saved) or "an unnamed architecture"
            raise ModelError(
                f"'{model}' is not a reward model: saved as {listed}, expected ...ForSequenceClassification"
            )
    check(model, revision, "classifier")
    return _labels(folder)


def saved_as(model: str, revision: str | None = None) -> list[str]:
    """The classes that a model's configuration names; none for one that isn't on this machine."""
    config = Path(model) / CONFIG if Path(model).is_absolute() else hub.cached_configuration(model, revision)
    if model in BUILTIN or config is None or not config.exists():
        return []
    architectures = read_object(config, config.parent).get("architectures")
    return [str(name) for name in architectures] if isinstance(architectures, list) else []


def _labels(folder: Path) -> dict[int, str] | None:
    """The labels of a classifier's outputs by number, from its configuration."""
    if is_adapter(folder) and not is_whole(folder):
        count = adapters.outputs_of(folder)
        return None if count is None else {i: f"LABEL_{i}" for i in range(count)}
    from transformers import AutoConfig

    with readable(str(folder)), quiet():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        return {int(i): str(label) for i, label in config.id2label.items()}


def local_path(model: str) -> str:
    """The argument for `from_pretrained`: a folder or a hub id. Fetches and converts a built-in model on first use."""
    return str(builtin_folder(model)) if model in BUILTIN else model


def device() -> "torch.device":
    """The accelerator if there is one, else the CPU."""
    import torch

    # A CUDA build of torch names an accelerator even on a machine without one.
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")


def load_causal_lm(
    model: str, revision: str | None = None, dtype: Dtype = "bfloat16", bits: Literal[4, 8] | None = None
) -> "PreTrainedModel":
    """A causal language model in evaluation mode, on the device. A folder with a PEFT adapter is loaded with its base
    model. `bits`: linear layers are quantised by bitsandbytes, to nf4 with double quantisation (4) or LLM.int8 (8).
    Raises ModelError, also for missing, unexpected or mismatched weights."""
    if bits is None:
        return _load("language model", model, revision, dtype)
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
    loaded = _load("language model", model, revision, dtype, quantization_config=config, device_map={"": here})
    for module in loaded.modules():
        # On some CPUs the first forward pass without gradients would repack a layer for a kernel that doesn't support
        # them, and later training would silently go wrong.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return loaded


def load_sequence_classifier(
    model: str, revision: str | None = None, dtype: Dtype = "bfloat16", num_labels: int | None = None
) -> "PreTrainedModel":
    """A sequence classifier (reward model) in evaluation mode, on the device. `num_labels`: size of a new head, whose
    weights are random; without it the head must be among the model's weights. Raises ModelError."""
    if num_labels is not None:
        return _load("new classifier", model, revision, dtype, num_labels=num_labels)
    return _load("classifier", model, revision, dtype)


def _load(use: Use, model: str, revision: str | None, dtype: Dtype, **options: Any) -> "PreTrainedModel":
    """A model, whole or an adapter on its base."""
    folder = None if model in BUILTIN else _checked_folder(model, revision)
    if model not in BUILTIN and folder is None:
        config = hub.configuration(model, revision)
        folder = hub.fetch_adapter(model, revision) if is_adapter(config.parent) else None
    if folder is None or is_whole(folder):
        return _load_whole(use, model, revision, dtype, options)
    labels = adapters.outputs_of(folder) if use == "classifier" else None
    name, base_revision = _whole_base(folder)
    if labels is not None:
        use, options = "new classifier", {**options, "num_labels": labels}
    return with_adapter(_load_whole(use, name, base_revision, dtype, options), folder)


def _whole_base(folder: Path) -> adapters.Base:
    """The base of an adapter, which is no adapter itself. Raises ModelError."""
    base = adapters.base_of(folder)
    if base.model not in BUILTIN and not Path(base.model).is_absolute():
        config = hub.configuration(base.model, base.revision).parent
        if is_adapter(config) and not is_whole(config):
            raise ModelError(f"adapter {folder} is for the adapter {base.model}; expected one for a whole model")
    return base


def _load_whole(
    use: Use, model: str, revision: str | None, dtype: Dtype, options: Mapping[str, Any]
) -> "PreTrainedModel":
    import torch
    import transformers

    _check(model, revision, use, with_tokenizer=False)
    with readable(model), quiet():
        path = local_path(model)
        config = transformers.AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)
        if leaves_weights_to_first() and not options and getattr(config, "quantization_config", None) is None:
            return without_values(auto_class(use, config), config, getattr(torch, dtype)).eval()
        loaded, report = auto_class(use, config).from_pretrained(
            path,
            revision=revision,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are reported, and refused below
            output_loading_info=True,
            **options,
        )
    packed = getattr(loaded.config, "quantization_config", None) is not None
    check_report(model, loaded, use, report, packed and "quantization_config" not in options)
    with readable(model):
        # A quantised model is created on its device and can't be moved; the parts of a sharded one are moved.
        return loaded.eval() if packed or first_loads() else loaded.to(device()).eval()


def with_adapter(model: Any, folder: Path) -> Any:
    """A loaded model with the PEFT adapter in a folder, in evaluation mode. Raises ModelError."""
    import copy

    import torch
    from peft import PeftModel

    check_files(folder, with_tokenizer=False)
    config = copy.deepcopy(model.config)
    if getattr(config, "quantization_config", None) is not None:
        del config.quantization_config
    with readable(str(folder)), quiet(), torch.device("meta"):
        base = type(model)(config)
    adapters.check_adapter(folder, base)
    with readable(str(folder)):
        return round_once(PeftModel.from_pretrained(model, str(folder))).eval()
