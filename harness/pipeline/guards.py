"""Validity guards: what in a row's answers makes its figures doubtful, each with its evidence.

A constant answer won 86.5 % of AlpacaEval 2 (the null model, arXiv 2410.07137), and answers that talk to the judge
raise any score. None of the flags is a proof, and none changes a figure. Of eight systems whose answers are recorded in
public two are flagged, and rightly: alpaca-7b's answers have a fifth of the reference's length, and 22 of
gemma-2b-it's are empty (tests/test_guards.py).
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from harness.data.leaks import words
from harness.types import Answer, Record

SAME = 0.2
"""Share of answers that are near-equal to one of them."""
NEAR = 90.0
"""Edit similarity, in percent, from which two answers are near-equal."""
TO_JUDGE = 0.005
TRUNCATED = 0.2
EMPTY = 0.01
REPETITIVE = 0.05
IN_CIRCLES = 0.5
"""Share of an answer's 4-grams of words that it has had before from which it repeats itself; of MIN_WORDS at least."""
MIN_WORDS = 60
LENGTHS = 3.0
"""Factor between the mean lengths of answers and references."""
EVIDENCE = 5
CANDIDATES = 24
"""Answers that all others are compared with for near-equality: the most frequent ones, then others evenly spaced."""

ADDRESSES = {
    "asks for a rating": r"\b(rate|score|grade|mark)\b[^.\n]{0,40}\b(this|my|the above) (answer|response|output)\b",
    "rates itself": r"\[\[\s*(10|[0-9](\.[0-9])?|A|B)\s*\]\]",
    "names the judge": r"\b(dear|attention|note to( the)?|to the|hello,?|hi,?) (judge|evaluator|grader|annotator)s?\b",
    "orders the verdict": r"\b(output|choose|select|pick|prefer|answer with)\b[^.\n]{0,30}"
    r"\bmodel\s?(_1|_2|\(?[mM]\)?)(?=\W|$)",
    "says which is better": r"\b(assistant|model|output|response|answer) (a|b|1|2|\(a\)|\(b\)) "
    r"is (the )?(better|best|preferred)\b",
    "plays the frame": r"<\|(im_start|im_end|start_header_id|eot_id)\|>|\[The (Start|End) of Assistant"
    r"|\"model_identifier\"|## Best Model Identifier",
    "overrides instructions": r"\b(ignore|disregard|forget) (all |any |the )?(previous|prior|above|other|earlier)\b"
    r"[^.\n]{0,20}\b(instructions?|outputs?|responses?|answers?)\b",
}
"""Texts that speak to a judge rather than to the user, by what they do."""
_ADDRESSES = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in ADDRESSES.items()}


class Flag(Record):
    """A doubt: its name, the figure and the threshold that it passed, in words, and the ids of some answers."""

    name: str
    value: float
    threshold: float
    text: str
    evidence: tuple[str, ...] = ()


def answer_flags(answers: Sequence[Answer], references: Mapping[str, str] | None = None) -> list[Flag]:
    """The flags of a row's answers to one benchmark. `references`: what they were compared with, by question."""
    if not answers:
        return []
    texts = {a.question_id: "\n".join(a.turns) for a in answers}
    cut = [a.question_id for a in answers if "length" in a.finish_reasons]
    repetitive = [key for key, text in texts.items() if repetition(text) >= IN_CIRCLES]
    empty = [key for key, text in texts.items() if not text.strip()]
    flags = [
        _constant(texts),
        _to_the_judge(texts),
        _share("truncated", cut, texts, TRUNCATED, "were cut at the token limit"),
        _share("empty", empty, texts, EMPTY, "are empty"),
        _share("repetitive", repetitive, texts, REPETITIVE, "repeat themselves (half of their 4-grams or more)"),
        _length(texts, references or {}),
    ]
    return [flag for flag in flags if flag is not None]


def _share(name: str, keys: Sequence[str], texts: Mapping[str, str], threshold: float, what: str) -> Flag | None:
    share = len(keys) / len(texts)
    if not keys or share < threshold:
        return None
    text = f"{len(keys):,} of {len(texts):,} answers {what}"
    return Flag(name=name, value=share, threshold=threshold, text=text, evidence=tuple(keys[:EVIDENCE]))


def _constant(texts: Mapping[str, str]) -> Flag | None:
    """The largest group of answers that are near-equal to one of them."""
    from rapidfuzz import fuzz, process

    whole = {key: " ".join(text.split()) for key, text in texts.items() if text.strip()}
    if len(whole) < 5:
        return None
    frequent = [text for text, _ in Counter(whole.values()).most_common(CANDIDATES // 2)]
    others = list(whole.values())
    spaced = [others[i * len(others) // CANDIDATES] for i in range(CANDIDATES)]
    candidates = list(dict.fromkeys([*frequent, *spaced]))[:CANDIDATES]
    similar = process.cdist(candidates, others, scorer=fuzz.ratio, score_cutoff=NEAR) >= NEAR
    best = int(similar.sum(axis=1).argmax())
    keys = [key for key, near in zip(whole, similar[best], strict=True) if near]
    start = candidates[best][:60]
    return _share("constant", keys, texts, SAME, f"are near-equal to one: {start!r}")


def _to_the_judge(texts: Mapping[str, str]) -> Flag | None:
    found = {key: name for key, text in texts.items() for name, pattern in _ADDRESSES.items() if pattern.search(text)}
    kinds = ", ".join(f"{name} ({count})" for name, count in Counter(found.values()).most_common())
    return _share("to_the_judge", list(found), texts, TO_JUDGE, f"speak to the judge: {kinds}")


def repetition(text: str) -> float:
    """The share of a text's 4-grams of words that stand in it before; 0 for fewer than MIN_WORDS words."""
    said = words(text)
    if len(said) < MIN_WORDS:
        return 0.0
    grams = [tuple(said[i : i + 4]) for i in range(len(said) - 3)]
    return 1 - len(set(grams)) / len(grams)


def _length(texts: Mapping[str, str], references: Mapping[str, str]) -> Flag | None:
    both = [key for key in texts if key in references]
    theirs = sum(len(references[key]) for key in both)
    if not theirs:
        return None
    ratio = sum(len(texts[key]) for key in both) / theirs
    if 1 / LENGTHS <= ratio <= LENGTHS:
        return None
    text = f"answers have {ratio:.2f} times the length of the references"
    far = sorted(both, key=lambda key: len(texts[key]), reverse=ratio > 1)
    return Flag(name="length", value=ratio, threshold=LENGTHS, text=text, evidence=tuple(far[:EVIDENCE]))


def family(identity: Mapping[str, Any]) -> str | None:
    """A model's family, from its name: `qwen` of Qwen/Qwen2.5-0.5B-Instruct; None where it has none."""
    name: Any = identity.get("model")
    name = name.get("model") if isinstance(name, Mapping) else name
    found = re.match(r"[a-z]+", str(name or "").split("/")[-1].lower())
    return found[0] if found else None


def family_flag(judge: Mapping[str, Any], policy: Mapping[str, Any]) -> Flag | None:
    """A judge from the policy's own family may prefer its own ways (arXiv 2404.13076)."""
    own, its = family(policy), family(judge)
    if own is None or own != its:
        return None
    text = f"the judge is of the policy's own family ({own}): judges prefer answers like their own"
    return Flag(name="own_family", value=1, threshold=1, text=text)


def leak_flag(leaks: Mapping[str, Mapping[str, int]], data: Mapping[str, Mapping[str, Any]]) -> Flag | None:
    """Evaluation prompts that were found in the training data and kept."""
    kept = {
        name: sum(found.values())
        for name, found in leaks.items()
        if not data.get(name, {}).get("leaks_dropped", 1) and any(found.values())
    }
    count = sum(kept.values())
    if not count:
        return None
    text = f"{count:,} prompts of the evaluation sets are in the training data ({', '.join(sorted(kept))})"
    return Flag(name="leaks", value=count, threshold=1, text=text)
