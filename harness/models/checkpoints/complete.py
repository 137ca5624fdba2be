"""Whether the weights of a model are those that its configuration describes.

transformers gives missing and mismatched weights random values, and says so only in a table that it logs. A model with
random layers still answers, and its figures look like figures. So what is missing, unexpected or of another shape is an
error here. It is found without reading weights, by loading the headers of their files as tensors without content.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import ModelError
from harness.models.checkpoints.folder import CONFIG, loaded_files, read_object, tensors, weight_files
from harness.models.checkpoints.sizes import check_sizes
from harness.models.checkpoints.stamps import cached
from harness.printable import first_line, printable

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Use = Literal["language model", "classifier", "new classifier", "embedding model"]
"""What a model is loaded as. `new classifier`: one whose head is to be trained, from any model."""

LARGEST_BUFFERS = 4 << 30
"""Bytes of the largest tables that a model computes from its configuration alone, such as of positions."""
_SHOWN = 3


def check_complete(folder: Path, use: Use) -> None:
    """Check the whole model in a folder that passed `check_files`. Raises ModelError."""
    import importlib.metadata

    version = importlib.metadata.version("transformers")
    config = read_object(folder / CONFIG, folder)
    stored = tensors(weight_files(folder), folder)
    check_sizes(config, folder / CONFIG, len(stored))
    packed = bool(config.get("quantization_config"))
    shapes = {_unpacked(name) if packed else name: tensor.shape for name, tensor in stored.items()}

    def rehearse() -> str:
        _rehearse(folder, use, shapes, packed)
        return ""

    cached(f"model-checks/{version}-{use.replace(' ', '-')}", folder, loaded_files(folder), rehearse)


def _unpacked(name: str) -> str:
    """The name of a weight that a quantised model stores as several tensors, such as `qweight` and `scales`."""
    module, _, last = name.rpartition(".")
    if ".weight." in name:
        return f"{name.partition('.weight.')[0]}.weight"
    return name if last in ("weight", "bias") else f"{module}.weight"


def _rehearse(folder: Path, use: Use, shapes: Mapping[str, tuple[int, ...]], packed: bool) -> None:
    """Load tensors without content into a model without content, by the rules of transformers for names and shapes.
    `packed`: only names are compared, as formats of quantised models differ in shapes."""
    import torch

    model = skeleton(folder, use)
    try:
        with readable(str(folder)), quiet():
            _, report = type(model).from_pretrained(
                None,
                config=model.config,
                state_dict={name: torch.empty(shape, device="meta") for name, shape in shapes.items()},
                device_map={"": "meta"},
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except ModelError:
        if packed:
            return  # joined by shape, such as experts; what is missing shows when the model is loaded
        raise
    check_report(str(folder), model, use, {**report, "mismatched_keys": ()} if packed else report, packed)


def auto_class(use: Use, config: Any) -> Any:
    """The class of transformers that loads a model of this configuration. Multimodal models without a class for their
    text part (Mistral 3, Qwen 3 VL) are loaded as a whole: without images they are language models."""
    import transformers

    if use != "language model":
        return transformers.AutoModel if use == "embedding model" else transformers.AutoModelForSequenceClassification
    known = type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    multimodal = config.get_text_config() is not config and not config.is_encoder_decoder
    if not known and multimodal and type(config) in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return transformers.AutoModelForImageTextToText
    return transformers.AutoModelForCausalLM


def skeleton(folder: Path, use: Use, labels: int | None = None) -> "PreTrainedModel":
    """The model that a folder's configuration describes, without content. `labels`: the number of outputs of a
    classifier, if not its configuration's. Raises ModelError."""
    import torch
    import transformers

    with readable(str(folder)), quiet():
        options = {} if labels is None else {"num_labels": labels}
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, **options)
        if use == "language model" and (folder / "generation_config.json").exists():
            transformers.GenerationConfig.from_pretrained(folder)
        for part in {id(c): c for c in (config, config.get_text_config())}.values():
            if getattr(part, "quantization_config", None) is not None:
                del part.quantization_config
        with torch.device("meta"):
            model: PreTrainedModel = auto_class(use, config).from_config(config, trust_remote_code=False)
    tables = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    if tables > LARGEST_BUFFERS:
        raise ModelError(f"{folder / CONFIG}: its tables need {tables:,} bytes; expected at most {LARGEST_BUFFERS:,}")
    return model


def check_report(name: str, model: Any, use: Use, report: Mapping[str, Any], packed: bool = False) -> None:
    """Check what transformers reports on loading a model. `packed`: quantised by its authors, so that names of its
    tensors differ by format. Raises ModelError."""
    missing, unexpected = set(report["missing_keys"]), set(report["unexpected_keys"])
    if use == "new classifier":
        base = f"{model.base_model_prefix}."
        missing = {key for key in missing if key.startswith(base)}
        unexpected = {key for key in unexpected if key.startswith(base)}
    elif use == "embedding model":
        missing = {key for key in missing if "pooler." not in key}
        unexpected = set()
    mismatched = {key: (tuple(stored), tuple(wanted)) for key, stored, wanted in report["mismatched_keys"]}
    complain(f"model '{name}'", missing, set() if packed else unexpected, mismatched)


def complain(
    what: str,
    missing: Iterable[str],
    unexpected: Iterable[str],
    mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]],
) -> None:
    """Raise a ModelError that counts and names weights; do nothing if there are none. `mismatched`: (shape in the
    file, expected shape) by name."""
    shapes = [f"{key}: {list(stored)} instead of {list(wanted)}" for key, (stored, wanted) in mismatched.items()]
    kinds = {"missing": sorted(missing), "unexpected": sorted(unexpected), "of another shape": sorted(shapes)}
    parts = [f"{len(names)} {kind} ({_listed(names)})" for kind, names in kinds.items() if names]
    if parts:
        raise ModelError(
            f"{what}: its weights are not those that its configuration describes: {', '.join(parts)}; missing ones "
            "would be random: fetch or save it again, whole and with its own configuration"
        )


def _listed(names: list[str]) -> str:
    more = ", …" if len(names) > _SHOWN else ""
    return printable(", ".join(name[:100] for name in names[:_SHOWN]) + more)


@contextmanager
def quiet() -> Iterator[None]:
    """While open, transformers shows no progress and logs no table of weights, which the one-line error replaces."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def readable(model: str) -> Iterator[None]:
    """Turns errors about a bad model folder or hub id into a one-line ModelError. What a stranger's files lead to in
    transformers may be of any class."""
    from harness.models.batching import is_out_of_memory

    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            advice = "use a smaller model, dtype: bfloat16, or a machine with more memory"
            raise ModelError(f"model '{model}' does not fit in memory; {advice}") from error
        raise ModelError(f"model '{model}' can't be loaded: {first_line(error, 300)}") from error
