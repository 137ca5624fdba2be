"""What sweeps cost: planning 500 cells, all cells in one run against each alone, a Ray cluster against one process.

    python -m tests.perf.sweep [--rounds 1]

On a tiny model: N in 2, 3, 4, 5 x two reward models x two seed sets, two methods each. `plan_seconds_500` is the whole
command, from its start; `work_ratio` the seconds of one run over those of the 16 cells run one by one, `planned_ratio`
what `harness plan` had said of it; `ray_ratio` the seconds on a Ray cluster that is started for it (two processors),
its start included, over those in one process. Medians over rounds, alternating. The last line is one JSON object.
`--small`: N in 2, 3, one reward model, seed set, new prompt, method and benchmark; a plan of 7 cells.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import NamedTuple

from tests.perf._shared import ROOT, options, report, tiny_model

RECIPE = """\
name: perf
seed: 3
policy: {{model: {model}, dtype: float32}}
data:
  seeds: [{{name: builtin}}]
  holdout: 0.2
  prompts:
    generator: {{name: hf, model: {model}, dtype: float32}}
    count: {prompts}
    max_new_tokens: 64
    max_attempts: 40
  responses: {{generator: {{name: hf, model: {model}, dtype: float32}}, n: 3, max_new_tokens: 12}}
  reward: {{name: length}}
methods: {methods}
training: {{epochs: 1, learning_rate: 1.0e-3, max_prompt_length: 256, max_length: 512, lora: {{r: 4}}}}
evaluation:
  judge: {{name: local, model: {model}, dtype: float32}}
  answers: {{max_new_tokens: 12}}
  benchmarks: {benchmarks}
"""
METHODS = {"dpo-adjacent": "dpo_adjacent", "multi-dpo": "mdpo_linear"}
"""Losses."""
BENCHMARKS = {
    "alpaca_eval": {"prompts": "builtin", "reference": "base", "limit": 6},
    "mt_bench": {"questions": "builtin", "limit": 8},
}
SEEDS = {"some": [{"name": "builtin", "limit": 32}], "all": [{"name": "builtin"}]}


class Grid(NamedTuple):
    """The cells that are run, new prompts of each, methods, benchmarks, how often is planned, and edits for many more
    cells."""

    counts: tuple[int, ...]
    rewards: tuple[str, ...]
    seeds: tuple[str, ...]
    prompts: int
    methods: tuple[str, ...]
    benchmarks: tuple[str, ...]
    plans: int
    many: tuple[str, ...]

    @property
    def cells(self) -> list[str]:
        axes = product(self.counts, self.rewards, self.seeds)
        return [f"n-{n}.reward-{reward}.seeds-{seeds}" for n, reward, seeds in axes]

    def recipe(self, model: Path) -> str:
        rewards = {
            "trained": {"name": "trained", "base": str(model), "dtype": "float32", "epochs": 1},
            "length": {"name": "length"},
        }
        axes = {
            "data.responses.n": self.counts,
            "data.reward": {name: rewards[name] for name in self.rewards},
            "data.seeds": {name: SEEDS[name] for name in self.seeds},
        }
        methods = [{"id": name, "loss": {"name": METHODS[name], "beta": 0.1}} for name in self.methods]
        benchmarks = [{"name": name, **BENCHMARKS[name]} for name in self.benchmarks]
        lists = {"methods": json.dumps(methods), "benchmarks": json.dumps(benchmarks)}
        return RECIPE.format(model=model, prompts=self.prompts, **lists) + f"sweep: {json.dumps({'grid': axes})}\n"


FULL = Grid(
    (2, 3, 4, 5),
    ("trained", "length"),
    ("some", "all"),
    4,
    tuple(METHODS),
    tuple(BENCHMARKS),
    3,
    (
        "sweep.grid[training.epochs]=[1, 2, 3, 4]",
        "sweep.seeds=[0, 1, 2, 3, 4, 5, 6, 7]",
        "sweep.exclude=[{seed: 7, epochs: 4, n: 2}, {seed: 7, epochs: 4, n: 3}, {seed: 7, epochs: 4, n: 4}]",
    ),
)
SMALL = Grid(
    (2, 3),
    ("length",),
    ("some",),
    1,
    ("multi-dpo",),
    ("alpaca_eval",),
    1,
    ("sweep.grid[training.epochs]=[1, 2]", "sweep.seeds=[0, 1]", "sweep.exclude=[{seed: 1, epochs: 2, n: 2}]"),
)


def harness(folder: Path, *arguments: str) -> tuple[float, str]:
    """(seconds, its output) of a command."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "HARNESS_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "harness.cli", *arguments]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - started, done.stdout


def planned(recipe: Path, folder: Path, grid: Grid) -> tuple[int, list[float], float]:
    """(cells of the many, seconds of each plan of them, share of the time that one run of the recipe saves)."""
    edits = [word for edit in grid.many for word in ("--set", edit)]
    plans = [harness(folder, "plan", str(recipe), *edits) for _ in range(grid.plans)]
    cells = int(plans[0][1].split()[0])
    print(f"plan of {cells} cells: {', '.join(f'{seconds:.2f} s' for seconds, _ in plans)}", flush=True)
    text = " ".join(harness(folder, "plan", str(recipe))[1].split())
    return cells, [seconds for seconds, _ in plans], int(re.findall(r"(\d+)% less time", text)[0]) / 100


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    chosen = parser.parse_args()
    grid = SMALL if chosen.small else FULL
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        recipe = folder / "perf.yaml"
        recipe.write_text(grid.recipe(tiny_model(folder / "model")))
        cells, plans, saved = planned(recipe, folder / "plan", grid)
        together, clustered, alone = [], [], []
        for number in range(chosen.rounds):
            together.append(harness(folder / f"one-{number}", "run", str(recipe))[0])
            print(f"in one process: {together[-1]:.1f} s", flush=True)
            clustered.append(harness(folder / f"ray-{number}", "run", str(recipe), "--ray", "local")[0])
            print(f"on a cluster: {clustered[-1]:.1f} s", flush=True)
            runs = [harness(folder / f"{cell}-{number}", "run", str(recipe), "--cell", cell) for cell in grid.cells]
            alone.append(sum(seconds for seconds, _ in runs))
            print(f"cells alone: {alone[-1]:.1f} s", flush=True)
        report(
            {
                "plan_seconds_500": round(statistics.median(plans) * 500 / cells, 2),
                "cells_planned": cells,
                "work_ratio": round(statistics.median(t / a for t, a in zip(together, alone, strict=True)), 3),
                "planned_ratio": round(1 - saved, 3),
                "ray_ratio": round(statistics.median(c / t for c, t in zip(clustered, together, strict=True)), 3),
            }
        )


if __name__ == "__main__":
    main()
