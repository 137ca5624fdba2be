"""What a judge that only counts reaches: `features` fitted to recorded verdicts, tested on other systems and prompts.

    python -m tests.perf.features_judge --recorded FOLDER [--write]

For each recorded system and each half of the prompts, `features` is fitted to the other systems on the other half, and
judges what it has not seen; all these verdicts together are its calibration, printed as its line, then as figures. What
ships was fitted to three of the six systems on half of the prompts, and is also tested on the other three and the other
half. `--write` writes its weights, the list of pairs that they were fitted to, and the calibration into
`harness/assets`. Then leave-one-system-out, over `features` and made-up judges: how often a system's figure lies in the
interval that the others give for it. The last line is one JSON object. `--small`: 120 prompts, generated ones where the
recorded verdicts are absent.
"""

import json
import math
import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.benchmarks.alpaca_eval.evaluators import load_annotator
from harness.components import build
from harness.files import FITTED, asset, json_text
from harness.judging.asker import Asker, make_ask
from harness.judging.calibration import measure as calibrating
from harness.judging.calibration.equivalent import Rates, predicted
from harness.judging.calibration.figures import JudgedPair, agreement_within, arranged, calibration_figures
from harness.judging.calibration.record import save_calibration
from harness.judging.calibration.sample import RecordedPair, RecordedVerdicts, fitted_hash, read_recorded
from harness.types import Message, PreferencePair
from tests.perf._shared import add_data, is_there, options, report

ANNOTATOR = "weighted_alpaca_eval_gpt4_turbo"
FIRST = ("FuseChat-Llama-3.2-3B-Instruct", "vicuna-7b-v1.5", "alpaca-7b")
SMALL = 120
"""Prompts of `--small`."""
SHOWN = ("agreement", "longer_agreement", "gain_over_longer", "balanced_agreement", "longer_preferred", "board_slope")


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


def judge_of(weights: Path | str) -> Any:
    return build("judge", {"name": "reward_model", "reward": {"name": "features", "weights": str(weights)}})


def judged(weights: Path | str, test: RecordedVerdicts, folder: Path) -> list[JudgedPair]:
    """All pairs with the verdicts of `features` with these weights."""

    def asker(member: Any) -> Asker:
        return make_ask(member, folder / "replies.jsonl", concurrency=1, advance=lambda _: None)

    pairs = [p for system in test.systems.values() for p in system]
    found, *_ = calibrating.judged_by(judge_of(weights), load_annotator(ANNOTATOR), pairs, asker)
    return found


def refitted(recorded: RecordedVerdicts) -> list[JudgedPair]:
    """All pairs, each judged by a refit without its system and without its prompt."""
    found = []
    both = halves(recorded)
    for system in recorded.systems:
        for test, train in (both, both[::-1]):
            seen = part(recorded, recorded.systems.keys() - {system}, train)
            with tempfile.TemporaryDirectory() as scratch:
                fitted([p for pairs in seen.systems.values() for p in pairs], Path(scratch))
                found += judged(Path(scratch) / "features.json", part(recorded, {system}, test), Path(scratch))
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


def ship(recorded: RecordedVerdicts) -> None:
    """Fit what ships, and write its weights and the list of pairs that they come from."""
    train = part(recorded, set(FIRST), halves(recorded)[0])
    pairs = [p for system in train.systems.values() for p in system]
    with tempfile.TemporaryDirectory() as scratch:
        fitted(pairs, Path(scratch))
        asset("judges", "features_gpt4_turbo.json").write_text((Path(scratch) / "features.json").read_text())
    asset("judges", FITTED).write_text(json_text(sorted(fitted_hash(p) for p in pairs if p.won != 0.5)))


def measured(recorded: RecordedVerdicts, *, write: bool) -> dict[str, Any]:
    """The figures of the last line."""
    annotator = load_annotator(ANNOTATOR)
    if write:
        ship(recorded)
    pairs = refitted(recorded)
    own = {"judge": judge_of("gpt4_turbo").identity(), "seed": 0, "refits": 2 * len(recorded.systems)}
    calibration = calibrating.summary(pairs, annotator, recorded, **own)
    if write:
        save_calibration(calibration, asset("calibrations"))
    print(calibration.text)
    results: dict[str, Any] = {}
    for figure in SHOWN:
        metric = calibration.figures[figure]
        print(f"  {figure} {metric.value} here {metric.here} elsewhere {metric.ci95}", flush=True)
        results[figure] = metric.value
    results["siblings"] = calibration.siblings.value
    print(f"  siblings {calibration.siblings.value} {calibration.siblings.here}")
    rest = part(recorded, recorded.systems.keys() - set(FIRST), halves(recorded)[1])
    with tempfile.TemporaryDirectory() as scratch:
        shipped = calibrating.summary(
            judged("gpt4_turbo", rest, Path(scratch)), annotator, rest, **{**own, "refits": 0}
        )
    print(f"what ships, on what it has not seen: {shipped.text}")
    results["shipped agreement"] = shipped.figures["agreement"].value
    return results | left_out(pairs, recorded.win_rates)


def left_out(pairs: Sequence[JudgedPair], official: dict[str, float]) -> dict[str, float]:
    """How often a recorded system's figure lay in the interval from the others, over judges."""
    inside: dict[str, list[bool]] = {"agreement covered": [], "official rate covered": []}
    for name, verdicts in made_up(pairs).items():
        own: dict[str, list[bool]] = {what: [] for what in inside}
        for system in official:
            others = arranged([p for p in verdicts if p.system != system], 200)
            alone = arranged([p for p in verdicts if p.system == system], 200)
            ends = calibration_figures(others, official)["agreement"].ci95
            value = agreement_within(alone.systems[system])
            if ends is not None and value is not None:
                own["agreement covered"].append(ends[0] <= value <= ends[1])
            rates = {s: Rates(official[s], _rate([p for p in verdicts if p.system == s])) for s in official}
            rate = rates.pop(system).judge
            if (found := predicted(list(rates.values()), rate, 0.0)) is not None:
                own["official rate covered"].append(found[1] <= official[system] <= found[2])
        print(name, {what: f"{sum(hits)} of {len(hits)}" for what, hits in own.items()}, flush=True)
        for what, hits in own.items():
            inside[what] += hits
    return {what: round(100 * sum(hits) / len(hits), 1) for what, hits in inside.items() if hits}


def _rate(pairs: Sequence[JudgedPair]) -> float:
    return 50 * sum((p.plain or 0.0) + (p.switched or 0.0) for p in pairs) / len(pairs)


def made_up(pairs: Sequence[JudgedPair]) -> dict[str, list[JudgedPair]]:
    """`features`, what is longer, coins, and the recorded verdicts spoilt in several ways: everywhere alike, or more
    for some systems than for others."""
    draw = random.Random(1)
    systems = sorted({p.system for p in pairs})

    def made(verdict: Callable[[JudgedPair], float]) -> list[JudgedPair]:
        found = []
        for p in pairs:
            value = verdict(p)
            found.append(p._replace(plain=value, switched=value))
        return found

    def flipped(least: float, most: float) -> list[JudgedPair]:
        share = {system: draw.uniform(least, most) for system in systems}
        return made(lambda p: 1 - p.won if draw.random() < share[p.system] else p.won)

    def shifted(noise: float, bias: float = 0.0, spread: float = 0.0, per_character: float = 0.0) -> list[JudgedPair]:
        own = {system: draw.gauss(bias, spread) for system in systems}

        def verdict(p: JudgedPair) -> float:
            odds = math.log((p.won + 0.01) / (1.01 - p.won)) + draw.gauss(0, noise) + own[p.system]
            return 1 / (1 + math.exp(-odds - per_character * (p.length - p.reference_length)))

        return made(verdict)

    found = {
        "features": list(pairs),
        "longer": made(lambda p: float(p.length > p.reference_length)),
        "shorter": made(lambda p: float(p.length < p.reference_length)),
        "coin": made(lambda p: float(draw.random() < 0.5)),
        "long bias": shifted(2, per_character=1 / 300),
        "lenient": shifted(2, 2),
        "strict": shifted(2, -2),
    }
    found |= {f"noise {noise}": shifted(noise) for noise in (1, 3, 6, 12)}
    found |= {f"flips {share}": flipped(share, share) for share in (0.1, 0.2, 0.3, 0.4)}
    found |= {f"flips up to {most}, by system, {i}": flipped(0, most) for most in (0.2, 0.5) for i in range(3)}
    found |= {f"bias {sd} by system, {i}": shifted(2, spread=sd) for sd in (0.5, 1.0) for i in range(3)}
    return found


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
