"""A recipe whose designs are compared, ways to ask about it, and pilot boards."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from harness.boards.entry import Entry
from harness.engine.store import Store
from harness.pipeline.detect.designs import Sizable
from harness.pipeline.detect.search import Detection, Wanted, detect
from harness.pipeline.detect.subject import subject_of
from harness.recipe.load import Study, load_study
from harness.recipe.recipe import Recipe
from tests.perf.claims import Setting, differences, entries

RECIPE = """\
name: planned
seed: 5
policy: {{model: {model}, dtype: float32}}
data:
  seeds: [{{name: builtin}}]
  holdout: 0.25
  responses: {{generator: {{name: hf, model: {model}, dtype: float32}}, n: 3, max_new_tokens: 12}}
  reward: {{name: length}}
methods:
  - {{id: dpo, loss: {{name: dpo_best_worst, beta: 0.1}}}}
  - {{id: multi-dpo, loss: {{name: mdpo_linear, beta: 0.1}}, match: tokens, training: {{epochs: 2}}}}
training: {{epochs: 1, max_prompt_length: 256, max_length: 512, lora: {{r: 4}}}}
evaluation:
  judge: {{name: openai, model: j, base_url: "http://127.0.0.1:9/v1", price: {{input: 2.5, output: 10}}}}
  answers: {{max_new_tokens: 64}}
  benchmarks:
    - {{name: alpaca_eval, prompts: builtin, reference: base, limit: 12}}
    - {{name: mt_bench, questions: builtin}}
primary: {{metric: alpaca_eval.win_rate}}
"""
CLEAR = "training=0.6,prompts=4,rest=8,judge=2"
"""So little noise that a few prompts show a few points."""
FREE = "evaluation.judge.price={input: 0, output: 0}"
SWEEP = "sweep={grid: {training.epochs: [1, 2]}}"
Command = Callable[..., tuple[int, str]]


def with_edits(path: Path, *edits: str) -> Callable[[Sequence[str]], Study]:
    return lambda more: load_study(path, [*edits, *more], check=False)


@cache
def found(path: Path, difference: float, *edits: str, **wanted: Any) -> Detection:
    store = Store(path.parent / "store")
    return detect(with_edits(path, *edits), store, Wanted(difference, **{"assume": CLEAR, **wanted}))


def sizable(recipe: Recipe) -> Sizable:
    subject = subject_of(recipe)
    return Sizable(recipe, subject.evaluation, subject.benchmark)


def pilot_board(folder: Path, rows: list[Entry]) -> Path:
    (folder / "entries").mkdir(parents=True)
    for row in rows:
        (folder / "entries" / f"{row.id}.json").write_text(row.model_dump_json(exclude_unset=True))
    return folder


def simulated_pilot(folder: Path, seeds: int, prompts: int) -> tuple[Path, np.ndarray]:
    """A board of two methods, and the differences between them: [seeds, prompts]."""
    values = differences(np.random.default_rng(1), Setting(2.3, seeds, prompts, True), 3.0)
    first, second = (np.clip(50 + (x - 50) / 2, 0, 100) for x in values)  # half as wide, and within the limits
    return pilot_board(folder / "pilot", entries((first, second))), first - second
