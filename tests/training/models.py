"""Tiny random models of several architectures, ranked examples and token groups for the training tests."""

import random
from collections.abc import Sequence
from typing import Any

import torch

from harness.training.ranked.batch import Group
from harness.types import Message, RankedExample, Response

SIZES: dict[str, Any] = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": 258,
    "initializer_range": 0.3,
}
ARCHITECTURES = ["llama", "qwen2", "gemma2", "granite", "cohere", "gpt2"]


def tiny(architecture: str, seed: int = 0, **changes: Any) -> Any:
    """A random float32 model; weights are large enough for logits that differ by several nats."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    special: dict[str, dict[str, Any]] = {
        "gemma2": {"final_logit_softcapping": 5.0, "attn_logit_softcapping": 20.0, "sliding_window": 64},
        "granite": {"logits_scaling": 3.0, "embedding_multiplier": 2.0},
        "cohere": {"logit_scale": 0.25},
    }
    sizes = SIZES | special.get(architecture, {}) | changes
    if architecture == "gpt2":
        kept = {k: SIZES[k] for k in ("vocab_size", "bos_token_id", "eos_token_id", "initializer_range")}
        sizes = kept | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **sizes)).eval()


def random_group(seed: int, prompt: int = 11, lengths: Sequence[int] = (5, 9, 1, 7)) -> Group:
    """A group of random tokens, its scores falling."""
    rng = random.Random(seed)

    def tokens(n: int) -> list[int]:
        return [rng.randrange(256) for _ in range(n)]

    scores = tuple(float(-i) for i in range(len(lengths)))
    return Group(
        f"g{seed}", tokens(prompt), tuple(tokens(n) for n in lengths), scores, tuple(-5.0 * n for n in lengths)
    )


def example(name: str, *responses: tuple[str, float | None]) -> RankedExample:
    """A ranked example whose prompt is its name."""
    return RankedExample(
        id=name,
        messages=(Message(role="user", content=f"say {name}"),),
        responses=tuple(Response(text=text, source="test", score=score) for text, score in responses),
        source="test",
        split="train",
    )


def examples(count: int, responses: int = 4) -> list[RankedExample]:
    """Examples whose best responses are made of vowels and whose worst are made of digits."""
    rng = random.Random(7)
    made = []
    for i in range(count):
        texts = [
            "".join(
                rng.choice("aeiou" if rng.random() < 1 - k / (responses - 1) else "0123456789") for _ in range(8 + k)
            )
            for k in range(responses)
        ]
        made.append(example(f"p{i}", *((text, float(-k)) for k, text in enumerate(texts))))
    return made
