"""How varied texts are: self-BLEU, distinct-n, lengths, duplicates. Pure measures over lists of texts.

None of them tells whether a text is good, true or useful. Self-BLEU and distinct-n see words, not meanings. Both depend
on the number and length of the texts, so groups are compared only at equal numbers.
"""

import math
import random
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from harness.data.leaks import words
from harness.stats.intervals import accuracy_metric

REFERENCES = 50
"""Self-BLEU compares a text with at most this many of the others, drawn with the seed."""


def self_bleu(texts: Sequence[str], seed: int = 0) -> float | None:
    """Texygen's self-BLEU (1802.01886), by sacrebleu's sentence BLEU with its default smoothing: the average over
    texts, each with the others as references (at most REFERENCES of them); 0 to 100, lower is more varied. None for
    fewer than two texts."""
    if len(texts) < 2:
        return None
    from sacrebleu.metrics import BLEU

    metric, rng = BLEU(effective_order=True), random.Random(seed)
    scores = []
    for i, text in enumerate(texts):
        others = [other for k, other in enumerate(texts) if k != i]
        others = others if len(others) <= REFERENCES else rng.sample(others, REFERENCES)
        scores.append(float(metric.sentence_score(text, others).score))
    return sum(scores) / len(scores)


SAMPLE = 50
"""The number of texts on which a whole dataset is measured, so that datasets of different sizes can be compared."""


def sample_self_bleu(texts: Sequence[str], seed: int) -> float | None:
    """Self-BLEU of SAMPLE of the texts, drawn with the seed; None where there are fewer."""
    return self_bleu(draw_texts(texts, SAMPLE, seed), seed) if len(texts) >= SAMPLE else None


def distinct(texts: Sequence[str], n: int, tokens: int | None = None) -> float | None:
    """Distinct-n (1510.03055): distinct n-grams of words over all n-grams, in all texts together; higher is more
    varied. It falls with the number of words, so only the first `tokens` words count; None: all. None if there is no
    n-gram."""
    unique: set[tuple[str, ...]] = set()
    count = left = 0
    left = tokens if tokens is not None else sum(len(words(text)) for text in texts)
    for text in texts:
        tokenized = words(text)[:left]
        left -= len(tokenized)
        grams = [tuple(tokenized[i : i + n]) for i in range(len(tokenized) - n + 1)]
        count += len(grams)
        unique.update(grams)
    return len(unique) / count if count else None


def lengths(texts: Sequence[str]) -> dict[str, float] | None:
    """Lengths in words: mean, median, standard deviation, 5th and 95th percentile. None for no texts."""
    if not texts:
        return None
    counts = sorted(len(text.split()) for text in texts)
    at = {f"p{p}": float(counts[min(len(counts) - 1, round(p / 100 * (len(counts) - 1)))]) for p in (5, 95)}
    sd = statistics.stdev(counts) if len(counts) > 1 else 0.0
    return {"mean": statistics.fmean(counts), "median": float(statistics.median(counts)), "sd": sd, **at}


def duplicates(texts: Sequence[str]) -> float | None:
    """The share of texts that repeat another one, ignoring case and punctuation."""
    return 1 - len({" ".join(words(text)) for text in texts}) / len(texts) if texts else None


def draw_texts(texts: Sequence[str], count: int, seed: int) -> list[str]:
    """`count` of the texts, drawn with the seed; all of them if there are no more."""
    return list(texts) if len(texts) <= count else random.Random(seed).sample(list(texts), count)


def compared(groups: Mapping[str, Sequence[str]], most: int, seed: int) -> dict[str, dict[str, Any]]:
    """Groups side by side. `texts`: their number; `compared`: the number at which all groups are compared (the size of
    the smallest group of two or more texts, at most `most`). Distinct-n is compared at the words of the shortest
    group."""
    sizes = [len(texts) for texts in groups.values() if len(texts) > 1]
    equal = min([most, *sizes])
    drawn = {name: draw_texts(texts, equal, seed) for name, texts in groups.items()}
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
    """How the mix changes with the generated share: `per_seed_prompt` new prompts per seed prompt, from 0 to all of
    them. All mixes are compared at the same number of prompts."""
    if not new or len(seed_prompts) < 2:
        return []
    available = len(new) / len(seed_prompts)
    ratios = [r for r in (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0) if r < available] + [available]
    mixes = {}
    for ratio in ratios:
        mix = [*seed_prompts, *draw_texts(new, round(ratio * len(seed_prompts)), seed)]
        random.Random(seed).shuffle(mix)
        mixes[f"{ratio:.2f}"] = mix
    rows = compared(mixes, most, seed)
    columns = ("texts", "compared", "self_bleu", "distinct_1", "distinct_2", "distinct_3", "duplicates")
    return [{"per_seed_prompt": float(name), **{k: row[k] for k in columns}} for name, row in rows.items()]


NEIGHBOURS = 5
"""The topic of a seed prompt reaches as far as its fifth nearest other seed prompt."""


def cover(seed_vectors: Any, new_vectors: Any) -> dict[str, Any] | None:
    """How new prompts lie among the seed's topics, from unit vectors [n, d] and [m, d] of equally many texts.

    A seed prompt's topic is the ball up to its NEIGHBOURS-th nearest other seed prompt. `covered`: the share of topics
    with a new prompt in them (coverage, 2002.09797); `expected`: that share if the new prompts were further draws of
    the seed's distribution. `within`: the share of new prompts that are in some topic (precision, 1904.06991). None for
    too few texts.
    """
    import numpy as np

    seeds, new, k = len(seed_vectors), len(new_vectors), NEIGHBOURS
    if seeds <= k or not new:
        return None
    points, others = (np.asarray(vectors, dtype=np.float64) for vectors in (seed_vectors, new_vectors))
    among = _distances(points, points)
    np.fill_diagonal(among, np.inf)
    inside = _distances(points, others) <= np.partition(among, k - 1, axis=1)[:, k - 1 : k] + ROUNDING
    missed = math.prod((seeds - i) / (seeds + new - i) for i in range(1, k + 1))
    return {
        "seed_prompts": seeds,
        "new_prompts": new,
        "covered": accuracy_metric(inside.any(axis=1).astype(float).tolist()).model_dump(mode="json"),
        "expected": 1 - missed,
        "within": accuracy_metric(inside.any(axis=0).astype(float).tolist()).model_dump(mode="json"),
    }


ROUNDING = 1e-6
"""Of distances: two equal texts may be so far apart."""


def _distances(points: Any, others: Any) -> Any:
    """[n, m] Euclidean distances."""
    import numpy as np

    squares = (points**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)[None, :] - 2 * points @ others.T
    return np.sqrt(np.maximum(squares, 0.0))
