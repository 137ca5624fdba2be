"""A recipe of a few seconds on the tiny model, as data."""

from pathlib import Path
from typing import Any


def tiny_recipe(model: Path, **changes: Any) -> dict[str, Any]:
    """Two methods on seed pairs with sampled responses, scored by length, judged by the tiny model itself."""
    policy = {"model": model, "dtype": "float32"}
    return {
        "name": "tiny",
        "seed": 3,
        "policy": policy,
        "data": {
            "seeds": [{"name": "builtin", "limit": 16}],
            "holdout": 0.25,
            "responses": {"generator": {"name": "hf", **policy}, "n": 3, "max_new_tokens": 8},
            "reward": {"name": "length"},
        },
        "methods": [
            {"id": "dpo", "loss": {"name": "dpo_best_worst", "beta": 0.1}},
            {"id": "multi-dpo", "loss": {"name": "mdpo_linear", "beta": 0.1}},
        ],
        "training": {"epochs": 1, "max_prompt_length": 256, "max_length": 512, "lora": {"r": 4}},
        "evaluation": {
            "judge": {"name": "local", **policy},
            "answers": {"max_new_tokens": 8},
            "benchmarks": [{"name": "alpaca_eval", "prompts": "builtin", "reference": "base", "limit": 6}],
        },
        "gates": [{"row": "multi-dpo", "baseline_row": "dpo", "margin": 100, "allow": True}],
        **changes,
    }
