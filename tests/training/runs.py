"""Runs of the trainer on tiny models, and comparisons of what they leave."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.logprobs.score import score_rows
from harness.losses.mdpo_linear import MdpoLinear
from harness.models import load as models
from harness.protocols import Loss
from harness.recipe.policy import Policy
from harness.recipe.training import Lora, Point, Training
from harness.training.budget import Budget
from harness.training.ranked.trainer import train_policy
from harness.types import RankedExample
from tests.training.models import example, examples

LENGTHS = {"max_prompt_length": 64, "max_length": 128}
LORA = Lora(r=4)
UNEVEN = [
    *examples(6),
    example("short", ("aaa", 1.0), ("1", 0.0)),
    example("three", ("e", 2.0), ("ee", 1.0), ("0", 0.0)),
]


def policy_of(folder: Path) -> Policy:
    return Policy(model=str(folder), dtype="float32")


def reference_of(
    folder: Path,
    data: Sequence[RankedExample],
    dtype: models.Dtype = "float32",
    bits: Any = None,
    autocast: torch.dtype | None = None,
) -> dict[str, list[float]]:
    rows = [(e.messages, r.text) for e in data for r in e.responses]
    model, tokenizer = models.load_causal_lm(str(folder), dtype=dtype, bits=bits), models.load_tokenizer(str(folder))
    found = iter(
        score_rows(model, tokenizer, rows, **LENGTHS, batch_size=8, advance=lambda _n: None, autocast=autocast)
    )
    return {e.id: [next(found).logp for _ in e.responses] for e in data}


def train(
    model: Path,
    data: Sequence[RankedExample],
    folder: Path,
    loss: Loss | None = None,
    *,
    micro: int = 2,
    seed: int = 3,
    bounded_memory: bool = False,
    partial_folder: Path | None = None,
    budget: Budget | None = None,
    points: Sequence[Point] = (),
    **changes: Any,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The report and the lines of steps.jsonl of a run in `folder`."""
    fields = {"learning_rate": 5e-3, "batch_size": 4, "lora": LORA, "warmup_ratio": 0.0, **LENGTHS} | changes
    folder.mkdir()
    training = Training.model_validate(fields)
    report = train_policy(
        policy_of(model),
        data,
        reference_of(model, data, bits=training.lora.bits if training.lora else None),
        loss or MdpoLinear(beta=0.1),
        training,
        folder=folder,
        seed=seed,
        micro_batch_size=micro,
        advance=lambda _n: None,
        bounded_memory=bounded_memory,
        partial_folder=partial_folder,
        budget=budget,
        points=points,
    )
    return report, [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]


def weights(folder: Path, name: str = "checkpoint") -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    (file,) = (folder / name).glob("*.safetensors")
    return load_file(file)


def loaded_outside(checkpoint: Path, base: str | Path) -> Any:
    """A checkpoint as users of transformers and PEFT load it."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    if not (checkpoint / "adapter_config.json").exists():
        return AutoModelForCausalLM.from_pretrained(checkpoint)
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), checkpoint).eval()


def untimed(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Steps without what depends on the clock and the machine."""
    timed = ("tokens_per_second", "peak_memory_gb")
    return [{name: value for name, value in step.items() if name not in timed} for step in steps]


def assert_same_weights(one: Path, two: Path, *, atol: float) -> None:
    first, second = weights(one), weights(two)
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=atol, msg=name)


def assert_same_steps(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], rel: float) -> None:
    assert len(ours) == len(theirs)
    for one, two in zip(ours, theirs, strict=True):
        for name in ("loss", "learning_rate", "margin_mean", "margin_variance", "tokens", "prompts"):
            assert one[name] == pytest.approx(two[name], rel=rel, abs=1e-4), name
        for a, b in zip(one["logp_by_rank"], two["logp_by_rank"], strict=True):
            assert a == (b if b is None else pytest.approx(b, rel=rel, abs=1e-4))
        assert one["grad_norm"] == pytest.approx(two["grad_norm"], rel=1e-3)
