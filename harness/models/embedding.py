"""How far apart texts are in meaning, by a sentence embedding model; needs sentence-transformers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import is_installed, need
from harness.models.checkpoints.complete import check_complete, readable
from harness.models.checkpoints.folder import CONFIG, check_regular, embedding_parts, read_object
from harness.models.load import device, local_path

DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"


def installed() -> bool:
    """Whether sentence-transformers is installed."""
    return is_installed("sentence_transformers")


def resolved(setting: str | None) -> str | None:
    """The model for a setting. `auto` means DEFAULT if the package is installed and the model is already cached on this
    machine, else None. Any other setting is the model itself."""
    if setting != "auto":
        return setting
    if not installed():
        return None
    from huggingface_hub import try_to_load_from_cache

    return DEFAULT if isinstance(try_to_load_from_cache(DEFAULT, "config.json"), str) else None


def check(folder: Path) -> None:
    """Check the files of an embedding model, and the weights of the part that transformers loads. Raises ModelError."""
    check_regular(folder)
    for part in (folder, *embedding_parts(folder)):
        if (part / CONFIG).exists() and "model_type" in read_object(part / CONFIG, folder):
            check_complete(part, "embedding model")


def load(model: str) -> Any:
    """The embedding model. Raises a HarnessError."""
    need(f"the embedding model {model}", ("sentence_transformers",))
    from sentence_transformers import SentenceTransformer

    if Path(model).is_absolute():
        check(Path(model))
    with readable(model):
        return SentenceTransformer(local_path(model), device=str(device()), trust_remote_code=False)


def vectors_of(model: Any, texts: Sequence[str]) -> Any:
    """Unit vectors of the texts, [n, d], float32."""
    return model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)


def spread(model: Any, texts: Sequence[str]) -> float | None:
    """The mean cosine distance over all pairs of texts: 0 if all mean the same, about 1 if they have nothing in common.
    None for fewer than two texts.

    For unit vectors u_i the mean cosine over pairs is (|sum u_i|^2 - n) / (n (n - 1)).
    """
    if len(texts) < 2:
        return None
    total, n = vectors_of(model, texts).astype("float64").sum(axis=0), len(texts)
    return 1 - (float(total @ total) - n) / (n * (n - 1))
