"""Validity guards: flag answers that make a row's figures doubtful, with evidence.

A constant answer won 86.5 % of AlpacaEval 2 (the null model, arXiv 2410.07137), and answers that address the judge
raise any score. A flag is not a proof and changes no figure. Of eight systems with publicly recorded answers, two are
flagged, correctly: alpaca-7b's answers have a fifth of the reference's length, and 22 of gemma-2b-it's are empty
(tests/pipeline/test_guards.py).
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from harness.boards.format import with_interval
from harness.data.leaks import words
from harness.figures import MARGIN, MARGIN_KEPT, TRAINED_MARGIN
from harness.pipeline.injections import kind_of
from harness.types import Answer, Metric, Record

SAME = 0.2
"""The smallest flagged share of answers that are near-equal to one of them."""
NEAR = 90.0
"""The smallest edit similarity of near-equal answers, in percent."""
TO_JUDGE = 0.005
TRUNCATED = 0.2
EMPTY = 0.01
REPETITIVE = 0.05
"""The smallest flagged shares of answers that address the judge, were cut, are empty, or repeat themselves."""
REPEATED_GRAMS = 0.5
"""The smallest share of repeated word 4-grams in an answer that repeats itself."""
MIN_WORDS = 60
"""Shorter answers are not checked for repetition."""
LENGTHS = 3.0
"""The largest unflagged factor between the mean lengths of answers and references."""
KEPT = 0.8
"""The smallest unflagged share of the held-out margin that is left in the dtype that answers."""
EVIDENCE = 5
"""The number of answers that a flag names."""
CANDIDATES = 24
"""Answers that all others are compared with for near-equality: the most frequent ones, then evenly spaced ones."""

LONGEST_COMPARED = 4000
"""Characters of an answer that are compared with others for near-equality: of a longer one its first and last half as
many, because the time of a comparison grows with the square of the length."""


class Flag(Record):
    """A guard that fired. `value`: the measured figure, which passed `threshold`. `text`: the finding in words.
    `evidence`: the ids of some answers."""

    name: str
    value: float
    threshold: float
    text: str
    evidence: tuple[str, ...] = ()


def answer_flags(
    answers: Sequence[Answer],
    references: Mapping[str, str] | None = None,
    report: Mapping[str, Any] | None = None,
    *,
    judged: bool = True,
) -> list[Flag]:
    """The flags of a row's answers to one benchmark. `references`: texts that they were compared with, by question id;
    `report`: of the stage that wrote the answers. `judged`: by a judge, who may be deceived by how an answer looks; a
    program isn't, and an answer that it asks for may be the same one for many questions, or end at its limit."""
    answers = [answer for answer in answers if not answer.likelihoods]
    if not answers:
        return []
    texts = {a.question_id: "\n".join(a.turns) for a in answers}
    cut = [a.question_id for a in answers if "length" in a.finish_reasons]
    repetitive = [key for key, text in texts.items() if repetition(text) >= REPEATED_GRAMS]
    empty = [key for key, text in texts.items() if not text.strip()]
    empties = _share("empty", empty, texts, EMPTY, "are empty")
    unfinished = _unfinished((report or {}).get("thoughts"), answers)
    flags = (
        [empties, unfinished]
        if not judged
        else [
            _constant(texts),
            _to_the_judge(texts),
            _share("truncated", cut, texts, TRUNCATED, "were cut at the token limit"),
            empties,
            _share("repetitive", repetitive, texts, REPETITIVE, "repeat themselves (half of their 4-grams or more)"),
            _length(texts, references or {}),
            unfinished,
        ]
    )
    return [flag for flag in flags if flag is not None]


def _share(name: str, keys: Sequence[str], texts: Mapping[str, str], threshold: float, what: str) -> Flag | None:
    share = len(keys) / len(texts)
    if not keys or share < threshold:
        return None
    text = f"{len(keys):,} of {len(texts):,} answers {what}"
    return Flag(name=name, value=share, threshold=threshold, text=text, evidence=tuple(keys[:EVIDENCE]))


def _unfinished(thoughts: Any, answers: Sequence[Answer]) -> Flag | None:
    """Flags answers that end inside of their thought."""
    if not isinstance(thoughts, Mapping) or not (count := thoughts.get("unfinished", 0)):
        return None
    if (share := count / thoughts["texts"]) < EMPTY:
        return None
    text = (
        f"{count:,} of {thoughts['texts']:,} answers ended inside their thought, at the token limit, and are empty: "
        "raise evaluation.answers.max_new_tokens, or set max_thinking_tokens beside it"
    )
    cut = [a.question_id for a in answers if "length" in a.finish_reasons and not all(t.strip() for t in a.turns)]
    return Flag(name="thoughts", value=share, threshold=EMPTY, text=text, evidence=tuple(cut[:EVIDENCE]))


def thoughts_of(answers: Sequence[Answer], thoughts: Any) -> dict[str, int] | None:
    """What a report says of the thoughts in answers, for a part of them: an answer that ended inside its thought is
    empty, and was cut."""
    if not isinstance(thoughts, Mapping):
        return None
    turns = [pair for answer in answers for pair in zip(answer.turns, answer.finish_reasons, strict=False)]
    ended = sum(reason == "length" and not text.strip() for text, reason in turns)
    return {"texts": len(turns), "unfinished": min(ended, thoughts.get("unfinished", 0))}


def _constant(texts: Mapping[str, str]) -> Flag | None:
    """Flags the largest group of answers that are near-equal to one of them."""
    from rapidfuzz import fuzz, process

    whole = {key: _compared(" ".join(text.split())) for key, text in texts.items() if text.strip()}
    if len(whole) < 5:
        return None
    frequent = [text for text, _ in Counter(whole.values()).most_common(CANDIDATES // 2)]
    others = list(whole.values())
    spaced = [others[i * len(others) // CANDIDATES] for i in range(CANDIDATES)]
    candidates = list(dict.fromkeys([*frequent, *spaced]))[:CANDIDATES]
    similar = process.cdist(candidates, others, scorer=fuzz.ratio, score_cutoff=NEAR) >= NEAR
    best = int(similar.sum(axis=1).argmax())
    keys = [key for key, near in zip(whole, similar[best], strict=True) if near]
    part = (
        f", judged by its first and last {LONGEST_COMPARED // 2:,} characters"
        if len(candidates[best]) > LONGEST_COMPARED
        else ""
    )
    return _share("constant", keys, texts, SAME, f"are near-equal to one: {candidates[best][:60]!r}{part}")


def _compared(text: str) -> str:
    half = LONGEST_COMPARED // 2
    return text if len(text) <= LONGEST_COMPARED else f"{text[:half]} {text[-half:]}"


def _to_the_judge(texts: Mapping[str, str]) -> Flag | None:
    addresses = {key: kind for key, text in texts.items() if (kind := kind_of(text)) is not None}
    kinds = ", ".join(f"{name} ({count})" for name, count in Counter(addresses.values()).most_common())
    return _share("to_the_judge", list(addresses), texts, TO_JUDGE, f"speak to the judge: {kinds}")


def repetition(text: str) -> float:
    """The share of a text's word 4-grams that occur earlier in it; 0 for fewer than MIN_WORDS words."""
    text_words = words(text)
    if len(text_words) < MIN_WORDS:
        return 0.0
    grams = [tuple(text_words[i : i + 4]) for i in range(len(text_words) - 3)]
    return 1 - len(set(grams)) / len(grams)


def _length(texts: Mapping[str, str], references: Mapping[str, str]) -> Flag | None:
    both = [key for key in texts if key in references]
    reference_length = sum(len(references[key]) for key in both)
    if not reference_length:
        return None
    ratio = sum(len(texts[key]) for key in both) / reference_length
    if 1 / LENGTHS <= ratio <= LENGTHS:
        return None
    text = f"answers have {ratio:.2f} times the length of the references"
    far = sorted(both, key=lambda key: len(texts[key]), reverse=ratio > 1)
    return Flag(name="length", value=ratio, threshold=LENGTHS, text=text, evidence=tuple(far[:EVIDENCE]))


def family(identity: Mapping[str, Any]) -> str | None:
    """A model's family, from its name: `qwen` for Qwen/Qwen2.5-0.5B-Instruct; None without a model's name."""
    name: Any = identity.get("model")
    name = name.get("model") if isinstance(name, Mapping) else name
    match = re.match(r"[a-z]+", str(name or "").split("/")[-1].lower())
    return match[0] if match else None


def family_flag(judge: Mapping[str, Any], policy: Mapping[str, Any]) -> Flag | None:
    """Flags a judge from the policy's family, which may prefer its own style (arXiv 2404.13076)."""
    policy_family = family(policy)
    if policy_family is None or policy_family != family(judge):
        return None
    text = f"the judge is of the policy's own family ({policy_family}): judges prefer answers like their own"
    return Flag(name="own_family", value=1, threshold=1, text=text)


def leak_flag(leaks: Mapping[str, Mapping[str, int]], data: Mapping[str, Mapping[str, Any]]) -> Flag | None:
    """Flags evaluation prompts that are in the training data because the recipe keeps leaks. `leaks`: counts by stage
    and evaluation set. `data`: the reports of the stages."""
    kept_leaks = {
        name: sum(counts.values())
        for name, counts in leaks.items()
        if not data.get(name, {}).get("leaks_dropped", 1) and any(counts.values())
    }
    count = sum(kept_leaks.values())
    if not count:
        return None
    text = f"{count:,} prompts of the evaluation sets are in the training data ({', '.join(sorted(kept_leaks))})"
    return Flag(name="leaks", value=count, threshold=1, text=text)


def precision_flag(metrics: Mapping[str, Metric], dtype: str, *, mergeable: bool) -> Flag | None:
    """Flags a policy that has lost, by rounding to the dtype that answers, much of the margin that it was trained to.
    `metrics`: of the held-out pairs. `mergeable`: whether it is an adapter that `training.merge` would merge."""
    kept, trained = metrics.get(MARGIN_KEPT), metrics.get(TRAINED_MARGIN)
    if kept is None or kept.value is None or kept.value >= KEPT or trained is None or trained.value is None:
        return None
    merging = "training.merge: true, " if mergeable else ""
    text = (
        f"answers in {dtype} keep {100 * kept.value:.0f} % of the held-out margin that training reached in float32 "
        f"({metrics[MARGIN].value:.3g} of {trained.value:.3g} nats): use policy.dtype: float32, {merging}"
        "or a higher learning rate"
    )
    if trained.ci95 is not None and trained.ci95[0] <= 0 <= trained.ci95[1]:
        low, high = trained.ci95
        text += f"; with {trained.n:,} pairs the float32 margin itself may be 0 (95 % interval {low:.2g} to {high:.2g})"
    return Flag(name="precision", value=kept.value, threshold=KEPT, text=text)


def overoptimised_flag(report: Mapping[str, Any]) -> Flag | None:
    """The flag of a row whose answers please the reward model that made its data more than base's do, and the known
    truth less, both significantly (2210.10760). `report`: of `harness.stages.proxies.answers`."""
    if not report.get("overoptimised"):
        return None
    gold, proxy = (Metric.model_validate(report[name]) for name in ("gold_gain", "proxy_gain"))
    if gold.value is None or proxy.value is None:
        return None
    text = (
        f"overoptimised: over base, the proxy's score rose by {with_interval(proxy, 2)} standard deviations, and "
        f"gold's fell: {with_interval(gold, 3)}"
    )
    return Flag(name="overoptimised", value=gold.value, threshold=0.0, text=text)
