"""A run of one method of each kind on a tiny model whose answers differ from prompt to prompt."""

import json
from pathlib import Path
from typing import Any

import harness
from tests.e2e.test_rows_are_their_checkpoints import LENGTHS, LOSS, METHODS, NEW_TOKENS, PAIRS, varied_model

CARD = "---\nlicense: apache-2.0\nlanguage: [en, de]\n---\nA tiny model.\n"


def recipe(folder: Path, dtype: str, methods: list[str], **changes: Any) -> dict[str, Any]:
    """The recipe; its model and seed file are written into the folder."""
    model = varied_model(folder / "secret-place" / "model")
    (model / "README.md").write_text(CARD)
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    return {
        "name": "board",
        "seed": 1,
        "policy": {"model": str(model), "dtype": dtype},
        "data": {
            "seeds": [{"name": "jsonl", "path": str(folder / "pairs.jsonl"), "licence": "CC0-1.0"}],
            "holdout": 4,
            "report": False,
        },
        "methods": [{"id": name, "loss": LOSS, "training": METHODS[name]} for name in methods],
        "training": {"epochs": 1, "learning_rate": 1e-2, "batch_size": 4, "lora": {"r": 4}, **LENGTHS},
        "evaluation": {
            "judge": {"name": "reward_model", "reward": {"name": "length"}},
            "answers": {"max_new_tokens": NEW_TOKENS, "temperature": 0.0},
            "benchmarks": [{"name": "alpaca_eval", "prompts": "builtin", "reference": "base", "limit": 7}],
        },
        **changes,
    }


def run(folder: Path, made: dict[str, Any]) -> harness.Run:
    return harness.run(made, leaderboards=folder / "boards", store=folder / "store", progress=False)


def answers(done: harness.Run, row: str) -> dict[str, str]:
    """The row's recorded answers by their questions, from the board's public files."""
    (path,) = (done.folder / "data" / "alpaca_eval").rglob(f"{row}/model_outputs.json")
    return {item["instruction"]: item["output"] for item in json.loads(path.read_text())}
