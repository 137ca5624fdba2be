"""A judge on pairs whose better answer is known: LLMBar (arXiv 2310.07641), its adversarial sets apart."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.benchmarks.alpaca_eval.annotator import AS_USUAL, Asking, OutputPair
from harness.benchmarks.alpaca_eval.evaluators import Annotator
from harness.benchmarks.alpaca_eval.judged import check_asking
from harness.errors import DataError
from harness.files import json_list, read_bytes
from harness.judging.asker import Asker
from harness.judging.calibration.figures import JudgedPair
from harness.judging.calibration.measure import judged_by
from harness.judging.calibration.sample import RecordedPair
from harness.judging.ledger import Ledger
from harness.stats.intervals import mean_metric
from harness.types import Metric

NATURAL = "Natural"
ADVERSARIAL = ("Neighbor", "GPTInst", "GPTOut", "Manual")
"""In these the worse answer is made to look better."""
HOME = "https://github.com/princeton-nlp/LLMBar"


class KnownSet(NamedTuple):
    """How a judge does on one set. `accuracy`: the share of right choices, in percent, over both orders of a pair; a
    tie counts one half. `consistency`: the share of pairs in which it chooses the same answer in both orders."""

    name: str
    accuracy: Metric
    consistency: Metric


def read_llmbar(folder: Path) -> dict[str, list[RecordedPair]]:
    """The pairs by set, from `<set>.json` or `.json.gz` in a folder; `won`: 1 if the second output is the better one.
    Raises DataError."""
    sets = {}
    for name in (NATURAL, *ADVERSARIAL):
        paths = [folder / f"{name}.json", folder / f"{name}.json.gz"]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            raise DataError(f"no file {paths[0]}; expected LLMBar's sets, from {HOME}")
        rows = json_list(read_bytes(path), str(path))
        sets[name] = [_pair(name, i, row, str(path)) for i, row in enumerate(rows)]
        if not rows:
            raise DataError(f"{path}: no pairs in it")
    return sets


def _pair(name: str, i: int, row: Mapping[str, Any], where: str) -> RecordedPair:
    texts = [row.get(key) for key in ("input", "output_1", "output_2")]
    if not all(isinstance(text, str) for text in texts) or row.get("label") not in (1, 2):
        raise DataError(f"{where}, pair {i + 1}: expected texts under input, output_1 and output_2, and label 1 or 2")
    instruction, first, second = map(str, texts)
    return RecordedPair(name, OutputPair(f"{name}-{i}", instruction, first, second), float(row["label"] == 2))


def on_known_pairs(
    judge: Any,
    annotator: Annotator,
    sets: Mapping[str, Sequence[RecordedPair]],
    *,
    asker: Callable[[Any], Asker],
    asking: Asking = AS_USUAL,
) -> tuple[list[KnownSet], Ledger]:
    """(the judge's figures by set, then over all adversarial ones; the ledger of all replies). Each pair is shown in
    both orders. Raises JudgeError if a server failed; its replies are kept."""
    check_asking(annotator, asking)
    pairs = [pair for known in sets.values() for pair in _apart(known)]
    judged, ledger, _ = judged_by(judge, annotator, pairs, asker, asking)
    by_set: dict[str, list[JudgedPair]] = {name: [] for name in sets}
    for pair in judged:
        by_set[pair.system.split("#")[0]].append(pair)
    found = [_figures(name, of_set) for name, of_set in by_set.items()]
    adversarial = [pair for name in ADVERSARIAL for pair in by_set.get(name, ())]
    return [*found, *([_figures("all adversarial", adversarial)] if adversarial else [])], ledger


def _apart(pairs: Sequence[RecordedPair]) -> list[RecordedPair]:
    """The pairs, those with an instruction that an earlier pair has under another name: each call has it once."""
    seen: dict[str, int] = {}
    named = []
    for pair in pairs:
        count = seen[pair.pair.instruction] = seen.get(pair.pair.instruction, 0) + 1
        named.append(pair if count == 1 else pair._replace(system=f"{pair.system}#{count}"))
    return named


def _figures(name: str, pairs: Sequence[JudgedPair]) -> KnownSet:
    accuracies: list[float | None] = []
    consistent: list[float | None] = []
    for pair in pairs:
        chosen = [None if v is None else (v > 0.5) + 0.5 * (v == 0.5) for v in (pair.plain, pair.switched)]
        right = [None if c is None else c if pair.won else 1 - c for c in chosen]
        plain, switched = right
        both = plain is not None and switched is not None
        accuracies.append((plain + switched) / 2 if plain is not None and switched is not None else None)
        consistent.append(float(plain == switched) if both else None)
    limits = (0.0, 100.0)
    return KnownSet(
        name,
        mean_metric(accuracies, scale=100, limits=limits),
        mean_metric(consistent, scale=100, limits=limits),
    )
