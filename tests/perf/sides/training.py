"""One measurement of `tests.perf.training`, in a process of its own. `python -m tests.perf.sides.training SIDE MODEL
DTYPE N PROMPT RESPONSE PROMPTS`, where SIDE is `ours` or `trl`. The last line is one JSON object."""

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.perf._shared import report

SEED = 0
WARM_UP = (16, 16)
Figures = dict[str, float]


class Size(NamedTuple):
    """Responses a prompt, tokens of the prompt and of each response, and how many prompts are timed."""

    n: int
    prompt: int
    response: int
    prompts: int


def measure(who: str, model: str, dtype: str, size: Size) -> Figures:
    """Seconds a prompt and peak gigabytes; ours also with what its share of the reference pass took."""
    from harness.models import load as models

    tokenizer = models.load_tokenizer(model)
    groups = [random_group(tokenizer, size.n, *WARM_UP, 0)]
    groups += [random_group(tokenizer, size.n, size.prompt, size.response, k) for k in range(1, size.prompts + 1)]
    with tempfile.TemporaryDirectory() as scratch:
        seconds = (train_ours if who == "ours" else train_trl)(model, dtype, groups, tokenizer, Path(scratch))
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {name: value / size.prompts for name, value in seconds.items()} | {"gigabytes": gigabytes}


def random_group(tokenizer: Any, n: int, prompt: int, response: int, seed: int) -> Any:
    """A prompt with N responses of random tokens, every response better than the next."""
    import random

    from harness.training.ranked.batch import Group

    rng = random.Random(seed)
    ids = [[rng.randrange(100, len(tokenizer) - 100) for _ in range(k)] for k in (prompt, *[response] * n)]
    scores = tuple(float(-k) for k in range(n))
    return Group(f"g{seed}", ids[0], tuple(ids[1:]), scores, (0.0,) * n)


def in_training_order(wanted: Sequence[Any]) -> list[Any]:
    """The rows so laid out that the trainers' shuffling brings them into the order wanted."""
    from harness.training.ranked.order import EpochOrder

    rows: list[Any] = [None] * len(wanted)
    for row, place in zip(wanted, EpochOrder(len(wanted), SEED), strict=True):
        rows[place] = row
    return rows


def arguments(folder: Path, *, bf16: bool) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "learning_rate": 1e-6,
        "seed": SEED,
        "data_seed": SEED,
        "use_cpu": True,
        "bf16": bf16,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "remove_unused_columns": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def timed_steps(trainer: Any) -> Callable[[], float]:
    """Adds a clock to a trainer: seconds from the end of its first step to the end of its last."""
    from transformers import TrainerCallback

    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    trainer.add_callback(Clock())
    return lambda: ends[-1] - ends[0]


def train_ours(model: str, dtype: str, groups: Sequence[Any], tokenizer: Any, folder: Path) -> Figures:
    """The reference pass over the timed groups, then a pass of multi_dpo."""
    from contextlib import nullcontext
    from functools import partial

    import torch
    from transformers import TrainingArguments

    from harness.components import build
    from harness.logprobs.head import evaluating, give_logps, response_logps
    from harness.logprobs.layout import shared_prefix_obstacle
    from harness.logprobs.rows import FORWARD
    from harness.models import load as models
    from harness.recipe.policy import Policy
    from harness.training.memory import give_back
    from harness.training.policy import load_policy
    from harness.training.ranked.batch import collate, lengths_of
    from harness.training.ranked.ranked_trainer import RankedTrainer, RunOptions

    pad = partial(collate, pad_id=int(tokenizer.pad_token_id), shared=True)
    autocast = None if dtype == "float32" else getattr(torch, dtype)
    lengths = [lengths_of(group) for group in groups]
    reference = models.load_causal_lm(model, dtype="float32")
    assert shared_prefix_obstacle(reference, lengths) is None
    products = torch.autocast("cpu", autocast) if autocast else nullcontext()
    with torch.no_grad(), evaluating(reference), products:
        for k, group in enumerate(groups):
            if k == 1:
                started = time.perf_counter()
            batch = pad([group])
            response_logps(reference, {name: batch[name] for name in FORWARD if name in batch})
        referred = time.perf_counter() - started
    del reference
    give_back()  # as train_policy does
    policy = load_policy(Policy(model=model, dtype="float32"), None, SEED)
    assert shared_prefix_obstacle(policy, lengths) is None
    give_logps(policy)
    loss: Any = build("loss", {"name": "mdpo_linear", "beta": 0.1})
    trainer = RankedTrainer(
        policy,
        TrainingArguments(per_device_train_batch_size=1, num_train_epochs=1, **arguments(folder, bf16=False)),
        in_training_order(groups),
        pad,
        loss,
        RunOptions(autocast, False, folder / "steps.jsonl", SEED, lambda _n: None),
        tokenizer,
    )
    clock = timed_steps(trainer)
    trainer.train()
    return {"seconds": clock(), "with_reference": clock() + referred}


def train_trl(model: str, dtype: str, groups: Sequence[Any], tokenizer: Any, folder: Path) -> Figures:
    """A pass of TRL's DPOTrainer over the adjacent pairs, a prompt's pairs in one step."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from harness.models import load as models

    class Tokenized(DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
            return dataset  # token ids already: the same that ours gets

    pairs = [
        {"prompt_ids": g.prompt, "chosen_ids": better, "rejected_ids": worse}
        for g in groups
        for better, worse in zip(g.responses, g.responses[1:], strict=False)
    ]
    trainer = Tokenized(
        model=models.load_causal_lm(model, dtype="float32"),
        args=DPOConfig(
            per_device_train_batch_size=len(groups[0].responses) - 1,
            num_train_epochs=1,
            beta=0.1,
            **arguments(folder, bf16=dtype == "bfloat16"),
        ),
        train_dataset=Dataset.from_list(in_training_order(pairs)),
        processing_class=tokenizer,
    )
    clock = timed_steps(trainer)
    trainer.train()
    return {"seconds": clock()}


if __name__ == "__main__":
    _who, _model, _dtype, *_numbers = sys.argv[1:]
    report(measure(_who, _model, _dtype, Size(*map(int, _numbers))))
