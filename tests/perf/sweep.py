"""What sweeps cost: planning 500 cells, all cells in one run against each alone, a Ray cluster against one process.

    python -m tests.perf.sweep [--rounds 1]

On a tiny model: N in 2, 3, 4, 5 x two reward models x two seed sets, two methods each. `plan_seconds_500` is the whole
command, from its start; `work_ratio` the seconds of one run over those of the 16 cells run one by one, `planned_ratio`
what `harness plan` had said of it; `ray_ratio` the seconds on a Ray cluster that is started for it (two processors),
its start included, over those in one process. Medians over rounds, alternating.
"""

import argparse
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

from tests.tiny import tiny_causal_lm

ROOT = Path(__file__).parents[2]
RECIPE = """\
name: perf
seed: 3
policy: {{model: {model}, dtype: float32}}
data:
  seeds: [{{name: builtin}}]
  holdout: 0.2
  prompts: {{generator: {{name: hf, model: {model}, dtype: float32}}, count: 4, max_new_tokens: 64, max_attempts: 40}}
  responses: {{generator: {{name: hf, model: {model}, dtype: float32}}, n: 3, max_new_tokens: 12}}
  reward: {{name: length}}
methods:
  - {{id: dpo-adjacent, loss: {{name: dpo_adjacent, beta: 0.1}}}}
  - {{id: multi-dpo, loss: {{name: mdpo_linear, beta: 0.1}}}}
training: {{epochs: 1, learning_rate: 1.0e-3, max_prompt_length: 256, max_length: 512, lora: {{r: 4}}}}
evaluation:
  judge: {{name: local, model: {model}, dtype: float32}}
  answers: {{max_new_tokens: 12}}
  benchmarks:
    - {{name: alpaca_eval, prompts: builtin, reference: base, limit: 6}}
    - {{name: mt_bench, questions: builtin, limit: 8}}
sweep:
  grid:
    data.responses.n: [2, 3, 4, 5]
    data.reward:
      trained: {{name: trained, base: {model}, dtype: float32, epochs: 1}}
      length: {{name: length}}
    data.seeds:
      some: [{{name: builtin, limit: 32}}]
      all: [{{name: builtin}}]
"""
MANY = ("--set", "sweep.grid[training.epochs]=[1, 2, 3, 4]", "--set", "sweep.seeds=[0, 1, 2, 3, 4, 5, 6, 7]")
LEFT_OUT = (
    "--set",
    "sweep.exclude=[{seed: 7, epochs: 4, n: 2}, {seed: 7, epochs: 4, n: 3}, {seed: 7, epochs: 4, n: 4}]",
)


def harness(folder: Path, *arguments: str) -> tuple[float, str]:
    """(seconds, what it printed)."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "HARNESS_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "harness.cli", *arguments]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - started, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows = (ROOT / "harness" / "assets" / "seeds.jsonl").read_text().splitlines()
        words = [text for line in rows for text in json.loads(line).values()]
        (folder / "model").mkdir()
        model = tiny_causal_lm(folder / "model", window=8192, words=words)
        recipe = folder / "perf.yaml"
        recipe.write_text(RECIPE.format(model=model))
        plans = [harness(folder / "plan", "plan", str(recipe), *MANY, *LEFT_OUT) for _ in range(3)]
        cells = int(plans[0][1].split()[0])
        print(f"plan of {cells} cells: {', '.join(f'{seconds:.2f} s' for seconds, _ in plans)}")
        told = " ".join(harness(folder / "plan", "plan", str(recipe))[1].split())
        planned = 1 - int(re.findall(r"(\d+)% less time", told)[0]) / 100
        varied = product((2, 3, 4, 5), ("trained", "length"), ("some", "all"))
        ids = [f"n-{n}.reward-{reward}.seeds-{seeds}" for n, reward, seeds in varied]
        together, clustered, alone = [], [], []
        for number in range(rounds):
            together.append(harness(folder / f"one-{number}", "run", str(recipe))[0])
            print(f"in one process: {together[-1]:.1f} s", flush=True)
            clustered.append(harness(folder / f"ray-{number}", "run", str(recipe), "--ray", "local")[0])
            print(f"on a cluster: {clustered[-1]:.1f} s", flush=True)
            alone.append(sum(harness(folder / f"{i}-{number}", "run", str(recipe), "--cell", i)[0] for i in ids))
            print(f"cells alone: {alone[-1]:.1f} s", flush=True)
        result = {
            "plan_seconds_500": round(statistics.median(seconds for seconds, _ in plans) * 500 / cells, 2),
            "cells_planned": cells,
            "work_ratio": round(statistics.median(t / a for t, a in zip(together, alone, strict=True)), 3),
            "planned_ratio": round(planned, 3),
            "ray_ratio": round(statistics.median(c / t for c, t in zip(clustered, together, strict=True)), 3),
        }
        print(json.dumps(result))


if __name__ == "__main__":
    main()
