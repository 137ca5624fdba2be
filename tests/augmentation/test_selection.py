"""Which responses of a ranking are trained on: known answers on hand-made groups, and what holds for any group."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.augmentation.selection import Selected, select
from harness.recipe.making.pairs import Pairs
from harness.types import Message, RankedExample, Response


def example(scores: Sequence[float | None], sources: Sequence[str] = (), words: Sequence[int] = ()) -> RankedExample:
    """Response i has the text `i x x ...`, with `words[i]` words."""
    ordered = sorted(range(len(scores)), key=lambda i: -np.inf if scores[i] is None else scores[i], reverse=True)
    responses = tuple(
        Response(text=f"{i}{' x' * ((words or [1] * 99)[i] - 1)}", source=(sources or ["s"] * 99)[i], score=scores[i])
        for i in ordered
    )
    messages = (Message(role="user", content="u"),)
    return RankedExample(id="e", messages=messages, responses=responses, source="s", split="train")


def lengths(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def selected(of: RankedExample, **pairs: Any) -> Selected:
    return select(of, Pairs.model_validate(pairs), lengths)


def places(found: Selected) -> list[int]:
    """The numbers of the responses, best first."""
    assert found.example is not None, found.reason
    return [int(r.text.split()[0]) for r in found.example.responses]


EIGHT = example([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -20.0])


@pytest.mark.parametrize(
    ("pairs", "kept"),
    [
        ({"name": "all"}, [6, 5, 4, 3, 2, 1, 0, 7]),
        ({"name": "best_worst"}, [6, 7]),
        # The mean is 0.125, the standard deviation 7.87: the target is -15.6, next to the -20.
        ({"name": "mean_minus_2sd"}, [6, 7]),
        ({"name": "top_k", "k": 3}, [6, 5, 4]),
        # 6, 0 and -20 are 6 and 20 apart; no other three are farther.
        ({"name": "subset", "k": 3}, [6, 0, 7]),
        ({"name": "subset", "k": 20}, [6, 5, 4, 3, 2, 1, 0, 7]),
        ({"name": "all", "margin": 2.0}, [6, 4, 2, 0, 7]),
        ({"name": "top_k", "k": 3, "margin": 2.0}, [6, 4]),
        ({"name": "best_worst", "margin": 26.0}, [6, 7]),
    ],
)
def test_known_answers(pairs: dict[str, Any], kept: list[int]) -> None:
    found = selected(EIGHT, **pairs)
    assert places(found) == kept
    assert found.example is not None
    assert [r.rank for r in found.example.responses] == list(range(1, len(kept) + 1))


def test_the_rejected_response_is_the_one_nearest_to_the_mean_minus_two_standard_deviations() -> None:
    rng, other_than_worst = np.random.default_rng(0), 0
    for _ in range(200):
        scores = rng.normal(size=16)
        nearest = int(np.argmin(np.abs(scores - (scores.mean() - 2 * scores.std()))))
        assert places(selected(example(scores.tolist()), name="mean_minus_2sd")) == [int(scores.argmax()), nearest]
        other_than_worst += nearest != scores.argmin()
    assert other_than_worst > 5
    # All scores count, also those of responses that are too long: the target is 0.7, and of the first four alone -3.5.
    scores_, words = [4.0, 3.0, 0.0, -2.0, *[3.9] * 20], [1] * 4 + [9] * 20
    assert places(selected(example(scores_, words=words), name="mean_minus_2sd", length_gap=2)) == [0, 2]


def test_with_fewer_than_six_responses_that_is_the_worst_one() -> None:
    """No score is two standard deviations below the mean of five."""
    rng = np.random.default_rng(0)
    for n in (3, 4, 5):
        for _ in range(50):
            of = example(rng.normal(size=n).tolist())
            assert places(selected(of, name="mean_minus_2sd")) == places(selected(of, name="best_worst"))


def test_ties_at_an_end_give_its_first_response() -> None:
    of = example([2.0, 2.0, 1.0, 0.0, 0.0])
    assert places(selected(of, name="best_worst")) == [0, 3]
    assert selected(of, name="top_k", k=2).reason == "no_preference"
    top = selected(of, name="top_k", k=3)
    assert top.example is not None
    assert [r.rank for r in top.example.responses] == [1, 1, 3]
    assert places(selected(of, name="subset", k=4)) == [0, 1, 2, 3]
    assert places(selected(of, name="all", margin=0.5)) == [0, 2, 3]


def test_delta_orders_by_the_model_and_not_by_the_score() -> None:
    of = example([0.0, 5.0, 9.0, 1.0], sources=["hf:big", "hf:small", "other", "hf:big"])
    found = selected(of, name="delta", sources=["hf:big", "hf:small"])
    assert found.example is not None
    assert [(r.text[0], r.score, r.rank) for r in found.example.responses] == [
        ("3", 1.0, 1),
        ("0", 1.0, 1),
        ("1", 0.0, 3),
    ]
    three = selected(of, name="delta", sources=["*big", "other", "hf:*"])
    assert three.example is not None
    assert [(r.text[0], r.score) for r in three.example.responses] == [("3", 2.0), ("0", 2.0), ("2", 1.0), ("1", 0.0)]
    assert selected(of, name="delta", sources=["hf:big", "hf:tiny"]).reason == "missing_source"
    unscored = example([None, None], sources=["strong", "weak"])
    assert places(selected(unscored, name="delta", sources=["strong", "weak"])) == [0, 1]
    assert places(selected(unscored, name="delta", sources=["weak", "strong"])) == [1, 0]


def test_lengths_are_close_to_the_best_ones() -> None:
    of = example([9.0, 8.0, 7.0, 6.0, 5.0], words=[50, 49, 10, 60, 55])
    assert places(selected(of, length_gap=10)) == [0, 1, 4]  # as many as 0, 3 and 4, and shorter
    assert places(selected(of, length_gap=11)) == [0, 1, 3, 4]
    assert places(selected(of, name="best_worst", length_gap=40)) == [0, 4]
    assert places(selected(of, name="best_worst", length_gap=10)) == [0, 4]
    assert places(selected(of, name="best_worst", length_gap=1)) == [0, 1]
    assert selected(of, length_gap=0).reason == "length_gap"
    delta = example([1.0, 2.0, 3.0], sources=["a", "b", "b"], words=[9, 30, 12])
    assert places(selected(delta, name="delta", sources=["a", "b"], length_gap=3)) == [0, 2]


def test_a_prompt_without_a_preference_is_dropped_for_a_reason() -> None:
    assert selected(example([1.0, 1.0]), name="all", margin=0.1).reason == "no_preference"
    assert selected(example([None, 1.0]), name="best_worst").reason == "no_preference"
    assert selected(example([1.0, 0.5]), name="best_worst", margin=0.6).reason == "margin"


scores_ = st.lists(st.none() | st.integers(-4, 4).map(float), min_size=1, max_size=8)
CHOICES = [
    {"name": "all"}, {"name": "best_worst"}, {"name": "mean_minus_2sd"}, {"name": "top_k", "k": 3},
    {"name": "subset", "k": 3}, {"name": "delta", "sources": ("a", "b")},
]  # fmt: skip


@given(
    scores=scores_,
    of_a=st.lists(st.booleans(), min_size=8, max_size=8),
    words=st.lists(st.integers(1, 9), min_size=8, max_size=8),
    choice=st.sampled_from(CHOICES),
    margin=st.none() | st.integers(1, 4).map(float),
    gap=st.none() | st.integers(0, 4),
)
def test_what_holds_for_any_group(
    scores: list[float | None],
    of_a: list[bool],
    words: list[int],
    choice: dict[str, Any],
    margin: float | None,
    gap: int | None,
) -> None:
    of = example(scores, sources=["a" if a else "b" for a in of_a], words=words)
    delta = choice["name"] == "delta"
    found = selected(of, **choice, length_gap=gap, **({} if delta else {"margin": margin}))
    if found.example is None:
        return
    kept = found.example.responses
    texts = [r.text for r in of.responses]
    values = [r.score for r in kept]
    assert len({r.text for r in kept}) == len(kept)
    assert {r.text for r in kept} <= set(texts)
    assert len(set(values)) > 1
    assert None not in values
    assert values == sorted(values, key=lambda s: -(s or 0.0))
    assert len(kept) <= choice.get("k", 2 if choice["name"] in ("best_worst", "mean_minus_2sd") else 8)
    tokens = lengths([r.text for r in kept])
    assert gap is None or max(tokens) - min(tokens) <= gap
    if not delta:
        assert kept[0].text == texts[0] or (gap is not None and kept[0].score == of.responses[0].score)
        for a, b in itertools.combinations(values, 2):
            assert margin is None or abs((a or 0.0) - (b or 0.0)) >= margin


@given(st.lists(st.integers(-30, 30).map(float), min_size=5, max_size=9, unique=True), st.integers(2, 4))
def test_a_subset_is_as_spread_as_any(scores: list[float], k: int) -> None:
    def smallest_gap(chosen: Sequence[float]) -> float:
        ordered = sorted(chosen)
        return min(b - a for a, b in itertools.pairwise(ordered))

    found = selected(example(scores), name="subset", k=k).example
    assert found is not None
    ours = [r.score for r in found.responses if r.score is not None]
    assert len(ours) == k
    ends = {max(scores), min(scores)}
    assert ends <= set(ours)
    best = max(smallest_gap(c) for c in itertools.combinations(scores, k) if ends <= set(c))
    assert smallest_gap(ours) == best


def test_ties_crowd_out_no_other_score_of_a_subset() -> None:
    assert places(selected(example([5.0, 5.0, 5.0, 3.0, 1.0, 1.0]), name="subset", k=4)) == [0, 1, 3, 4]
    assert places(selected(example([1.0, 1.0, 5.0, 1.0]), name="subset", k=3)) == [2, 0, 1]


@given(
    scores=st.lists(st.integers(-2, 2).map(float), min_size=2, max_size=7),
    words=st.lists(st.integers(1, 12), min_size=7, max_size=7),
    gap=st.integers(0, 5),
)
def test_the_most_responses_of_similar_length_stay(scores: list[float], words: list[int], gap: int) -> None:
    """By trying all subsets: a tied best response is as good as the other."""
    fitting = [
        chosen
        for n in range(2, len(scores) + 1)
        for chosen in itertools.combinations(range(len(scores)), n)
        if max(words[i] for i in chosen) - min(words[i] for i in chosen) <= gap
        and max(scores[i] for i in chosen) == max(scores) > min(scores[i] for i in chosen)
    ]
    found = selected(example(scores, words=words), length_gap=gap)
    if not fitting:
        assert found.reason == ("length_gap" if len(set(scores)) > 1 else "no_preference")
    else:
        assert tuple(sorted(places(found))) in fitting
        assert len(places(found)) == max(map(len, fitting))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"name": "top_k"}, "k is for top_k and subset: give it"),
        ({"name": "best_worst", "k": 2}, "k is for top_k and subset: leave it out"),
        ({"name": "delta", "sources": ["a"]}, "delta: expected two or more sources"),
        ({"name": "all", "sources": ["a", "b"]}, "all: expected no sources, which are for delta"),
        ({"name": "delta", "sources": ["a", "b"], "margin": 1}, "not from the scores: leave out margin"),
        ({"name": "delta", "sources": ["a", "a"]}, "expected each source once"),
        ({"name": "best_worst", "margin": 0}, "greater than 0"),
    ],
)
def test_selections_that_make_no_sense(pairs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Pairs.model_validate(pairs)
