"""How often the statements of boards and gates are wrong: `python -m tests.perf.claims`.

Boards of two methods are simulated: seeds × prompts, trainings that differ by 0, 0.6, 1.2 or 2.3 points of standard
deviation (oxRL, arXiv 2603.19335, has 2.27 over five seeds of DPO), 2 to 10 seeds, 20 to 805 prompts, and verdicts that
are dense, or tied on 90 % of the prompts. Each goes the way of a real board, from entries to
`harness.claims.primary.primary`. Gates are simulated through `harness.gate.check.run_gate`, at a true difference of
exactly the margin.

Prints a table; the last line is one JSON object. `false_positive_max`: the largest share of significant differences
where there is none. `coverage_min`: the smallest share of 95 % CIs that hold the true difference, of methods and of two
checkpoints. `gate_false_pass_max`: the largest share of gates passed. `power_gap_max`: the largest distance of the
predicted power (`harness.stats.power`) from the realised. `stderr_gap_max`: the same of the standard error, relative.
`--small`: few boards, two settings.
"""

import itertools
import math
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np

from harness.boards.entry import Entry
from harness.claims.primary import primary
from harness.gate.check import Check, run_gate
from harness.stats.power import Design, Parts, power, stderr
from harness.types import Metric
from tests.perf._shared import options, report

TRAININGS = (0.0, 0.6, 1.2, 2.3)
SEEDS = (2, 3, 5, 10)
PROMPTS = (20, 80, 805)
MARGIN = 2.0
GATE_PROMPTS = (10, 20, 44, 80, 115, 150, 200, 300, 805)
METRIC = "alpaca_eval.win_rate"


class Setting(NamedTuple):
    """`training`: standard deviation of one method's trainings, in points. `dense`: else 90 % of verdicts are ties."""

    training: float
    seeds: int
    prompts: int
    dense: bool


class Rates(NamedTuple):
    """Shares of simulated boards, and the errors of the prediction."""

    false_positive: float
    coverage: float
    power_gap: float
    stderr_gap: float


PROMPT_SD, ANSWER_SD = 8.0, 24.0
"""Of dense verdicts, in points: what a prompt adds to a method's answers, and single answers beyond that."""
TIED = 0.9
LARGEST_TIED = 5.0
"""Points; where a tenth of the prompts tells, a difference of ten is all there can be."""


def parts(setting: Setting) -> Parts:
    """The true standard deviations of the difference of the two methods."""
    training = math.sqrt(2) * setting.training
    if setting.dense:
        return Parts(training, math.sqrt(2) * PROMPT_SD, math.sqrt(2) * ANSWER_SD, 0.0, 100.0)
    return Parts(training, 0.0, 100 * math.sqrt(1 - TIED), 0.0, 100.0)


def differences(rng: np.random.Generator, setting: Setting, truth: float) -> tuple[np.ndarray, np.ndarray]:
    """Percentages of both methods: two arrays [seeds, prompts]; the first is better by `truth` points."""
    k, n = setting.seeds, setting.prompts
    shifts = rng.normal(0, setting.training, (2, k, 1))
    shifts[0] += truth
    if setting.dense:
        values = 50 + shifts + rng.normal(0, PROMPT_SD, (2, 1, n)) + rng.normal(0, ANSWER_SD, (2, k, n))
        return values[0], values[1]
    won = rng.random((k, n)) < 0.5 + (shifts[0] - shifts[1]) / 200 / (1 - TIED)
    apart = rng.random((k, n)) >= TIED
    return np.where(apart, 100.0 * won, 50.0), np.where(apart, 100.0 * ~won, 50.0)


def entries(values: tuple[np.ndarray, np.ndarray]) -> list[Entry]:
    """A board's rows with these percentages."""
    rows = []
    names = [f"q{i}" for i in range(values[0].shape[1])]
    for method, of_method in zip(("b", "a"), reversed(values), strict=True):
        for seed, verdicts in enumerate(of_method):
            rows.append(
                Entry(
                    id=f"{method}.seed-{seed}",
                    method="dpo_adjacent",
                    metrics={METRIC: Metric(value=float(verdicts.mean()), n=len(verdicts))},
                    provenance={
                        "judge": {"name": "j"},
                        "benchmarks": {"alpaca_eval": {}},
                        "method_id": method,
                        "training_seed": seed,
                        "training": {"steps": 1},
                    },
                    outcomes={"alpaca_eval": dict(zip(names, (1 + verdicts / 100).tolist(), strict=True))},
                )
            )
    return rows


def rates(setting: Setting, boards: int) -> Rates:
    """From boards without a difference, and boards with one that is detected in about 70 % of cases, if so large a one
    can be."""
    rng = np.random.default_rng(abs(hash(setting)) % 2**32)
    design, truths = Design(setting.seeds, setting.prompts), parts(setting)
    apart = min(_difference_at(0.7, truths, design), 60.0 if setting.dense else LARGEST_TIED)
    found: dict[float, list[tuple[float, bool, bool]]] = {0.0: [], apart: []}
    for truth, results in found.items():
        for _ in range(boards):
            result = primary(entries(differences(rng, setting, truth)))
            assert result is not None
            (effect,) = result.effects
            low, high = effect.ci95 or (-math.inf, math.inf)
            results.append((effect.difference, not low <= 0 <= high, low <= truth <= high))
    covered = [np.mean([c for *_, c in results]) for results in found.values()]
    realised = float(np.mean([significant for _, significant, _ in found[apart]]))
    spread = float(np.std([x for x, *_ in found[0.0]], ddof=1))
    return Rates(
        float(np.mean([significant for _, significant, _ in found[0.0]])),
        float(min(covered)),
        abs(realised - power(apart, truths, design)),
        abs(stderr(truths, design) / spread - 1),
    )


def _difference_at(wanted: float, truths: Parts, design: Design) -> float:
    low, high = 0.0, 100.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, truths, design) >= wanted else (middle, high)
    return high


def losses(rng: np.random.Generator, kind: str, n: int) -> np.ndarray:
    """Differences of a row that is worse by exactly MARGIN, in points."""
    if kind == "rare losses":
        return np.where(rng.random(n) < MARGIN / 100, -100.0, 0.0)
    if kind == "rare losses and noise":
        return np.where(rng.random(n) < MARGIN / 100, -100.0, rng.normal(0, 1, n).round(2))
    if kind == "90 % ties":
        side = np.where(rng.random(n) < 0.5 - MARGIN / 200 / (1 - TIED), 100.0, -100.0)
        return np.where(rng.random(n) < TIED, 0.0, side)
    if kind == "low rates":
        return 100.0 * (rng.random(n) < 0.01) - 100.0 * (rng.random(n) < 0.01 + MARGIN / 100)
    return np.clip(rng.normal(-MARGIN, 30, n), -100, 100)


KINDS = ("rare losses", "rare losses and noise", "90 % ties", "low rates", "dense")


def false_passes(kind: str, n: int, gates: int) -> float:
    """The share of gates passed by a row that is worse by exactly the margin."""
    rng = np.random.default_rng(n)
    passed = 0
    for _ in range(gates):
        apart = losses(rng, kind, n)
        new, old = entries((50 + apart[None] / 2, 50 - apart[None] / 2))[::-1]
        passed += run_gate(new, old, Check(metric=METRIC, margin=MARGIN)).code == 0
    return passed / gates


def settings(small: bool) -> Iterator[Setting]:
    """Every combination; two of them in the small mode."""
    if small:
        yield from (Setting(0.6, 3, 20, False), Setting(1.2, 5, 20, True))
        return
    for training, seeds, prompts, dense in itertools.product(TRAININGS, SEEDS, PROMPTS, (True, False)):
        yield Setting(training, seeds, prompts, dense)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--boards", type=int, help="simulated boards a setting")
    chosen = parser.parse_args()
    boards = chosen.boards or (20 if chosen.small else 1000)
    chosen_settings = list(settings(chosen.small))
    gates = [(kind, n) for kind in KINDS for n in ((10, 44) if chosen.small else GATE_PROMPTS)]
    run: Callable[..., Iterator[Rates]] = map
    with ProcessPoolExecutor() as pool:
        run = map if chosen.small else pool.map
        by_setting = list(run(rates, chosen_settings, [boards] * len(chosen_settings)))
        passes = list(run(false_passes, *zip(*gates, strict=True), [2 * boards] * len(gates)))
    print("| training sd | seeds | prompts | verdicts | false positives | coverage | power gap | error gap |")
    print("|--:|--:|--:|---|--:|--:|--:|--:|")
    for s, r in zip(chosen_settings, by_setting, strict=True):
        kind = "dense" if s.dense else "90 % tied"
        print(f"| {s.training} | {s.seeds} | {s.prompts} | {kind} | " + " | ".join(f"{x:.3f}" for x in r) + " |")
    for (kind, n), share in zip(gates, passes, strict=True):
        print(f"gate, {kind}, n = {n}: {share:.3f}")
    sys.stdout.flush()
    report(
        {
            "false_positive_max": max(r.false_positive for r in by_setting),
            "coverage_min": min(r.coverage for r in by_setting),
            "gate_false_pass_max": max(passes),
            "power_gap_max": round(max(r.power_gap for r in by_setting), 3),
            "stderr_gap_max": round(max(r.stderr_gap for r in by_setting), 3),
        }
    )


if __name__ == "__main__":
    main()
