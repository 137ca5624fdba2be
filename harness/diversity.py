"""How varied texts are: self-BLEU, distinct-n, lengths, duplicates. Pure measures over lists of texts.

What they can't say: whether a text is good, true or useful. Self-BLEU and distinct-n see words and not meanings, and
both depend on how many texts there are and how long they are, so that groups are only compared at equal numbers.
"""

import random
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from harness.leaks import words

REFERENCES = 50
"""Self-BLEU compares a text with so many of the others at most, drawn by the seed."""


def self_bleu(texts: Sequence[str], seed: int = 0) -> float | None:
    """Texygen's self-BLEU (1802.01886), by sacrebleu's sentence BLEU with its default smoothing: of each text against
    the others as references (REFERENCES of them at most), averaged; 0 to 100, lower is more varied. None for fewer than
    two texts."""
    if len(texts) < 2:
        return None
    from sacrebleu.metrics import BLEU

    metric, rng = BLEU(effective_order=True), random.Random(seed)
    scores = []
    for place, text in enumerate(texts):
        others = [other for i, other in enumerate(texts) if i != place]
        others = others if len(others) <= REFERENCES else rng.sample(others, REFERENCES)
        scores.append(float(metric.sentence_score(text, others).score))
    return sum(scores) / len(scores)


def distinct(texts: Sequence[str], n: int, tokens: int | None = None) -> float | None:
    """Distinct-n (1510.03055): different n-grams over all n-grams, of the words of all texts; higher is more varied. It
    falls with the number of words: `tokens` counts the first so many only, None all. None where there is no n-gram."""
    found: set[tuple[str, ...]] = set()
    count = left = 0
    left = tokens if tokens is not None else sum(len(words(text)) for text in texts)
    for text in texts:
        said = words(text)[:left]
        left -= len(said)
        grams = [tuple(said[i : i + n]) for i in range(len(said) - n + 1)]
        count += len(grams)
        found.update(grams)
    return len(found) / count if count else None


def lengths(texts: Sequence[str]) -> dict[str, float] | None:
    """In words: mean, median, standard deviation, 5th and 95th percentile. None for no texts."""
    if not texts:
        return None
    counts = sorted(len(text.split()) for text in texts)
    at = {f"p{p}": float(counts[min(len(counts) - 1, round(p / 100 * (len(counts) - 1)))]) for p in (5, 95)}
    sd = statistics.stdev(counts) if len(counts) > 1 else 0.0
    return {"mean": statistics.fmean(counts), "median": float(statistics.median(counts)), "sd": sd, **at}


def duplicates(texts: Sequence[str]) -> float | None:
    """The share of texts that stand there already, apart from case and punctuation."""
    return 1 - len({" ".join(words(text)) for text in texts}) / len(texts) if texts else None


def sampled(texts: Sequence[str], count: int, seed: int) -> list[str]:
    """`count` of the texts, drawn by the seed; all of them where there are no more."""
    return list(texts) if len(texts) <= count else random.Random(seed).sample(list(texts), count)


def compared(groups: Mapping[str, Sequence[str]], most: int, seed: int) -> dict[str, dict[str, Any]]:
    """Groups side by side. `texts`: how many there are; `compared`: the number that all groups are compared at (that of
    the smallest, `most` at most, among groups of two texts or more), and distinct-n at the words of the shortest."""
    sizes = [len(texts) for texts in groups.values() if len(texts) > 1]
    equal = min([most, *sizes])
    drawn = {name: sampled(texts, equal, seed) for name, texts in groups.items()}
    counts = [sum(len(words(t)) for t in texts) for texts in drawn.values() if len(texts) > 1]
    budget = min(counts) if counts else None
    return {
        name: {
            "texts": len(groups[name]),
            "compared": len(texts),
            "self_bleu": self_bleu(texts, seed),
            **{f"distinct_{n}": distinct(texts, n, budget) for n in (1, 2, 3)},
            "words": lengths(groups[name]),
            "duplicates": duplicates(groups[name]),
        }
        for name, texts in drawn.items()
    }


def shares(seed_prompts: Sequence[str], new: Sequence[str], most: int, seed: int) -> list[dict[str, Any]]:
    """What the mix looks like as the generated share grows: `per_seed_prompt` new prompts for each of the seed's, 0 to
    what there is; every mix is compared at the same number of prompts."""
    if not new or len(seed_prompts) < 2:
        return []
    there = len(new) / len(seed_prompts)
    ratios = [r for r in (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0) if r < there] + [there]
    mixes = {}
    for ratio in ratios:
        some = sampled(new, round(ratio * len(seed_prompts)), seed)
        mixed = [*seed_prompts, *some]
        random.Random(seed).shuffle(mixed)
        mixes[f"{ratio:.2f}"] = mixed
    found = compared(mixes, most, seed)
    kept = ("texts", "compared", "self_bleu", "distinct_1", "distinct_2", "distinct_3", "duplicates")
    return [{"per_seed_prompt": float(name), **{k: row[k] for k in kept}} for name, row in found.items()]
