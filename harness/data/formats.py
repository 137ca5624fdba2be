"""Converts ranked datasets to and from other formats: TRL's pairs, SimPO's lists, NeMo-RL's and Nectar's rankings; and
from UltraFeedback's.

    trl       prompt, chosen, rejected (message lists), score_chosen, score_rejected: one row per pair
    simpo     prompt, prompt_id, all_generated_responses, all_rm_scores, chosen, rejected
    nemo-rl   context (messages), completions: [{rank (0 the best), completion (messages), reward}]
    nectar    prompt (a Human/Assistant transcript), answers: [{answer, model, rank (1 the best)}], num_responses

The last three and UltraFeedback's are read by `harness.data.rankings`.

Each function says what its format can't represent. Such items are counted, never dropped silently.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from typing import Any, Literal, NamedTuple

from harness.data.cells import answer_cell, as_dicts, is_number, messages_cell
from harness.data.pairings import PairSelection, ranked_pairs
from harness.data.rankings import TURN, Layout, read_ranking
from harness.types import Messages, RankedExample, Response, prompt_id

Format = Literal["trl", "simpo", "nemo-rl", "nectar"]
ImportFormat = Literal["trl", "simpo", "nemo-rl", "nectar", "ultrafeedback"]
ForeignRow = dict[str, Any]


class Conversion(NamedTuple):
    """Rows or examples, and how many items the target format can't represent, by description."""

    rows: list[Any]
    left_out: dict[str, int]


def ranked(
    messages: Messages, texts: Sequence[str], scores: Sequence[float | None], sources: Sequence[str], source: str
) -> RankedExample:
    """An example from responses in any order: sorted best first, unscored ones last, with ranks filled in. `source`:
    the name of the imported set."""
    order = sorted(range(len(texts)), key=lambda i: -float("inf") if scores[i] is None else scores[i], reverse=True)  # type: ignore[arg-type,return-value]
    sorted_scores = [scores[i] for i in order if scores[i] is not None]
    responses = tuple(
        Response(
            text=texts[i],
            source=sources[i],
            score=scores[i],
            rank=None if scores[i] is None else 1 + sorted_scores.index(scores[i]),
        )
        for i in order
    )
    provenance = {"imported_from": source}
    return RankedExample(
        id=prompt_id(messages),
        messages=messages,
        responses=responses,
        source=source,
        split="train",
        provenance=provenance,
    )


def to_trl(examples: Iterable[RankedExample], pairing: PairSelection) -> Conversion:
    """One row per pair of `pairing`. Not represented: responses without a score or in no pair, examples without a
    strict preference, and the responses' sources."""
    rows, left_out = [], Counter[str]()
    for example in examples:
        scored = [r for r in example.responses if r.score is not None]
        left_out["responses without a score"] += len(example.responses) - len(scored)
        pairs = ranked_pairs([r.score for r in scored if r.score is not None], pairing)
        left_out["prompts without a preference"] += not pairs
        left_out[f"responses in no pair of {pairing}"] += len(scored) - len(set(chain(*pairs))) if pairs else 0
        for better, worse in pairs:
            sides = {"chosen": scored[better], "rejected": scored[worse]}
            texts = {name: [{"role": "assistant", "content": r.text}] for name, r in sides.items()}
            figures = {f"score_{name}": r.score for name, r in sides.items()}
            rows.append({"prompt": as_dicts(example.messages), **texts, **figures})
    return _converted(rows, left_out)


def from_trl(rows: Iterable[tuple[str, ForeignRow]], source: str) -> Conversion:
    """One example per prompt. Responses are ranked by their scores if every pair has scores that are consistent with
    the preference and with the other pairs. Otherwise they are ranked by the preferences alone: a response's score is
    then the length of the longest chain of preferences below it, and the prompt is counted if any score is discarded.
    Equal texts of one prompt are one response. Prompts with cyclic preferences are left out."""
    groups: dict[str, tuple[Messages, list[tuple[str, str]], list[tuple[Any, Any]]]] = {}
    for place, row in rows:
        messages = messages_cell(row.get("prompt"), place, "prompt")
        chosen, rejected = (answer_cell(row.get(name), place, name) for name in ("chosen", "rejected"))
        _, pairs, pair_scores = groups.setdefault(prompt_id(messages), (messages, [], []))
        pairs.append((chosen, rejected))
        pair_scores.append((row.get("score_chosen"), row.get("score_rejected")))
    examples, left_out = [], Counter[str]()
    for messages, pairs, pair_scores in groups.values():
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        scores = _consistent_scores(pairs, pair_scores)
        try:
            levels = _levels(pairs) if scores is None else scores
        except CycleError:
            left_out["prompts with cyclic preferences"] += 1
            continue
        if scores is None:
            discarded = any(score is not None for two in pair_scores for score in two)
            left_out["prompts with missing or inconsistent scores"] += discarded
        examples.append(ranked(messages, texts, [levels[t] for t in texts], ["imported"] * len(texts), source))
    return _converted(examples, left_out)


def _consistent_scores(
    pairs: Sequence[tuple[str, str]], pair_scores: Sequence[tuple[Any, Any]]
) -> dict[str, float] | None:
    """A score for each text; None if one is missing, a text has two, or a chosen text doesn't have the higher one."""
    scores: dict[str, float] = {}
    for texts, two in zip(pairs, pair_scores, strict=True):
        if not all(is_number(score) for score in two) or two[0] <= two[1]:
            return None
        if any(scores.setdefault(text, float(score)) != score for text, score in zip(texts, two, strict=True)):
            return None
    return scores


def _levels(pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """The length of the longest chain of preferences below each text. Raises CycleError."""
    worse: dict[str, set[str]] = {}
    for chosen, rejected in pairs:
        worse.setdefault(chosen, set()).add(rejected)
        worse.setdefault(rejected, set())
    levels: dict[str, float] = {}
    for text in TopologicalSorter(worse).static_order():
        levels[text] = max((levels[other] + 1 for other in worse[text]), default=0.0)
    return levels


def to_simpo(examples: Iterable[RankedExample]) -> Conversion:
    """One row per example; `prompt` is the user's message. Not represented: system messages and earlier turns (such
    examples are left out), and the responses' sources."""
    rows, left_out = [], Counter[str]()
    for example in examples:
        if len(example.messages) != 1:
            left_out["prompts with several messages"] += 1
            continue
        prompt = example.messages[0].content
        texts = [r.text for r in example.responses]
        row: ForeignRow = {"prompt": prompt, "prompt_id": example.id, "all_generated_responses": texts}
        row["all_rm_scores"] = [r.score for r in example.responses]
        scored = [r.text for r in example.responses if r.score is not None]
        for name, text in (("chosen", scored[:1]), ("rejected", scored[-1:])):
            row[name] = [{"role": "user", "content": prompt}, *({"role": "assistant", "content": t} for t in text)]
        rows.append(row)
    return _converted(rows, left_out)


def to_nemo(examples: Iterable[RankedExample]) -> Conversion:
    """One row per example; completions of equal reward share a rank. Not represented: responses without a score (they
    have no rank), examples without any scored response, and the responses' sources."""
    rows, left_out = [], Counter[str]()
    for example in examples:
        scored = [r for r in example.responses if r.score is not None]
        left_out["responses without a score"] += len(example.responses) - len(scored)
        left_out["prompts without a scored response"] += not scored
        if not scored:
            continue
        levels = sorted({r.score for r in scored if r.score is not None}, reverse=True)
        completions = [
            {
                "rank": levels.index(r.score),  # type: ignore[arg-type]
                "completion": [{"role": "assistant", "content": r.text}],
                "reward": r.score,
            }
            for r in scored
        ]
        rows.append({"context": as_dicts(example.messages), "completions": completions})
    return _converted(rows, left_out)


def to_nectar(examples: Iterable[RankedExample]) -> Conversion:
    """One row per example; `model` is the response's source. Not represented: scores (only their order) and responses
    without one. Left out: prompts without any scored response, with a system message, or with a text that contains a
    turn marker of the transcript."""
    rows, left_out = [], Counter[str]()
    for example in examples:
        if any(m.role == "system" for m in example.messages):
            left_out["prompts with a system message"] += 1
            continue
        if any(TURN.search(m.content) for m in example.messages):
            left_out["prompts that contain a turn marker"] += 1
            continue
        names = {"user": "Human", "assistant": "Assistant"}
        prompt = "".join(f"\n\n{names[m.role]}: {m.content}" for m in example.messages) + "\n\nAssistant: "
        scored = [r for r in example.responses if r.score is not None]
        left_out["responses without a score"] += len(example.responses) - len(scored)
        left_out["prompts without a scored response"] += not scored
        if not scored:
            continue
        descending = sorted((r.score for r in scored if r.score is not None), reverse=True)
        # Ranks are computed from the scores, because a user's file may lack them.
        ranks = [1.0 + descending.index(r.score) for r in scored if r.score is not None]
        answers = [{"answer": r.text, "model": r.source, "rank": k} for r, k in zip(scored, ranks, strict=True)]
        rows.append({"prompt": prompt, "answers": answers, "num_responses": len(answers)})
    return _converted(rows, left_out)


def from_rankings(rows: Iterable[tuple[str, ForeignRow]], source: str, layout: Layout) -> Conversion:
    """One example per row, with all its responses. Where a format has only ranks, scores are their negatives."""
    examples, left_out = [], Counter[str]()
    for place, row in rows:
        ranking = read_ranking(row, layout, place)
        left_out["prompts without a response"] += not ranking.responses
        if ranking.responses:
            responses = ranking.responses
            texts, sources = [r.text for r in responses], [r.source for r in responses]
            examples.append(ranked(ranking.messages, texts, [r.score for r in responses], sources, source))
    return _converted(examples, left_out)


IMPORTS: dict[ImportFormat, Callable[[Iterable[tuple[str, ForeignRow]], str], Conversion]] = {
    "trl": from_trl,
    "simpo": partial(from_rankings, layout="simpo"),
    "nemo-rl": partial(from_rankings, layout="nemo-rl"),
    "nectar": partial(from_rankings, layout="nectar"),
    "ultrafeedback": partial(from_rankings, layout="ultrafeedback"),
}
EXPORTS: dict[Format, Callable[[Iterable[RankedExample]], Conversion]] = {
    "simpo": to_simpo,
    "nemo-rl": to_nemo,
    "nectar": to_nectar,
}
"""Without `trl`, which takes a pairing: see `to_trl`."""


def _converted(rows: list[Any], left_out: Counter[str]) -> Conversion:
    return Conversion(rows, {what: count for what, count in left_out.items() if count})
