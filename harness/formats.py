"""The ranked dataset in the formats of others, both ways: TRL's pairs, SimPO's lists, NeMo-RL's and Nectar's rankings.

    trl       prompt, chosen, rejected (message lists), score_chosen, score_rejected: one row a pair
    simpo     prompt, prompt_id, all_generated_responses, all_rm_scores, chosen, rejected
    nemo-rl   context (messages), completions: [{rank (0 the best), completion (messages), reward}]
    nectar    prompt (a Human/Assistant transcript), answers: [{answer, model, rank (1 the best)}], num_responses

Each function says what its format can't hold; that is counted, never dropped without a word.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from typing import Any, Literal, NamedTuple

from harness.errors import DataError
from harness.trl_loss import Pairing, ranked_pairs
from harness.types import Message, Messages, RankedExample, Response, prompt_id

Format = Literal["trl", "simpo", "nemo-rl", "nectar"]
Row = dict[str, Any]
_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant): ?")


class Converted(NamedTuple):
    """Rows or examples, and how many of what the other side can't hold (by what it is)."""

    rows: list[Any]
    left_out: dict[str, int]


def ranked(
    messages: Messages, texts: Sequence[str], scores: Sequence[float | None], sources: Sequence[str], made: str
) -> RankedExample:
    """An example from responses in any order: best first, unscored ones last, ranks filled in."""
    order = sorted(range(len(texts)), key=lambda i: -float("inf") if scores[i] is None else scores[i], reverse=True)  # type: ignore[arg-type,return-value]
    known = [scores[i] for i in order if scores[i] is not None]
    responses = tuple(
        Response(
            text=texts[i],
            source=sources[i],
            score=scores[i],
            rank=None if scores[i] is None else 1 + known.index(scores[i]),
        )
        for i in order
    )
    provenance = {"imported_from": made}
    return RankedExample(
        id=prompt_id(messages),
        messages=messages,
        responses=responses,
        source=made,
        split="train",
        provenance=provenance,
    )


def to_trl(examples: Iterable[RankedExample], pairing: Pairing) -> Converted:
    """One row a pair of `pairing`. Not held: responses without a score, those that are in no pair, examples without a
    strict preference, and which response a generator or the seed wrote."""
    rows, left = [], Counter[str]()
    for example in examples:
        scored = [r for r in example.responses if r.score is not None]
        left["responses without a score"] += len(example.responses) - len(scored)
        pairs = ranked_pairs([r.score for r in scored if r.score is not None], pairing)
        left["prompts without a preference"] += not pairs
        left[f"responses in no pair of {pairing}"] += len(scored) - len(set(chain(*pairs))) if pairs else 0
        for better, worse in pairs:
            sides = {"chosen": scored[better], "rejected": scored[worse]}
            texts = {name: [{"role": "assistant", "content": r.text}] for name, r in sides.items()}
            figures = {f"score_{name}": r.score for name, r in sides.items()}
            rows.append({"prompt": _dicts(example.messages), **texts, **figures})
    return _converted(rows, left)


def from_trl(rows: Iterable[tuple[str, Row]], made: str) -> Converted:
    """One example a prompt. Its responses are ranked by their scores where all its pairs have them and they agree with
    the pairs and with each other, else by who is preferred to whom: a response's score is then the length of the
    longest chain of preferences below it, and prompts whose scores are so given up are counted. Equal texts of one
    prompt are one response. Left out: prompts whose preferences go in a circle."""
    groups: dict[str, tuple[Messages, list[tuple[str, str]], list[tuple[Any, Any]]]] = {}
    for place, row in rows:
        messages = _messages(row.get("prompt"), place, "prompt")
        chosen, rejected = (_answer(row.get(name), place, name) for name in ("chosen", "rejected"))
        _, pairs, given = groups.setdefault(prompt_id(messages), (messages, [], []))
        pairs.append((chosen, rejected))
        given.append((row.get("score_chosen"), row.get("score_rejected")))
    examples, left = [], Counter[str]()
    for messages, pairs, given in groups.values():
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        scores = _agreed(pairs, given)
        try:
            levels = _levels(pairs) if scores is None else scores
        except CycleError:
            left["prompts whose preferences go in a circle"] += 1
            continue
        if scores is None:
            left["prompts whose scores are missing in part or at odds"] += any(s is not None for g in given for s in g)
        examples.append(ranked(messages, texts, [levels[t] for t in texts], ["imported"] * len(texts), made))
    return _converted(examples, left)


def _agreed(pairs: Sequence[tuple[str, str]], given: Sequence[tuple[Any, Any]]) -> dict[str, float] | None:
    """A score for each text, or None where one is missing, a text has two, or the chosen one's is not the higher."""
    scores: dict[str, float] = {}
    for texts, two in zip(pairs, given, strict=True):
        if not all(_is_number(score) for score in two) or two[0] <= two[1]:
            return None
        if any(scores.setdefault(text, float(score)) != score for text, score in zip(texts, two, strict=True)):
            return None
    return scores


def _levels(pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """The longest chain of preferences below each text."""
    worse: dict[str, set[str]] = {}
    for chosen, rejected in pairs:
        worse.setdefault(chosen, set()).add(rejected)
        worse.setdefault(rejected, set())
    levels: dict[str, float] = {}
    for text in TopologicalSorter(worse).static_order():
        levels[text] = max((levels[other] + 1 for other in worse[text]), default=0.0)
    return levels


def to_simpo(examples: Iterable[RankedExample]) -> Converted:
    """One row an example; `prompt` is the last user turn's text. Not held: system messages and earlier turns (such
    examples are left out), and who wrote a response."""
    rows, left = [], Counter[str]()
    for example in examples:
        if len(example.messages) != 1:
            left["prompts of several messages"] += 1
            continue
        prompt = example.messages[0].content
        texts = [r.text for r in example.responses]
        row: Row = {"prompt": prompt, "prompt_id": example.id, "all_generated_responses": texts}
        row["all_rm_scores"] = [r.score for r in example.responses]
        scored = [r.text for r in example.responses if r.score is not None]
        for name, text in (("chosen", scored[:1]), ("rejected", scored[-1:])):
            row[name] = [{"role": "user", "content": prompt}, *({"role": "assistant", "content": t} for t in text)]
        rows.append(row)
    return _converted(rows, left)


def from_simpo(rows: Iterable[tuple[str, Row]], made: str) -> Converted:
    """One example a row, from all its responses and scores."""
    examples = []
    for place, row in rows:
        texts, scores = row.get("all_generated_responses"), row.get("all_rm_scores")
        if not isinstance(texts, list) or not isinstance(scores, list) or len(texts) != len(scores) or not texts:
            raise DataError(f"{place}: expected lists of equal length as all_generated_responses and all_rm_scores")
        messages = _messages(row.get("prompt"), place, "prompt")
        given = [_score(score, place) for score in scores]
        answers = [_answer(text, place, "all_generated_responses") for text in texts]
        examples.append(ranked(messages, answers, given, ["imported"] * len(texts), made))
    return _converted(examples, Counter())


def to_nemo(examples: Iterable[RankedExample]) -> Converted:
    """One row an example; completions of equal reward share a rank. Not held: responses without a score (no rank),
    examples without any that has one, and who wrote a response."""
    rows, left = [], Counter[str]()
    for example in examples:
        scored = [r for r in example.responses if r.score is not None]
        left["responses without a score"] += len(example.responses) - len(scored)
        left["prompts without a scored response"] += not scored
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
        rows.append({"context": _dicts(example.messages), "completions": completions})
    return _converted(rows, left)


def from_nemo(rows: Iterable[tuple[str, Row]], made: str) -> Converted:
    """One example a row. Without a `reward` a completion's score is its negative rank, which says no more than the
    order."""
    examples = []
    for place, row in rows:
        completions = row.get("completions")
        if not isinstance(completions, list) or not all(isinstance(c, dict) for c in completions) or not completions:
            raise DataError(f"{place}: expected a list of objects with rank and completion under completions")
        messages = _messages(row.get("context"), place, "context")
        texts = [_answer(c.get("completion"), place, "completion") for c in completions]
        rewards = [c.get("reward") for c in completions]
        ranks = [_score(c.get("rank"), place, "rank") for c in completions]
        given = rewards if all(_is_number(r) for r in rewards) else [None if r is None else -r for r in ranks]
        examples.append(ranked(messages, texts, [_score(g, place) for g in given], ["imported"] * len(texts), made))
    return _converted(examples, Counter())


def to_nectar(examples: Iterable[RankedExample]) -> Converted:
    """One row an example; `model` is who wrote the response. Not held: scores (only their order), responses without
    one, and prompts without any that has one, with a system message, or with a text that spells a turn of the
    transcript (left out)."""
    rows, left = [], Counter[str]()
    for example in examples:
        if any(m.role == "system" for m in example.messages):
            left["prompts with a system message"] += 1
            continue
        if any(_TURN.search(m.content) for m in example.messages):
            left["prompts that spell a turn"] += 1
            continue
        names = {"user": "Human", "assistant": "Assistant"}
        prompt = "".join(f"\n\n{names[m.role]}: {m.content}" for m in example.messages) + "\n\nAssistant: "
        scored = [r for r in example.responses if r.score is not None]
        left["responses without a score"] += len(example.responses) - len(scored)
        left["prompts without a scored response"] += not scored
        if not scored:
            continue
        known = sorted((r.score for r in scored if r.score is not None), reverse=True)
        # By the score, as a file of the user's may have no ranks.
        ranks = [1.0 + known.index(r.score) for r in scored if r.score is not None]
        answers = [{"answer": r.text, "model": r.source, "rank": k} for r, k in zip(scored, ranks, strict=True)]
        rows.append({"prompt": prompt, "answers": answers, "num_responses": len(answers)})
    return _converted(rows, left)


def from_nectar(rows: Iterable[tuple[str, Row]], made: str) -> Converted:
    """One example a row. There are no scores in it: a response's is its negative rank, which says no more than the
    order."""
    examples = []
    for place, row in rows:
        answers, prompt = row.get("answers"), row.get("prompt")
        if not isinstance(answers, list) or not all(isinstance(a, dict) for a in answers) or not answers:
            raise DataError(f"{place}: expected a list of objects with answer and rank under answers")
        before, *turns = _TURN.split(prompt) if isinstance(prompt, str) else ("?", "")
        names = turns[::2]
        if before or not names or names[-1] != "Assistant" or turns[-1].strip() or len(names) < 2:
            raise DataError(
                f"{place}: prompt: expected a transcript of Human: and Assistant: turns, the last one empty"
            )
        roles: dict[str, Literal["user", "assistant"]] = {"Human": "user", "Assistant": "assistant"}
        said = [Message(role=roles[n], content=t) for n, t in zip(names[:-1], turns[1:-1:2], strict=True)]
        texts = [_answer(a.get("answer"), place, "answer") for a in answers]
        ranks = [_score(a.get("rank"), place, "rank") for a in answers]
        sources = [str(a.get("model") or "imported") for a in answers]
        examples.append(ranked(tuple(said), texts, [None if r is None else -r for r in ranks], sources, made))
    return _converted(examples, Counter())


IMPORTS: dict[Format, Callable[[Iterable[tuple[str, Row]], str], Converted]] = {
    "trl": from_trl,
    "simpo": from_simpo,
    "nemo-rl": from_nemo,
    "nectar": from_nectar,
}
EXPORTS: dict[Format, Callable[[Iterable[RankedExample]], Converted]] = {
    "simpo": to_simpo,
    "nemo-rl": to_nemo,
    "nectar": to_nectar,
}
"""`trl` stands apart: it takes a pairing."""


def _converted(rows: list[Any], left: Counter[str]) -> Converted:
    return Converted(rows, {what: count for what, count in left.items() if count})


def _dicts(messages: Messages) -> list[dict[str, str]]:
    return [m.model_dump() for m in messages]


def _messages(value: Any, place: str, column: str) -> Messages:
    """A prompt: a text, or a list of messages."""
    if isinstance(value, str):
        return (Message(role="user", content=value),)
    try:
        messages = tuple(Message.model_validate({"role": m["role"], "content": m["content"]}) for m in value)
    except (TypeError, KeyError, ValueError):
        raise DataError(f"{place}: {column}: expected a text, or a list of {{role, content}}") from None
    if not messages or messages[-1].role != "user":
        raise DataError(f"{place}: {column}: expected its last message to be the user's")
    return messages


def _answer(value: Any, place: str, column: str) -> str:
    """A response: a text, or a list of messages whose last one it is."""
    if isinstance(value, list) and value and isinstance(value[-1], dict):
        value = value[-1].get("content")
    if not isinstance(value, str):
        raise DataError(f"{place}: {column}: expected a text, or a list of messages")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _score(value: Any, place: str, column: str = "score") -> float | None:
    if value is None:
        return None
    if not _is_number(value):
        raise DataError(f"{place}: {column}: expected a finite number, got {str(value)[:40]}")
    return float(value)
