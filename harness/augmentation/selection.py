"""Which of a prompt's scored responses are trained on (`harness.recipe.making.pairs.Pairs`). Pure functions."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from statistics import fmean, pstdev
from typing import Literal, NamedTuple

from harness.recipe.making.pairs import Pairs
from harness.types import RankedExample, Response

Reason = Literal["no_preference", "missing_source", "length_gap", "margin"]
"""Why a prompt is dropped: fewer than two different scores; no answer of a source; fewer than two different scores
among responses of similar length, or far enough apart."""
Lengths = Callable[[Sequence[str]], Sequence[int]]
"""The tokens of each text."""


class Selected(NamedTuple):
    """The example with the selected responses, best first; None if it is dropped, with the reason."""

    example: RankedExample | None
    reason: Reason | None = None


def select(example: RankedExample, pairs: Pairs, lengths: Lengths) -> Selected:
    """The example with the responses that `pairs` selects. Unscored responses are left out, except by `delta`, which
    needs no scores."""
    responses = _tiers(example.responses, pairs.sources) if pairs.name == "delta" else _scored(example.responses)
    if not _prefers(responses):
        return Selected(None, "missing_source" if pairs.name == "delta" else "no_preference")
    target = fmean(map(_score, responses)) - 2 * pstdev(map(_score, responses))
    if pairs.length_gap is not None:
        responses = _alike_in_length(responses, lengths([r.text for r in responses]), pairs.length_gap)
        if not _prefers(responses):
            return Selected(None, "length_gap")
    chosen = _picked(responses, pairs, target)
    if not _prefers(chosen):
        return Selected(None, "no_preference")
    if pairs.margin is not None and not _prefers(chosen := _apart(chosen, pairs.margin)):
        return Selected(None, "margin")
    scores = [_score(r) for r in chosen]
    ranked = [r.model_copy(update={"rank": 1 + sum(s > _score(r) for s in scores)}) for r in chosen]
    return Selected(example.model_copy(update={"responses": tuple(ranked)}))


def _score(response: Response) -> float:
    if response.score is None:
        raise ValueError("a response without a score")
    return response.score


def _prefers(responses: Sequence[Response]) -> bool:
    return len({r.score for r in responses}) > 1


def _scored(responses: Sequence[Response]) -> list[Response]:
    """Those with a score, best first; ties keep their order."""
    return sorted((r for r in responses if r.score is not None), key=lambda r: -_score(r))


def _tiers(responses: Sequence[Response], sources: Sequence[str]) -> list[Response]:
    """The answers of the sources, the strongest first, with scores that stand for nothing but that order. An answer
    belongs to the first source whose name fits. Empty unless every source has an answer."""
    tiers: list[list[Response]] = [[] for _ in sources]
    for response in responses:
        fitting = (i for i, source in enumerate(sources) if fnmatchcase(response.source, source))
        if (place := next(fitting, None)) is not None:
            score = float(len(sources) - 1 - place)
            tiers[place].append(response.model_copy(update={"score": score}))
    return [response for tier in tiers for response in tier] if all(tiers) else []


def _alike_in_length(responses: Sequence[Response], lengths: Sequence[int], gap: int) -> list[Response]:
    """The most responses whose lengths differ by at most `gap`, one of the best among them; of equally many, those
    whose scores are farther apart, then the shorter ones."""
    top = _score(responses[0])
    bests = [length for r, length in zip(responses, lengths, strict=True) if _score(r) == top]
    found = []
    for start in sorted({length for length in lengths if any(best - gap <= length <= best for best in bests)}):
        inside = [r for r, length in zip(responses, lengths, strict=True) if start <= length <= start + gap]
        spread = _score(inside[0]) - _score(inside[-1])
        found.append((_prefers(inside), len(inside), spread, -start, inside))
    return max(found, key=lambda one: one[:4])[4]


def _picked(responses: Sequence[Response], pairs: Pairs, target: float) -> list[Response]:
    """`target`: the score that `mean_minus_2sd` looks for."""
    best = responses[0]
    worse = [r for r in responses if _score(r) < _score(best)]
    if pairs.name == "best_worst":
        lowest = min(map(_score, worse))
        return [best, next(r for r in worse if _score(r) == lowest)]
    if pairs.name == "mean_minus_2sd":
        return [best, min(worse, key=lambda r: (abs(_score(r) - target), _score(r)))]
    if pairs.name == "top_k":
        return list(responses[: pairs.k])
    if pairs.name == "subset" and pairs.k is not None:
        return _spread(responses, pairs.k)
    return list(responses)


def _spread(responses: Sequence[Response], k: int) -> list[Response]:
    """`k` responses, the best and a worst one among them, whose smallest difference of scores is as large as it can be;
    all, if there are no more. With fewer than `k` different scores one of each, and the best of the others."""
    if len(responses) <= k:
        return list(responses)
    scores = [_score(r) for r in responses]
    firsts = {score: place for place, score in reversed(list(enumerate(scores)))}
    if len(firsts) < k:
        tied = [place for place in range(len(scores)) if place not in firsts.values()]
        return [responses[place] for place in sorted([*firsts.values(), *tied[: k - len(firsts)]])]

    def at_least(gap: float) -> list[int]:
        """From the best on, the next place that is at least so far below."""
        places = [0]
        for place, score in enumerate(scores[1:], start=1):
            if scores[places[-1]] - score >= gap:
                places.append(place)
        return places

    gaps = sorted({a - b for i, a in enumerate(scores) for b in scores[i + 1 :]})
    # More fit the smaller the gap is: the largest gap at which k do.
    largest = bisect_right(gaps, False, key=lambda gap: len(at_least(gap)) < k) - 1
    places = at_least(gaps[largest])[: k - 1]
    return [responses[place] for place in [*places, firsts[scores[-1]]]]


def _apart(responses: Sequence[Response], margin: float) -> list[Response]:
    """From the best on, the next response that is at least `margin` below."""
    kept = [responses[0]]
    for response in responses[1:]:
        if _score(kept[-1]) - _score(response) >= margin:
            kept.append(response)
    return kept
