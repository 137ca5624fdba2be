"""The answers and verdicts beside a board, as the page's browser of examples shows them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.benchmark import Examples
from harness.boards.entry import Entry
from harness.boards.folder import benchmarks_of, data_files
from harness.boards.read import DATA
from harness.components import benchmark_class
from harness.errors import DataError
from harness.printable import printable


def board_examples(board: Path, entries: Sequence[Entry]) -> dict[str, Any]:
    """`prompts`: [{id, set, category, turns, reference}] of all benchmarks; `rows`: row -> prompt id -> [answers,
    values, the judge's replies, reasons for a missing score], each with one item per turn. Both are empty where the
    board has no data folder. Raises DataError for files that are not as the run wrote them."""
    prompts: list[dict[str, Any]] = []
    rows: dict[str, dict[str, Any]] = {}
    files = data_files(board, benchmarks_of(entries))
    for name in sorted({path.relative_to(board / DATA).parts[0] for path in files}):
        folder = board / DATA / name
        try:
            benchmark_examples = benchmark_class(name).examples(folder, [entry.id for entry in entries])
            _check_types(benchmark_examples)
        except (DataError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise DataError(
                f"{folder} can't be read ({error}); run the recipe again, or remove the board's data folder"
            ) from None
        for key, prompt in benchmark_examples.prompts.items():
            reference = list(prompt.reference) if prompt.reference else None
            prompts.append(
                {
                    "id": f"{name} {key}",
                    "set": name,
                    "category": prompt.category,
                    "turns": list(prompt.turns),
                    "reference": reference,
                }
            )
        for row, answers in benchmark_examples.answers.items():
            rows.setdefault(row, {}).update({f"{name} {key}": list(answer) for key, answer in answers.items()})
    return {"prompts": prompts, "rows": rows}


def _check_types(examples: Examples) -> None:
    """Raises TypeError for what a damaged file may hold instead of texts and numbers."""
    texts: list[object] = []
    for prompt in examples.prompts.values():
        texts += [prompt.category, *prompt.turns, *(prompt.reference or ())]
    for answers in examples.answers.values():
        for answer in answers.values():
            texts += [*answer.turns, *answer.replies, *(x for x in answer.unscored if x is not None)]
            if not all(value is None or isinstance(value, int | float) for value in answer.values):
                raise TypeError(f"a verdict is {printable(repr(answer.values), 60)}, expected numbers")
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"expected a text, got {printable(repr(text), 60)}")
