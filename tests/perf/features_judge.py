"""What a judge that only counts reaches: `features` fitted to recorded verdicts, tested on other systems and prompts.

    python -m tests.perf.features_judge --recorded FOLDER [--write]

Three of the six recorded systems and half of the prompts to fit it, the other three and the other half to test it, in
all four ways of choosing them; the first way is the one that ships, and `--write` writes its weights and calibration
into `harness/assets`. The last line is one JSON object, a way and figure an entry. `--small`: 120 prompts, generated
ones where the recorded verdicts are absent.
"""

import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.benchmarks.alpaca_eval.annotator import load_annotator
from harness.components import build
from harness.files import asset
from harness.judging.asker import Asker, make_ask
from harness.judging.calibration import measure as calibrating
from harness.judging.calibration.record import Calibration, save_calibration
from harness.judging.calibration.sample import RecordedPair, RecordedVerdicts, read_recorded
from harness.types import Message, PreferencePair
from tests.perf._shared import add_data, is_there, options, report

ANNOTATOR = "weighted_alpaca_eval_gpt4_turbo"
FIRST = ("FuseChat-Llama-3.2-3B-Instruct", "vicuna-7b-v1.5", "alpaca-7b")
SMALL = 120
"""Prompts of `--small`."""
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


def part(recorded: RecordedVerdicts, systems: set[str], questions: set[str]) -> RecordedVerdicts:
    """Of some systems, the verdicts on some questions."""
    kept = {
        name: [p for p in pairs if p.pair.question_id in questions]
        for name, pairs in recorded.systems.items()
        if name in systems
    }
    return recorded._replace(systems=kept)


def halves(recorded: RecordedVerdicts) -> tuple[set[str], set[str]]:
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


def calibrated(weights: Path | str, test: RecordedVerdicts, folder: Path) -> Calibration:
    judge = build("judge", {"name": "reward_model", "reward": {"name": "features", "weights": str(weights)}})

    def asker(member: Any) -> Asker:
        return make_ask(member, folder / "replies.jsonl", concurrency=1, advance=lambda _: None)

    count = sum(map(len, test.systems.values()))
    found, _ = calibrating.calibrate(judge, load_annotator(ANNOTATOR), test, pairs=count, seed=0, asker=asker)
    return found


def generated(folder: Path, questions: int) -> Path:
    """Annotation files of six systems, in the package's format: the longer of two answers wins more often."""
    draw = random.Random(0)
    for system in (*FIRST, "generated-1", "generated-2", "generated-3"):
        rows = []
        for number in range(questions):
            lengths = [draw.randrange(20, 200) for _ in range(2)]
            texts = [" ".join(draw.choices(("a", "few", "words,", "of", "(any)", "kind:"), k=k)) for k in lengths]
            won = draw.betavariate(lengths[1] / 100, lengths[0] / 100)
            row = {"instruction": f"Question {number}?", "output_1": texts[0], "output_2": texts[1]}
            rows.append({**row, "generator_2": system, "annotator": ANNOTATOR, "preference": 1 + won})
        (folder / system).mkdir()
        (folder / system / "annotations.json").write_text(json.dumps(rows))
    return folder


def splits(recorded: RecordedVerdicts) -> Iterator[tuple[str, RecordedVerdicts, RecordedVerdicts]]:
    """(what is fitted to, the verdicts to fit, those to test) in all four ways."""
    both, first = halves(recorded), set(FIRST)
    for i, half in enumerate(both):
        for systems in (first, recorded.systems.keys() - first):
            name = f"fitted to {', '.join(sorted(systems))}, half {i + 1}"
            rest = recorded.systems.keys() - systems
            yield name, part(recorded, set(systems), half), part(recorded, set(rest), both[1 - i])


def measured(recorded: RecordedVerdicts, *, write: bool) -> dict[str, dict[str, float | None]]:
    """The figures by way."""
    results: dict[str, dict[str, float | None]] = {}
    for name, train, test in splits(recorded):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            fit = fitted([p for pairs in train.systems.values() for p in pairs], folder)
            weights: Path | str = folder / "features.json"
            if write and not results:
                shipped = asset("judges", "features_gpt4_turbo.json")
                shipped.parent.mkdir(exist_ok=True)
                shipped.write_text((folder / "features.json").read_text())
                weights = "gpt4_turbo"
            calibration = calibrated(weights, test, folder)
        if weights == "gpt4_turbo":
            save_calibration(calibration, asset("calibrations"))
        print(f"{name}: {calibration.text}; weights {fit['weights']}")
        for figure in SHOWN:
            metric = calibration.figures[figure]
            print(f"  {figure} {metric.value} {metric.ci95}", flush=True)
        results[name] = {figure: calibration.figures[figure].value for figure in SHOWN}
    return results


def main() -> None:
    parser = options(__doc__)
    add_data(parser)
    parser.add_argument("--recorded", type=Path, metavar="FOLDER", help="by default alpaca_eval/recorded of the data")
    parser.add_argument("--write", action="store_true", help="put weights and calibration into harness/assets")
    chosen = parser.parse_args()
    folder = chosen.recorded or chosen.data / "alpaca_eval" / "recorded"
    if chosen.small and chosen.write:
        parser.error("--small measures too little to be written: leave out --write")
    if not chosen.small:
        if not folder.is_dir():
            parser.error(f"no folder {folder}: name the recorded verdicts by --recorded, or try --small")
        report(measured(read_recorded([folder]), write=chosen.write))
        return
    with tempfile.TemporaryDirectory() as scratch:
        place = folder if is_there(folder, "generated verdicts") else generated(Path(scratch), SMALL)
        recorded = read_recorded([place])
        questions = sorted(halves(recorded)[0])[: SMALL // 2] + sorted(halves(recorded)[1])[: SMALL // 2]
        report(measured(part(recorded, set(recorded.systems), set(questions)), write=False))


if __name__ == "__main__":
    main()
