"""Multi-DPO against TRL's DPOTrainer on the adjacent pairs of the same data: `python -m tests.perf.training`.

SmolLM2-135M, full fine-tuning, AdamW, N responses a prompt, one prompt an optimizer step. Ours: one
shared-prefix row a prompt, reference log-probabilities cached. TRL's: the N-1 pairs of the prompt in one forward, the
reference in the loop (its default), no gradient checkpointing. Each measurement is a process of its own (so that its
peak of resident memory is), which first takes a step on a short prompt and then times the steps that count.

`--dtype float32 bfloat16` (the default is both): weights are float32; bfloat16 is autocast, on both sides. Sides
alternate in each round, so that a busy machine slows down both.

Prints a table over N and prompt:response, beside what counts of multiply-adds predict (`--main` leaves it out). The
last line is one JSON object, for N=4 with 128 and 128 tokens, medians of 3: by dtype, `time_ratio` (ours over TRL's,
reference cached), `time_ratio_with_reference` (our reference pass included) and `memory_ratio`; and the same of the
dtype in which each side is fastest. `--small`: a tiny random model, 16 and 16 tokens, one round in the last dtype, a
table of one row in the first.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.perf._shared import options, report, tiny_model
from tests.perf.sides.training import Figures, Size

MODEL = "smollm2-135m-instruct"
DTYPES = ("float32", "bfloat16")


class Plan(NamedTuple):
    """What is measured: the size of the last line, how often, and those of the table."""

    main: Size
    rounds: int
    table: Sequence[Size]


FULL = Plan(
    Size(4, 128, 128, 2), 3, [Size(n, p, r, 1) for n in (2, 4, 8) for p, r in ((64, 128), (128, 128), (512, 128))]
)
SMALL = Plan(Size(4, 16, 16, 2), 1, [Size(2, 16, 16, 1)])


class Work(NamedTuple):
    """Multiply-adds of a model in one forward: of a token in the layers' matrices, of a pair of tokens in attention,
    and of a token in the head."""

    body: float
    pair: float
    head: float

    @classmethod
    def of(cls, model: str) -> "Work":
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        from harness.models.load import local_path

        config = AutoConfig.from_pretrained(local_path(model))
        with torch.device("meta"):
            layers = AutoModelForCausalLM.from_config(config).get_decoder().layers
        width = config.num_attention_heads * (config.head_dim or config.hidden_size // config.num_attention_heads)
        body = sum(p.numel() for p in layers.parameters() if p.dim() == 2)
        return cls(body, 2 * width * config.num_hidden_layers, config.hidden_size * config.vocab_size)


def predicted(size: Size, work: Work, *, reference: bool) -> float:
    """Ours over TRL's in multiply-adds (losses.md, section 5). A backward costs two forwards, and computes again what
    isn't kept: attention on both sides, and TRL's head, which on a CPU also projects the prompts."""
    n, prompt, response, _ = size
    tokens, pairs = prompt - 1 + n * response, prompt**2 / 2 + n * (prompt * response + response**2 / 2)
    forward = Work(tokens * work.body, pairs * work.pair, n * response * work.head)
    ours = 3 * forward.body + 3.5 * forward.pair + 3 * forward.head + (sum(forward) if reference else 0)
    sequences, length = 2 * (n - 1), prompt + response
    forward = Work(*(sequences * x for x in (length * work.body, length**2 / 2 * work.pair, length * work.head)))
    return ours / (3 * forward.body + 3.5 * forward.pair + 4 * forward.head + sum(forward))


Rounds = list[tuple[Figures, Figures]]
"""Ours and TRL's figures of each round."""


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--main", action="store_true", help="leave the table out")
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=DTYPES, help="of matrix products")
    chosen = parser.parse_args()
    plan = SMALL if chosen.small else FULL
    with tempfile.TemporaryDirectory() as folder:
        model = str(tiny_model(Path(folder) / "model")) if chosen.small else MODEL
        by_dtype: dict[str, Rounds] = {dtype: [] for dtype in (chosen.dtype[-1:] if chosen.small else chosen.dtype)}
        for _ in range(plan.rounds):
            for dtype, rounds in by_dtype.items():
                ours, theirs = run("ours", model, dtype, plan.main), run("trl", model, dtype, plan.main)
                rounds.append((ours, theirs))
                print(f"{dtype}: ours {ours}\n{dtype}: TRL  {theirs}", flush=True)
        if not chosen.main:
            for dtype in chosen.dtype[:1] if chosen.small else chosen.dtype:
                table(model, dtype, plan.table)
    fastest = [min(by_dtype, key=lambda dtype: median(by_dtype[dtype], side, "seconds")) for side in (0, 1)]
    best = ratios([(o, t) for (o, _), (_, t) in zip(by_dtype[fastest[0]], by_dtype[fastest[1]], strict=True)])
    by_name = {dtype: ratios(rounds) for dtype, rounds in by_dtype.items()}
    print(f"fastest in: ours {fastest[0]}, TRL {fastest[1]}")
    report({**by_name, **best})


def median(rounds: Rounds, side: int, name: str) -> float:
    return statistics.median(pair[side][name] for pair in rounds)


def ratios(rounds: Rounds) -> Figures:
    """Medians of ours over medians of TRL's."""
    compared = {
        "time_ratio": ("seconds", "seconds"),
        "time_ratio_with_reference": ("with_reference", "seconds"),
        "memory_ratio": ("gigabytes", "gigabytes"),
    }
    return {
        name: round(median(rounds, 0, ours) / median(rounds, 1, theirs), 3) for name, (ours, theirs) in compared.items()
    }


def table(model: str, dtype: str, sizes: Sequence[Size]) -> None:
    """One measurement a side and size: how the ratio grows with N and with the share of the prompt."""
    work = Work.of(model)
    print(f"\n{dtype}\n\n| N | prompt:response | ours, s | TRL, s | ratio | predicted | with reference | predicted |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|")
    for size in sizes:
        ours, theirs = run("ours", model, dtype, size), run("trl", model, dtype, size)
        ratios = [ours[name] / theirs["seconds"] for name in ("seconds", "with_reference")]
        counts = [predicted(size, work, reference=reference) for reference in (False, True)]
        print(
            f"| {size.n} | {size.prompt}:{size.response} | {ours['seconds']:.2f} | {theirs['seconds']:.2f} "
            f"| {ratios[0]:.3f} | {counts[0]:.3f} | {ratios[1]:.3f} | {counts[1]:.3f} |",
            flush=True,
        )


def run(who: str, model: str, dtype: str, size: Size) -> Figures:
    """A measurement in a process of its own."""
    command = [sys.executable, "-m", "tests.perf.sides.training", who, model, dtype, *map(str, size)]
    environment = {**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_WAIT_POLICY": "passive", "TQDM_DISABLE": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


if __name__ == "__main__":
    main()
