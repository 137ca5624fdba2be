"""The stage of a ranked dataset that was made elsewhere."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

from harness.augmentation.admission import agreement, growth_with_n
from harness.augmentation.responding import OwnThoughts
from harness.engine.stage import Context, Stage
from harness.engine.store import write_json, write_rows
from harness.stages.ranked import rank
from harness.types import PreferencePair, RankedExample, ResponseGroup

IMPORTED = {"responses": "imported"}
"""What tells the stage from other rankings."""


def imported_stage(seeds: Stage) -> Stage:
    """`ranked.jsonl` and `heldout.jsonl` of rankings made elsewhere: all responses with their scores and sources, best
    first. A response without a score stays, unranked, and is counted. `seeds`: has split the prompts."""

    def body(ctx: Context) -> dict[str, Any]:
        counts = _Counts()
        write_rows(ctx.folder / "ranked.jsonl", counts.of(_ranked(ctx, "train")))
        write_rows(ctx.folder / "heldout.jsonl", counts.of(_ranked(ctx, "heldout")))
        report = counts.report() | counts.own.report(ctx)
        write_json(ctx.folder / "report.json", report)
        return report

    return Stage("ranked", "ranked", 2, IMPORTED, {"seeds": seeds}, body)


def _ranked(ctx: Context, split: Literal["train", "heldout"]) -> Iterator[RankedExample]:
    for pair in ctx.inputs["seeds"].stream(f"{split}.jsonl", PreferencePair):
        group = ResponseGroup(
            id=pair.id,
            messages=pair.messages,
            responses=pair.responses,
            source=pair.source,
            split=split,
            category=pair.category,
        )
        example = rank(group, [response.score for response in pair.responses])
        yield example.model_copy(update={"provenance": {"imported_from": pair.source}})


class _Counts:
    """What a ranked dataset reports, with the numbers that it keeps of each prompt."""

    def __init__(self) -> None:
        self.own = OwnThoughts()
        self._counts: Counter[str] = Counter()
        self._scores: list[list[float | None]] = []
        self._lengths: list[list[float]] = []
        self._firsts: Counter[str] = Counter()
        self._sizes: Counter[int] = Counter()

    def of(self, examples: Iterator[RankedExample]) -> Iterator[RankedExample]:
        """The examples, counted as they pass."""
        for example in examples:
            self._counts[f"{example.split}_prompts"] += 1
            self._counts["not_scored"] += sum(r.score is None for r in example.responses)
            self.own.note(example)
            if example.split == "train":
                scores = [r.score for r in example.responses]
                scored = [score for score in scores if score is not None]
                self._counts.update(responses=len(scores), tied_responses=len(scored) - len(set(scored)))
                self._scores.append(scores)
                self._lengths.append([float(len(r.text)) for r in example.responses])
                self._firsts[example.responses[0].source] += 1
                self._sizes[len(scores)] += 1
            yield example

    def report(self) -> dict[str, Any]:
        """The numbers in the order in which boards show them."""
        names = ("train_prompts", "heldout_prompts", "responses", "not_scored", "tied_responses")
        return {
            **{name: self._counts[name] for name in names},
            "prompts_by_responses": {str(n): count for n, count in sorted(self._sizes.items())},
            "ranked_first_by_source": dict(self._firsts),
            "score_and_length": agreement(self._scores, self._lengths).model_dump(mode="json"),
            "growth_with_n": growth_with_n(self._scores),
        }
