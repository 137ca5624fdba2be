"""What a judge that only counts reaches: `features` fitted to recorded verdicts, tested on other systems and prompts.

    python -m tests.perf.features_judge --recorded FOLDER [--write]

Three of the six recorded systems and half of the prompts to fit it, the other three and the other half to test it, in
all four ways of choosing them; the first way is the one that ships, and `--write` writes its weights and calibration
into `harness/assets`. The last line is JSON.
"""

import argparse
import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import calibrating
from harness.annotator import load_annotator
from harness.calibration import Calibration, keep
from harness.calibration_sample import Recorded, RecordedPair, read_recorded
from harness.components import build
from harness.datafiles import asset
from harness.judging import Asker, make_ask
from harness.types import Message, PreferencePair

ANNOTATOR = "weighted_alpaca_eval_gpt4_turbo"
FIRST = ("FuseChat-Llama-3.2-3B-Instruct", "vicuna-7b-v1.5", "alpaca-7b")
SHOWN = (
    "balanced_agreement",
    "longer_balanced_agreement",
    "gain_over_longer",
    "auc_within_systems",
    "longer_auc_within_systems",
    "cohen_kappa",
    "longer_preferred",
    "longer_preferred_recorded",
    "board_slope",
    "board_offset",
)


def part(recorded: Recorded, systems: set[str], questions: set[str]) -> Recorded:
    """Of some systems, the verdicts on some questions."""
    kept = {
        name: [p for p in pairs if p.pair.question_id in questions]
        for name, pairs in recorded.systems.items()
        if name in systems
    }
    return recorded._replace(systems=kept)


def halves(recorded: Recorded) -> tuple[set[str], set[str]]:
    """All questions, cut in two at random."""
    questions = sorted({p.pair.question_id for pairs in recorded.systems.values() for p in pairs})
    random.Random(0).shuffle(questions)
    return set(questions[: len(questions) // 2]), set(questions[len(questions) // 2 :])


def fitted(pairs: Sequence[RecordedPair], folder: Path) -> dict[str, Any]:
    """Fit `features` to verdicts; ties are left out."""
    rows = []
    for p in pairs:
        if p.won == 0.5:
            continue
        better, worse = (p.pair.output, p.pair.reference) if p.won > 0.5 else (p.pair.reference, p.pair.output)
        messages = (Message(role="user", content=p.pair.instruction),)
        rows.append(
            PreferencePair(id=p.pair.question_id, messages=messages, chosen=better, rejected=worse, source=p.system)
        )
    reward: Any = build("reward", {"name": "features"})
    report: dict[str, Any] = reward.fit(rows, folder, seed=0, advance=lambda _: None)
    return report


def calibrated(weights: Path | str, test: Recorded, folder: Path) -> Calibration:
    judge = build("judge", {"name": "reward_model", "reward": {"name": "features", "weights": str(weights)}})

    def asker(member: Any) -> Asker:
        return make_ask(member, folder / "replies.jsonl", concurrency=1, advance=lambda _: None)

    count = sum(map(len, test.systems.values()))
    found, _ = calibrating.calibrate(judge, load_annotator(ANNOTATOR), test, pairs=count, seed=0, asker=asker)
    return found


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--recorded", type=Path, required=True)
    options.add_argument("--write", action="store_true")
    given = options.parse_args()
    recorded = read_recorded([given.recorded])
    both = halves(recorded)
    first = set(FIRST)
    results = {}
    for i, half in enumerate(both):
        for systems in (first, recorded.systems.keys() - first):
            train = part(recorded, set(systems), half)
            test = part(recorded, recorded.systems.keys() - systems, both[1 - i])
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch)
                report = fitted([p for pairs in train.systems.values() for p in pairs], folder)
                weights: Path | str = folder / "features.json"
                if given.write and not results:
                    shipped = asset("judges", "features_gpt4_turbo.json")
                    shipped.parent.mkdir(exist_ok=True)
                    shipped.write_text((folder / "features.json").read_text())
                    weights = "gpt4_turbo"
                found = calibrated(weights, test, folder)
            if weights == "gpt4_turbo":
                keep(found, asset("calibrations"))
            name = f"fitted to {', '.join(sorted(systems))}, half {i + 1}"
            print(f"{name}: {found.text}; weights {report['weights']}")
            for figure in SHOWN:
                metric = found.figures[figure]
                print(f"  {figure} {metric.value} {metric.ci95}")
            results[name] = {figure: found.figures[figure].value for figure in SHOWN}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
