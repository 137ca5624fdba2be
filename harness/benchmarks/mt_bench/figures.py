"""The figures that MT-bench declares for boards and gates."""

from typing import Any

from harness.figures import Figure, Pairing

CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
TURNS = 10
"""Turns that have a figure of their own: the official questions have two, and a user's conversations may go on."""


def _figures(pairwise: bool) -> tuple[Figure, ...]:
    """Ratings from 1 to 10; if `pairwise`, percentages of wins over another row's answers."""
    scale = 100.0 if pairwise else 1.0
    common: dict[str, Any] = {
        "group": "MT-bench",
        "decimals": 1 if pairwise else 2,
        "unit": "%" if pairwise else "",
        "limits": (0.0, 100.0) if pairwise else (0.0, 10.0),
        "margin": None if pairwise else 0.2,
    }

    def figure(name: str, short: str, **more: Any) -> Figure:
        return Figure(metric=f"mt_bench.{name}", title=name.replace("_", " "), short=short, **{**common, **more})

    plain = {"decimals": 0, "unit": "", "limits": None, "higher_is_better": None, "place": "details", "margin": None}

    def count(name: str, side: str) -> Figure:
        return figure(name, name, counted=(side, 0.5), **plain)

    def told(name: str, title: str, short: str) -> Figure:
        return Figure(metric=f"mt_bench.{name}", title=title, short=short, **{**common, **plain})

    overall = figure(
        *(("win_rate", "win %") if pairwise else ("score", "score")),
        compared=True,
        rated=True,
        pairing=Pairing(scale=scale),
    )
    turns = tuple(figure(f"turn_{k}", f"turn {k}", pairing=Pairing(scale=scale, turn=k)) for k in range(1, TURNS + 1))
    categories = tuple(figure(name, name, place="category", part_of=overall.metric) for name in CATEGORIES)
    counts = (count("wins", "above"), count("ties", "equal"), count("losses", "below")) if pairwise else ()
    replies = (
        told("from_text", "ratings by text, beside others by probabilities", "by text"),
        told("thoughts", "verdicts after a thought, which was left out", "thoughts"),
    )
    return (overall, *turns, *categories, *counts, *replies)


RATING_FIGURES = _figures(pairwise=False)
PAIR_FIGURES = _figures(pairwise=True)
