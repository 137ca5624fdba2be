"""Every loss once more, as its paper's formula, in Python floats: loops over one prompt's responses."""

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from types import SimpleNamespace
from typing import NamedTuple

Options = SimpleNamespace
Pairs = list[tuple[int, int]]


class Prompt(NamedTuple):
    """One prompt's responses, in any order."""

    logps: Sequence[float]
    refs: Sequence[float]
    scores: Sequence[float]
    lengths: Sequence[int]
    draws: Sequence[float]


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x)) if x > 0 else x - math.log1p(math.exp(x))


def rewards(p: Prompt, o: Options) -> list[float]:
    ratios = [policy - reference for policy, reference in zip(p.logps, p.refs, strict=True)]
    if o.length_norm:
        ratios = [ratio / length for ratio, length in zip(ratios, p.lengths, strict=True)]
    return [o.beta * ratio for ratio in ratios]


def better(p: Prompt, o: Options) -> Pairs:
    n = range(len(p.scores))
    return [(i, j) for i in n for j in n if p.scores[i] - p.scores[j] > o.tie_margin]


def best_of(pairs: Pairs) -> set[int]:
    return {i for i, _ in pairs} - {j for _, j in pairs}


def worst_of(pairs: Pairs) -> set[int]:
    return {j for _, j in pairs} - {i for i, _ in pairs}


def below(pairs: Pairs, i: int) -> set[int]:
    return {b for a, b in pairs if a == i}


def above(pairs: Pairs, i: int) -> set[int]:
    return {a for a, b in pairs if b == i}


def dpo(margin: float, o: Options) -> float:
    e = o.label_smoothing
    return -(1 - e) * log_sigmoid(margin) - e * log_sigmoid(-margin)


def dpo_mean(p: Prompt, o: Options, pairs: Pairs) -> float:
    r = rewards(p, o)
    return fmean(dpo(r[i] - r[j], o) for i, j in pairs)


def dpo_best_worst(p: Prompt, o: Options, pairs: Pairs) -> float:
    ends = best_of(pairs), worst_of(pairs)
    return dpo_mean(p, o, [(i, j) for i, j in pairs if i in ends[0] and j in ends[1]])


def dpo_best_rest(p: Prompt, o: Options, pairs: Pairs) -> float:
    return dpo_mean(p, o, [(i, j) for i, j in pairs if i in best_of(pairs)])


def dpo_best_random(p: Prompt, o: Options, pairs: Pairs) -> float:
    winners = {j: above(pairs, j) & best_of(pairs) for j in range(len(p.scores))}
    drawn = max((j for j in winners if winners[j]), key=lambda j: p.draws[j] ** (1 / len(winners[j])))
    return dpo_mean(p, o, [(i, drawn) for i in winners[drawn]])


def dpo_adjacent(p: Prompt, o: Options, pairs: Pairs) -> float:
    r = rewards(p, o)
    steps: dict[object, list[float]] = {}
    for i, j in pairs:
        if not below(pairs, i) & above(pairs, j):
            levels = tuple((frozenset(above(pairs, k)), frozenset(below(pairs, k))) for k in (i, j))
            steps.setdefault(levels, []).append(dpo(r[i] - r[j], o))
    return fmean(fmean(step) for step in steps.values())


def places(pairs: Pairs, i: int, n: int) -> range:
    """The places, from 0, that a response may take in a ranking: one without ties."""
    return range(len(above(pairs, i)), n - len(below(pairs, i)))


def dpo_all_pairs(p: Prompt, o: Options, pairs: Pairs) -> float:
    r = rewards(p, o)
    rank = [fmean(places(pairs, i, len(r))) for i in range(len(r))]
    weigh: dict[str, Callable[[int, int], float]] = {
        "uniform": lambda i, j: 1.0,
        "rank": lambda i, j: rank[j] - rank[i],
        "score": lambda i, j: p.scores[i] - p.scores[j],
    }
    weights = [weigh[o.weights](i, j) for i, j in pairs]
    return math.fsum(w * dpo(r[i] - r[j], o) for w, (i, j) in zip(weights, pairs, strict=True)) / math.fsum(weights)


def mdpo_linear(p: Prompt, o: Options, pairs: Pairs) -> float:
    r, n = rewards(p, o), len(p.scores)
    gaps = [p.scores[i] - p.scores[j] if o.weights == "score" else 1.0 for i, j in pairs]
    if isinstance(o.weights, str):
        weights = [0.0] * n
        for gap, (i, j) in zip(gaps, pairs, strict=True):
            weights[i] += gap
            weights[j] -= gap
    else:
        weights = [fmean(o.weights[k] for k in places(pairs, i, n)) for i in range(n)]
    total = {
        "pairs": math.fsum(gaps),
        "l1": math.fsum(map(abs, weights)) / 2,
        "max": max(map(abs, weights)),
        "none": 1.0,
    }[o.normalise]
    return dpo(math.fsum(w * x for w, x in zip(weights, r, strict=True)) / total, o)


def choice(r: Sequence[float], i: int, rest: set[int], o: Options) -> float:
    lost = math.fsum(math.exp(r[j]) for j in rest)
    chosen = math.exp(r[i]) / (math.exp(r[i]) + lost)
    other = lost / (math.exp(r[i]) + lost)
    return -(1 - o.label_smoothing) * math.log(chosen) - o.label_smoothing * math.log(other)


def plackett_luce(p: Prompt, o: Options, pairs: Pairs) -> float:
    r, k = rewards(p, o), o.top_k or len(p.scores)
    chooses = [i for i in range(len(r)) if below(pairs, i) and len(above(pairs, i)) < k]
    return fmean(choice(r, i, below(pairs, i), o) for i in chooses)


def sdpo(p: Prompt, o: Options, pairs: Pairs) -> float:
    r = rewards(p, o)
    return fmean(choice(r, i, below(pairs, i), o) for i in best_of(pairs))


def lipo_lambda(p: Prompt, o: Options, pairs: Pairs) -> float:
    r, low, high = rewards(p, o), min(p.scores), max(p.scores)
    gain = [2 ** ((g - low) / (high - low)) - 1 for g in p.scores]
    order = sorted(zip(r, p.scores, strict=True), reverse=True)
    rank = [fmean(t for t, other in enumerate(order, 1) if other == one) for one in zip(r, p.scores, strict=True)]
    discount = [1 / math.log2(1 + t) for t in rank]
    return fmean(abs(gain[i] - gain[j]) * abs(discount[i] - discount[j]) * dpo(r[i] - r[j], o) for i, j in pairs)


def softmax(values: Sequence[float]) -> list[float]:
    strengths = [math.exp(v - max(values)) for v in values]
    return [s / math.fsum(strengths) for s in strengths]


def infonca(p: Prompt, o: Options, _: Pairs) -> float:
    targets, model = softmax([g / o.temperature for g in p.scores]), softmax(rewards(p, o))
    return -math.fsum(t * math.log(q) for t, q in zip(targets, model, strict=True))


def nca(p: Prompt, o: Options, _: Pairs) -> float:
    targets, r = softmax([g / o.temperature for g in p.scores]), rewards(p, o)
    return -math.fsum(t * log_sigmoid(x) + log_sigmoid(-x) / len(r) for t, x in zip(targets, r, strict=True))


def swepo(p: Prompt, o: Options, _: Pairs) -> float:
    mean = fmean(p.scores)
    higher = [g - mean > 1e-6 for g in p.scores]  # a smaller difference is rounding: the score is at the mean
    weighted = [math.exp(x + o.alpha * abs(g - mean)) for x, g in zip(rewards(p, o), p.scores, strict=True)]
    good = math.fsum(w for w, up in zip(weighted, higher, strict=True) if up) / math.fsum(weighted)
    bad = math.fsum(w for w, up in zip(weighted, higher, strict=True) if not up) / math.fsum(weighted)
    return -(1 - o.label_smoothing) * math.log(good) - o.label_smoothing * math.log(bad)


def comparisons(p: Prompt, o: Options) -> list[tuple[int, int, float]]:
    """Every two responses once, with their gap in score: 0 for a tie."""
    n = len(p.scores)
    gaps = [(i, j, p.scores[i] - p.scores[j]) for i in range(n) for j in range(i)]
    return [(i, j, gap if abs(gap) > o.tie_margin else 0.0) for i, j, gap in gaps]


def rpo_bwd(p: Prompt, o: Options, _: Pairs) -> float:
    r, terms = rewards(p, o), []
    for i, j, gap in comparisons(p, o):
        for sign in (1, -1):
            target = math.exp(log_sigmoid(sign * o.eta * gap))
            terms.append(target * (log_sigmoid(sign * o.eta * gap) - log_sigmoid(sign * (r[i] - r[j]))))
    return 2 * fmean(terms)


def rpo_sq(p: Prompt, o: Options, _: Pairs) -> float:
    r = rewards(p, o)
    return fmean((r[i] - r[j] - o.eta * gap) ** 2 for i, j, gap in comparisons(p, o))


def ipo_pairs(p: Prompt, o: Options, pairs: Pairs) -> float:
    s = [r / o.beta for r in rewards(p, o)]
    return fmean((s[i] - s[j] - 1 / (2 * o.beta)) ** 2 for i, j in pairs)


def simpo_pairs(p: Prompt, o: Options, pairs: Pairs) -> float:
    r = [o.beta * logp / length for logp, length in zip(p.logps, p.lengths, strict=True)]
    return fmean(dpo(r[i] - r[j] - o.gamma, o) for i, j in pairs)


def rrhf(p: Prompt, o: Options, pairs: Pairs) -> float:
    q = [logp / length**o.length_penalty for logp, length in zip(p.logps, p.lengths, strict=True)]
    return math.fsum(max(0.0, q[j] - q[i]) for i, j in pairs)


def expected(name: str, prompt: Prompt, options: Options) -> tuple[float, bool]:
    """(loss, valid), the best's negative log-likelihood included."""
    pairs = better(prompt, options)
    if not pairs:
        return 0.0, False
    likelihood = fmean(prompt.logps[i] / prompt.lengths[i] for i in best_of(pairs))
    return globals()[name](prompt, options, pairs) - options.nll_alpha * likelihood, True
