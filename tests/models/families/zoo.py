"""Tiny random models of the newest families, built from their own configurations with everything that sets them apart:
values that differ by layer, shared keys and values, windows shorter than the texts, layers without positions, states,
experts, rotary factors by length."""

from typing import Any

import pytest

from tests.training import models as training

SIZES = training.SIZES | {"initializer_range": 0.2}
EXPERTS = {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2}
SHARED_EXPERT = EXPERTS | {"shared_expert_intermediate_size": 16}
ROUTED = {"moe_intermediate_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1}
LOCAL = {"num_local_experts": 4, "num_experts_per_tok": 2}
LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 12,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 6,
    "head_dim": 4,
}
"""Attention with compressed keys and values; values have another width than keys."""
INDEXED = {"index_topk": 8, "index_head_dim": 8, "index_n_heads": 16}
"""Attention to the eight tokens that an indexer chooses. With fewer heads it often finds none that fits, and how a tie
is broken depends on the number of tokens."""
LINEAR = {
    "num_hidden_layers": 4,
    "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"],
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
BOTH = ["sliding_attention", "full_attention"]
WINDOW = {"layer_types": BOTH, "sliding_window": 16}
GEMMA4 = {
    "num_hidden_layers": 6,
    "layer_types": BOTH * 3,
    "sliding_window": 16,
    "global_head_dim": 16,
    "num_kv_shared_layers": 2,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 259,
    "use_double_wide_mlp": True,
    "final_logit_softcapping": 20.0,
}
GEMMA4_EXPERTS = {
    "num_hidden_layers": 4,
    "layer_types": BOTH * 2,
    "sliding_window": 16,
    "global_head_dim": 16,
    "attention_k_eq_v": True,
    "num_global_key_value_heads": 1,
    "hidden_size_per_layer_input": 0,
    "enable_moe_block": True,
    "num_experts": 4,
    "top_k_experts": 2,
    "moe_intermediate_size": 16,
}
GEMMA3N = {
    "num_hidden_layers": 5,
    "layer_types": [*BOTH, "sliding_attention", *BOTH],
    "sliding_window": 16,
    "num_kv_shared_layers": 2,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 259,
    "intermediate_size": [48, 48, 48, 64, 64],
    "activation_sparsity_pattern": [0.5, 0.0, 0.0, 0.0, 0.0],
    "laurel_rank": 4,
    "altup_num_inputs": 2,
}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_expand": 2}
GRANITE = {"shared_intermediate_size": 32, "logits_scaling": 3.0, "embedding_multiplier": 2.0}
CONVOLUTIONS = {"num_hidden_layers": 4, "layer_types": ["conv", "full_attention"] * 2}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0, 6.0, 8.0, 16.0],
}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma4": ("gemma4_text", GEMMA4),
    "gemma4-experts": ("gemma4_text", GEMMA4_EXPERTS),
    "gemma3n": ("gemma3n_text", GEMMA3N),
    "qwen3_5": ("qwen3_5_text", LINEAR),
    "qwen3_5-experts": ("qwen3_5_moe_text", LINEAR | SHARED_EXPERT),
    "qwen3_next": ("qwen3_next", LINEAR | SHARED_EXPERT),
    "gpt_oss": ("gpt_oss", LOCAL | {"sliding_window": 16}),
    "glm4": ("glm4", {}),
    "glm4-experts": ("glm4_moe", ROUTED | {"first_k_dense_replace": 1, "use_qk_norm": True}),
    "glm4-lite": ("glm4_moe_lite", LATENT | ROUTED),
    "glm5": ("glm_moe_dsa", LATENT | ROUTED | INDEXED | {"num_hidden_layers": 4}),
    "smollm3": ("smollm3", {"num_hidden_layers": 4, "no_rope_layers": [1, 1, 1, 0]}),
    "olmo3": ("olmo3", WINDOW),
    "ministral": ("ministral", WINDOW),
    "ministral3": ("ministral3", {}),
    "granite4": (
        "granitemoehybrid",
        MAMBA | GRANITE | LOCAL | {"num_hidden_layers": 4, "layer_types": ["mamba", "mamba", "attention", "mamba"]},
    ),
    "granite4-dense": (
        "granitemoehybrid",
        MAMBA | GRANITE | {"layer_types": ["attention"] * 2, "num_local_experts": 0},
    ),
    "lfm2": ("lfm2", CONVOLUTIONS),
    "lfm2-experts": ("lfm2_moe", CONVOLUTIONS | EXPERTS | {"num_dense_layers": 1}),
    "deepseek_v3": ("deepseek_v3", LATENT | ROUTED | {"first_k_dense_replace": 1}),
    "phi4": ("phi3", {"partial_rotary_factor": 0.5}),
    "phi4-long": ("phi3", {"original_max_position_embeddings": 32, "rope_parameters": LONG}),
    "llama4": (
        "llama4_text",
        LOCAL
        | {
            "num_hidden_layers": 4,
            "no_rope_layers": [1, 1, 1, 0],
            "intermediate_size_mlp": 48,
            "attention_chunk_size": 16,
            "moe_layers": [1, 3],
        },
    ),
}
MORE_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "apertus": ("apertus", {}),
    "arcee": ("arcee", {}),
    "cohere2": ("cohere2", WINDOW | {"logit_scale": 0.25}),
    "deepseek_v32": ("deepseek_v32", LATENT | ROUTED | INDEXED | {"first_k_dense_replace": 1}),
    "ernie4_5": ("ernie4_5", {}),
    "exaone4": ("exaone4", WINDOW),
    "granite-windows": ("granite_swa", {"sliding_window": 16}),
    "hunyuan": ("hunyuan_v1_dense", {}),
    "hunyuan-experts": ("hy_v3", EXPERTS),
    "kimi_linear": (
        "kimi_linear",
        LATENT
        | LOCAL
        | {"num_hidden_layers": 4, "layer_types": ["linear_attention", "full_attention"] * 2}
        | {"linear_head_dim": 8, "linear_num_heads": 4, "moe_intermediate_size": 16, "q_lora_rank": None},
    ),
    "laguna": ("laguna", SHARED_EXPERT | WINDOW | {"num_attention_heads_per_layer": [8, 4]}),
    "lfm3": ("lfm3", {"num_hidden_layers": 4, "layer_types": ["conv", "full_attention"] * 2}),
    "mimo_v2": ("mimo_v2_flash", ROUTED | WINDOW | {"v_head_dim": 6}),
    "minimax_m2": ("minimax_m2", LOCAL),
    "olmo_hybrid": ("olmo_hybrid", {}),
    "qwen3": ("qwen3", {}),
    "seed_oss": ("seed_oss", {}),
    "zaya": ("zaya", {"moe_intermediate_size": 16, "num_experts": 4, "router_hidden_size": 8}),
}
"""Rarer ones, tried by the slow tests."""
by_family = pytest.mark.parametrize(
    "family", [*FAMILIES, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE_FAMILIES)]
)

VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "patch_size": 4,
    "position_embedding_size": 16,
}
PIXTRAL = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "head_dim", "patch_size")
QWEN_VISION = {
    "depth": 1,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_heads": 2,
    "out_hidden_size": 32,
    "num_position_embeddings": 16,
}
MULTIMODAL: dict[str, dict[str, Any]] = {
    "gemma4": {"text_config": SIZES | GEMMA4, "vision_config": VISION},
    "qwen3_5": {"text_config": SIZES | LINEAR, "vision_config": QWEN_VISION},
    "qwen3_5_moe": {"text_config": SIZES | LINEAR | SHARED_EXPERT, "vision_config": QWEN_VISION},
    "mistral3": {
        "text_config": SIZES | {"model_type": "ministral3"},
        "vision_config": {"model_type": "pixtral", "image_size": 16} | {k: VISION[k] for k in PIXTRAL},
    },
    "qwen3_vl": {
        "text_config": SIZES | {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1]}},
        "vision_config": QWEN_VISION | {"deepstack_visual_indexes": [0]},
    },
}
"""Checkpoints with a vision part, of which only the text part is used."""


def tiny(family: str, seed: int = 0, **changes: Any) -> Any:
    """A random float32 model in evaluation mode; weights are large enough for logits that differ by several nats."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kind, special = (FAMILIES | MORE_FAMILIES)[family]
    torch.manual_seed(seed)
    config = AutoConfig.for_model(kind, **(SIZES | special | changes))
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def tiny_multimodal(kind: str) -> Any:
    """A random float32 model with a vision part, as it is published."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **MULTIMODAL[kind])
    return AutoModelForImageTextToText.from_config(config, dtype=torch.float32).eval()
