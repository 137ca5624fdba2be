"""How far texts are apart in meaning, by a sentence embedding model, where sentence-transformers is installed."""

import importlib.util
from collections.abc import Sequence
from typing import Any

from harness import models
from harness.errors import ModelError

DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"


def installed() -> bool:
    return importlib.util.find_spec("sentence_transformers") is not None


def resolved(asked: str | None) -> str | None:
    """The model that is meant: of `auto`, DEFAULT where the package is installed and that model is on this machine."""
    from huggingface_hub import try_to_load_from_cache

    if asked != "auto":
        return asked
    return DEFAULT if installed() and isinstance(try_to_load_from_cache(DEFAULT, "config.json"), str) else None


def load(model: str) -> Any:
    """The embedding model. Raises ModelError."""
    if not installed():
        raise ModelError(f"embeddings by {model} need sentence-transformers; pip install sentence-transformers")
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(models.local_path(model), device=str(models.device()), trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"embedding model '{model}' can't be loaded: {first}") from None


def spread(model: Any, texts: Sequence[str]) -> float | None:
    """The mean cosine distance between two different texts of the list: 0 where all mean the same, about 1 where they
    have nothing in common. None for fewer than two texts.

    For unit vectors u_i the mean cosine over pairs is (|sum u_i|^2 - n) / (n (n - 1)).
    """
    if len(texts) < 2:
        return None
    vectors = model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
    total, n = vectors.astype("float64").sum(axis=0), len(texts)
    return 1 - (float(total @ total) - n) / (n * (n - 1))
