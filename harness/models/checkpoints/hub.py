"""Files of models on the Hugging Face hub, and which of them this machine has."""

import contextlib
from pathlib import Path

from harness.errors import ModelError
from harness.models.checkpoints.folder import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CONFIG,
    is_adapter,
    is_whole,
    weight_files,
)
from harness.printable import first_line

_TOKENIZER_FILES = ["*token*", "*vocab*", "merges.txt", "*.jinja"]
_ADAPTER_FILES = ["adapter_config.json", "adapter_model.safetensors", *_TOKENIZER_FILES]


def configuration(model: str, revision: str | None) -> Path:
    """The configuration of a hub model, or of an adapter that has none of its own; fetched unless cached. Raises
    ModelError."""
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return _fetched(model, CONFIG, revision)
    except (EntryNotFoundError, LocalEntryNotFoundError) as missing:
        try:
            return _fetched(model, ADAPTER_CONFIG, revision)
        except Exception:  # what is wrong with the model itself is more telling
            raise _unreadable(model, revision, missing) from None
    except Exception as error:  # network, access and not-found errors come in many classes
        raise _unreadable(model, revision, error) from None


def cached_configuration(model: str, revision: str | None) -> Path | None:
    """`configuration`, if it is in this machine's hub cache."""
    from huggingface_hub import try_to_load_from_cache

    for name in (CONFIG, ADAPTER_CONFIG):
        path = try_to_load_from_cache(model, name, revision=revision)
        if isinstance(path, str):
            return Path(path)
    return None


def refuse_folder(model: str) -> None:
    """Raise a ModelError if a hub id is also a folder in the working folder: transformers would load that instead, and
    the identity would be the hub's."""
    if Path(model).exists():
        raise ModelError(f"{model} is a hub id and a folder in {Path.cwd()}; name the folder by its path, ./{model}")


def _fetched(model: str, name: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import logging as hub_logging

    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # its retry messages would surround our one-line error
    return Path(hf_hub_download(model, name, revision=revision))


def _unreadable(model: str, revision: str | None, error: Exception) -> ModelError:
    at = f" at revision {revision}" if revision else ""
    reason = first_line(error, 300)
    return ModelError(f"hub model '{model}'{at} can't be read ({reason}); check the id, the network, HF_TOKEN")


def is_whole_snapshot(folder: Path) -> bool:
    """Whether the hub cache's folder of one commit holds all weights of its model or adapter."""
    try:
        if is_adapter(folder) and not is_whole(folder):
            return (folder / ADAPTER_WEIGHTS).exists()
        return all(path.exists() for path in weight_files(folder))
    except ModelError:
        return False  # shards that its index names are missing; they are fetched with the rest


def fetch_tokenizer(model: str, revision: str | None) -> None:
    """Fetch, unless cached, what a hub model's prompts and the ends of its texts depend on, so that its keys are the
    same before and after its weights are fetched. What can't be fetched is missed where it is loaded."""
    from huggingface_hub import snapshot_download

    patterns = [*_TOKENIZER_FILES, "*.model", "generation_config.json"]
    with contextlib.suppress(Exception):  # network, access and not-found errors come in many classes
        snapshot_download(model, revision=revision, allow_patterns=patterns)


def fetch_adapter(model: str, revision: str | None) -> Path:
    """The folder of a hub adapter, fetched unless cached. Raises ModelError."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=_ADAPTER_FILES))
    except Exception as error:
        raise _unreadable(model, revision, error) from None
