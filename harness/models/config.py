"""Values of a transformers configuration that model families name or place differently, some of them by layer."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import GenerationConfig, PretrainedConfig


def text_config(model: Any) -> "PretrainedConfig":
    """The configuration of the model's text part (of a multimodal model; else the whole configuration)."""
    config: PretrainedConfig = model.config.get_text_config()
    return config


def layers(model: Any) -> "list[PretrainedConfig]":
    """The configuration of each layer. A value that differs by layer (`head_dim` of Gemma 4) can only be read from
    these: reading it from the whole configuration is an error."""
    config = text_config(model)
    return list(config.per_layer_config) if getattr(config, "num_hidden_layers", None) else [config]


def largest(model: Any, *names: str) -> int:
    """The largest value over all layers of the first of these fields that the configuration has; 1 if it has none. A
    field may hold one value per layer (`intermediate_size` of Gemma 3n)."""
    for name in names:
        values = [getattr(layer, name, None) for layer in layers(model)]
        sizes = [x for value in values for x in (value if isinstance(value, list | tuple) else [value]) if x]
        if sizes:
            return max(map(int, sizes))
    return 1


def attention_width(model: Any) -> float:
    """The width of a token's queries in all heads, as the mean over layers."""
    widths = [_attention_width(layer) for layer in layers(model)]
    return sum(widths) / len(widths)


def _attention_width(layer: "PretrainedConfig") -> int:
    heads = getattr(layer, "num_attention_heads", None)
    # Of DeepSeek's latent attention `head_dim` is only the part with positions.
    head = getattr(layer, "qk_head_dim", None) or getattr(layer, "head_dim", None)
    return int(heads * head) if heads and head else int(layer.hidden_size)


def shortest_window(model: Any) -> int | None:
    """The shortest sliding window of a layer, in tokens; None if every layer sees all tokens."""
    types = getattr(text_config(model), "layer_types", None)
    windows = [
        getattr(layer, "sliding_window", None)
        for i, layer in enumerate(layers(model))
        if types is None or "sliding" in types[i]
    ]
    return min((int(window) for window in windows if window is not None), default=None)


def declared_ends(config: "PretrainedConfig", generation: "GenerationConfig | None") -> set[int]:
    """The ids of the tokens that end a text by a model's configurations, those of its vocabulary."""
    text = config.get_text_config()
    size = getattr(text, "vocab_size", None)
    ends: set[int] = set()
    for part in (config, text, generation):
        declared = getattr(part, "eos_token_id", None)
        ids = declared if isinstance(declared, list | tuple) else [declared]
        ends |= {i for i in ids if type(i) is int and 0 <= i < (size or i + 1)}
    return ends


def context_window(model: Any) -> int | None:
    """The number of positions that the model has; None if its configuration doesn't say."""
    return getattr(text_config(model), "max_position_embeddings", None)


def rope_class(model: Any, length: int) -> int:
    """Sequences of the same class get the same rotary factors. LongRoPE and dynamic NTK choose factors by length, and
    transformers takes the longest position of a batch for all: sequences of different classes don't go together."""
    config = text_config(model)
    parameters = getattr(config, "rope_parameters", None) or {}
    by_layer_type = all(isinstance(value, dict) for value in parameters.values())
    classes = [0]
    for one in parameters.values() if by_layer_type else [parameters]:
        kind = str(one.get("rope_type", "default"))
        original = one.get("original_max_position_embeddings") or getattr(
            config, "original_max_position_embeddings", None
        )
        if kind == "longrope" and original:
            classes.append(int(length > original))
        elif "dynamic" in kind:
            classes.append(max(length, int(config.max_position_embeddings)))
    return max(classes)
