"""The stage of the training pairs: the part of the ranked dataset that all methods are trained on."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from harness.augmentation.selection import Lengths, select
from harness.engine.stage import Context, Stage
from harness.engine.store import write_rows
from harness.errors import DataError
from harness.recipe.making.pairs import Pairs
from harness.recipe.policy import Policy, policy_identity, policy_tokenizer
from harness.types import RankedExample

DROPPED = {
    "no_preference": "dropped_without_preference",
    "missing_source": "dropped_without_all_sources",
    "length_gap": "dropped_by_length_gap",
    "margin": "dropped_by_margin",
}
"""The report's names for the reasons of `harness.augmentation.selection`."""


def pairs_stage(pairs: Pairs, policy: Policy, ranked: Stage) -> Stage:
    """`ranked.jsonl` with the responses that `pairs` selects of each training prompt, and `heldout.jsonl` unchanged: a
    policy is measured on the same held-out prompts whatever it was trained on."""

    def body(ctx: Context) -> dict[str, Any]:
        counts: Counter[str] = Counter()
        lengths = _token_counter(policy) if pairs.length_gap is not None else _no_lengths
        sources: Counter[str] = Counter()
        write_rows(ctx.folder / "ranked.jsonl", _selected(ctx, pairs, lengths, counts, sources))
        ctx.inputs["ranked"].copy("heldout.jsonl", ctx.folder / "heldout.jsonl")
        dropped = {name: counts[reason] for reason, name in DROPPED.items() if counts[reason]}
        if not counts["kept"]:
            raise DataError(_nothing_left(pairs, dropped, sources))
        return {
            "name": pairs.name,
            "train_prompts": counts["kept"],
            "responses": counts["responses"],
            "responses_left_out": counts["left_out"],
            **dropped,
        }

    params = {"pairs": pairs.identity()} | ({"policy": policy_identity(policy)} if pairs.length_gap is not None else {})
    return Stage("pairs", "pairs", 1, params, {"ranked": ranked}, body)


def _selected(
    ctx: Context, pairs: Pairs, lengths: Lengths, counts: Counter[str], sources: Counter[str]
) -> Iterator[RankedExample]:
    """The examples that are kept. `counts`, `sources`: added to; of the responses that there were, the sources."""
    ctx.progress.start("selecting responses", ctx.inputs["ranked"].report["train_prompts"])
    for example in ctx.inputs["ranked"].stream("ranked.jsonl", RankedExample):
        selected = select(example, pairs, lengths)
        sources.update(r.source for r in example.responses)
        counts[selected.reason or "kept"] += 1
        kept = len(selected.example.responses) if selected.example else 0
        counts.update(responses=kept, left_out=len(example.responses) - kept)
        ctx.progress.advance(1)
        if selected.example:
            yield selected.example


def _nothing_left(pairs: Pairs, dropped: dict[str, int], sources: Counter[str]) -> str:
    why = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in dropped.items())
    there = ", ".join(name for name, _ in sources.most_common(6))
    advice = f"; the responses are by {there}" if pairs.name == "delta" else "; select less, or sample more responses"
    return f"data.pairs: no prompt is left ({why or 'the ranked dataset is empty'}){advice}"


def _no_lengths(texts: Sequence[str]) -> Sequence[int]:
    raise ValueError("lengths are counted only for length_gap")


def _token_counter(policy: Policy) -> Lengths:
    """Counts the tokens of texts, without any special ones."""
    tokenizer = policy_tokenizer(policy)

    def lengths(texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]

    return lengths
