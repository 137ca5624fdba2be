"""Values of a transformers configuration that model families name or place differently."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def text_config(model: Any) -> "PretrainedConfig":
    """The configuration of the model's text part (of a multimodal model; else the whole configuration)."""
    config: PretrainedConfig = model.config.get_text_config()
    return config


def context_window(model: Any) -> int | None:
    """The number of positions that the model has; None if its configuration doesn't say."""
    return getattr(text_config(model), "max_position_embeddings", None)
