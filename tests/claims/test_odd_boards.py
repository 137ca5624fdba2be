"""Boards of odd shapes: what can be compared is, what can't is said, and nothing is counted twice."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from harness.boards.entry import Entry
from harness.claims.answer import answer
from harness.claims.effects import Effect
from harness.claims.primary import Primary, primary
from harness.figures import Figure, Pairing
from harness.types import Metric
from tests.claims.test_answer import WIN, board, row, told
from tests.sample_boards import with_provenance


def asked(rows: Sequence[Entry], **wanted: Any) -> list[Entry]:
    """The rows of a recipe with this `primary`."""
    return [with_provenance(e, recipe={**(e.provenance.recipe or {}), "primary": wanted}) for e in rows]


def untrained(name: str, level: float = 45, n: int = 200) -> Entry:
    entry = row(name, 0, np.clip(np.random.default_rng(9).normal(level, 15, n), 0, 100).tolist())
    about = {k: v for k, v in entry.provenance.plain().items() if k not in ("method_id", "training_seed", "training")}
    return entry.model_copy(update={"id": name, "provenance": type(entry.provenance).model_validate(about)})


def in_cell(entry: Entry, **cell: str) -> Entry:
    axes = [{"name": name, "fields": [name], "values": ["0", "1", "2", "3"]} for name in cell]
    sweep = {"row": entry.provenance.method_id, "cells": [cell], "axes": axes}
    label = ".".join([entry.id, *(f"{name}-{value}" for name, value in cell.items())])
    return with_provenance(entry, sweep=sweep).model_copy(update={"id": label})


def found(rows: Sequence[Entry]) -> Primary:
    result = primary(rows)
    assert result is not None
    return result


def only(rows: Sequence[Entry]) -> Effect:
    (effect,) = found(rows).effects
    return effect


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_rows_that_tie_everywhere_prove_nothing(seeds: int) -> None:
    effect = only([row(method, seed, [50.0] * 20) for method in ("dpo", "multi") for seed in range(seeds)])
    low, high = effect.ci95 or (0, 0)
    assert low == pytest.approx(-high)
    assert 5 < high < effect.detectable < 100
    assert not effect.is_significant


def test_an_interval_stays_within_what_a_difference_can_be() -> None:
    effect = only([row(m, s, [100.0 * (m == "multi")] * 8) for m in ("dpo", "multi") for s in range(3)])
    low, high = effect.ci95 or (0, 0)
    assert 0 < low < high == 100


def test_what_no_difference_could_show_is_said_so() -> None:
    text = told([row("dpo", 0, [0.0, 100.0] * 3), row("multi", 0, [100.0, 0.0] * 3)])
    assert "this run could not have shown a difference of any size" in text


def test_a_seed_that_is_left_out_is_said_so() -> None:
    rows = board({"dpo": 0, "multi": 6}, seeds=4)
    rows[1] = rows[1].model_copy(update={"outcomes": {"alpaca_eval": dict.fromkeys(rows[1].outcomes["alpaca_eval"])}})
    assert only(rows).seeds == 3
    assert "multi against dpo: 1 of 4 pairs of rows is left out" in told(rows)


def test_rows_without_outcomes_come_first_and_are_passed_over() -> None:
    public = [
        Entry(id=f"p{i}", method="public", metrics={WIN: Metric(value=50.0)}, provenance={"public": "x"})
        for i in range(3)
    ]
    rows = board({"dpo": 0, "multi": 6})
    assert told([*public, *rows]) == told(rows)
    assert answer(public) is None


def test_rows_of_other_judges_are_said_to_take_no_part() -> None:
    rows = board({"dpo": 0, "multi": 6})
    others = [with_provenance(e, judge={"name": "k"}).model_copy(update={"id": f"{e.id}.k"}) for e in rows]
    text = told([*rows, *others])
    assert "1 other table takes no part" in text
    assert text.startswith(told(rows))


@pytest.mark.parametrize(("first", "second", "paired"), [((0, 1, 2), (0, 1, 2, 3, 4), 3), ((0, 1, 2), (7, 8, 9), 3)])
def test_methods_with_other_seeds_are_compared(first: tuple[int, ...], second: tuple[int, ...], paired: int) -> None:
    rng = np.random.default_rng(0)
    effect = only(
        [row(m, s, rng.normal(50, 9, 60).tolist()) for m, of in (("dpo", first), ("multi", second)) for s in of]
    )
    assert (effect.seeds, effect.pairs) == (paired, paired)


def test_named_comparisons_may_be_of_methods_systems_base_and_single_rows() -> None:
    rows = [untrained("base"), untrained("system", 60), *board({"dpo": 0, "multi": 6}, seeds=3)]
    pairs = [("base", "dpo"), ("multi", "system"), ("system", "base"), ("multi", "dpo.seed-0")]
    effects = found(asked(rows, comparisons=pairs)).effects
    assert [(e.value, e.against, e.seeds) for e in effects] == [
        (*p, k) for p, k in zip(pairs, (3, 3, 1, 3), strict=True)
    ]
    assert [e.is_trained for e in effects] == [True, True, False, True]
    assert effects[0].difference < 0 < effects[2].difference


def test_what_was_asked_and_cannot_be_answered_is_said() -> None:
    rows = board({"dpo": 0, "multi": 6, "third": 3})
    text = told(asked(rows, comparisons=[("multi", "dpo"), ("multi", "gone")], axis="beta"))
    assert "Not compared: multi against gone; no two of their rows differ in this alone." in text
    assert "The recipe's primary axis, beta, is none that these rows were varied in." in text
    without = [e.model_copy(update={"metrics": {}, "outcomes": {}}) if e.id.startswith("third") else e for e in rows]
    assert "Not compared: third against dpo; their rows share no prompts by this figure." in told(without)
    half = [*asked(board({"dpo": 0}), margin=3.0), *board({"multi": 6})]
    assert "The rows' recipes name different primary comparisons" in told(half)


def test_one_method_that_is_compared_twice_is_one_method() -> None:
    text = told(asked(board({"dpo": 0, "multi": 6, "third": 3}), comparisons=[("multi", "dpo"), ("multi", "third")]))
    assert text.startswith("multi against dpo and third, by AlpacaEval win rate")


def test_trainings_on_the_same_data_are_not_independent_runs() -> None:
    """Two runs with data of their own and five trainings each: the data decide, and there are two of them."""
    rng, rows = np.random.default_rng(1), []
    for run, shift in enumerate((3.0, 5.0)):
        for method, seed in [(m, s) for m in ("dpo", "multi") for s in range(5)]:
            percentages = 50 + shift * (method == "multi") + rng.normal(0, 3, 400)
            rows.append(in_cell(row(method, seed, percentages.tolist()), seed=str(run)))
    effect = only(rows)
    assert (effect.seeds, effect.pairs) == (2, 10)
    assert not effect.is_significant


def test_to_repeat_a_training_varies_nothing() -> None:
    rng = np.random.default_rng(0)
    rows = [in_cell(row("dpo", 0, rng.normal(50, 9, 60).tolist()), seed=str(run)) for run in range(3)]
    effect = only([untrained("base", n=60), *rows])
    assert (effect.value, effect.against, effect.seeds) == ("dpo", "base", 3)


def test_seeds_with_prompts_of_their_own_are_compared_by_their_means() -> None:
    rng, rows = np.random.default_rng(2), []
    for run in range(4):
        hard = rng.normal(0.3, 1, 500)
        for method in ("dpo", "multi"):
            margins = hard + 0.2 * (method == "multi") + rng.normal(0, 0.5, 500)
            entry = row(method, 0, [50.0]).model_copy(
                update={
                    "metrics": {"heldout.pair_accuracy": Metric(value=float((margins > 0).mean()), n=500)},
                    "outcomes": {"heldout": {f"{run}-{i}": float(x) for i, x in enumerate(margins)}},
                }
            )
            rows.append(in_cell(entry, seed=str(run)))
    effect = only(rows)
    accuracy = [100 * rows[i].metrics["heldout.pair_accuracy"].value for i in range(8)]  # type: ignore[operator]
    by_run = np.array(accuracy[1::2]) - np.array(accuracy[::2])
    assert effect.by_seed == pytest.approx(by_run)
    assert effect.difference == pytest.approx(by_run.mean())
    assert effect.prompts == 2000
    low, high = stats.t.interval(0.95, 3, by_run.mean(), stats.sem(by_run))
    assert effect.ci95 is not None
    assert effect.ci95[1] - effect.ci95[0] >= high - low  # a pair that nobody has seen takes part


def errors(values: np.ndarray, method: str, seed: int, higher_is_better: bool | None) -> Entry:
    figure = Figure(
        metric="mine.error",
        group="Mine",
        title="error",
        decimals=3,
        higher_is_better=higher_is_better,
        limits=(0.0, 1.0),
        pairing=Pairing(),
        compared=True,
    )
    return row(method, seed, [50.0]).model_copy(
        update={
            "figures": (figure,),
            "metrics": {"mine.error": Metric(value=float(np.mean(values)), n=len(values))},
            "outcomes": {"mine": {f"q{i}": float(x) for i, x in enumerate(values)}},
        }
    )


@pytest.mark.parametrize(
    ("higher_is_better", "word", "kind"),
    [(True, "better", "better"), (False, "worse", "worse"), (None, "higher", "open")],
)
def test_a_figures_direction_decides_what_is_better(higher_is_better: bool | None, word: str, kind: str) -> None:
    rng = np.random.default_rng(0)
    hard = rng.uniform(0.3, 0.6, 80)
    result = answer(
        [
            errors(hard + 0.1 * (m == "multi") + rng.normal(0, 0.01, 80), m, s, higher_is_better)
            for m in ("dpo", "multi")
            for s in range(3)
        ]
    )
    assert result is not None
    (statement,) = result.statements
    assert statement.text.endswith(f": significantly {word}.")
    assert statement.kind == kind


def test_equivalence_is_corrected_for_all_comparisons_like_differences() -> None:
    """Ten methods of which each, alone, would be told as good as the first."""
    rng = np.random.default_rng(3)
    hard = rng.normal(50, 12, 200)

    def rows(count: int) -> list[Entry]:
        names = ["dpo", *(f"m{i}" for i in range(count))]
        of = {name: hard + np.resize([9.0, -9.0], 200) * (name != "dpo") for name in names}
        return asked([row(name, 0, of[name].tolist()) for name in names], margin=1.85)

    assert "as good as each other within 1.85 points" in told(rows(1))
    assert "as good as" not in told(rows(10))


def test_where_the_95_percent_interval_is_wider_than_the_margin_the_one_of_the_test_is_shown() -> None:
    rows = [row("dpo", 0, [50.0] * 200), row("multi", 0, np.resize([59.0, 41.0], 200).tolist())]
    effect = only(rows)
    (_, wide), (_, narrow) = effect.ci95 or (0, 0), effect.estimate.interval(0.90)
    text = told(asked(rows, margin=(wide + narrow) / 2))
    assert f"(one-sided tests at 5 %: 90 % CI −{narrow:.1f} to {narrow:.1f})" in text
    assert "90 % CI" not in told(asked(rows, margin=wide + 0.01))


def stepped(name: str, low_at: float) -> Entry:
    """A row that is better than one at 50 points everywhere by a CI whose lower end is at `low_at`."""
    steps, below, above = np.resize([59.0, 41.0], 200), 0.0, 20.0
    for _ in range(40):
        shift = (below + above) / 2
        low, _ = only([row("dpo", 0, [50.0] * 200), row(name, 0, (steps + shift).tolist())]).ci95 or (0, 0)
        below, above = (shift, above) if low < low_at else (below, shift)
    return row(name, 0, (steps + above).tolist())


def test_an_interval_that_ends_near_zero_shows_on_which_side() -> None:
    assert "(95 % CI 0.03 to " in told([row("dpo", 0, [50.0] * 200), stepped("multi", 0.03)])
    assert "(95 % CI −0.03 to " in told([row("dpo", 0, [50.0] * 200), stepped("multi", -0.03)])


def test_significant_alone_but_not_in_the_family_is_explained() -> None:
    rows = [row("dpo", 0, [50.0] * 200), *(stepped(name, 0.1) for name in ("multi", "third"))]
    text = told(rows)
    assert text.count("not significant after Holm's correction over 2 comparisons") == 2
    equal = told(asked(rows, margin=20.0))
    assert (
        "as good as each other within 20 points of AlpacaEval win rate; the difference itself is not significant"
        in equal
    )


def test_rows_of_merged_runs_are_paired_within_their_run() -> None:
    one = board({"dpo": 0, "multi": 6})
    other = [
        e.model_copy(update={"id": f"{e.id}-2"}) for e in board({"dpo": 20, "multi": 26}, recipe={"data": {"k": 1}})
    ]
    effect = only([*one, *other])
    assert (effect.pairs, effect.seeds) == (10, 5)
    assert all(mine.id[-2:] == theirs.id[-2:] for mine, theirs in effect.rows if mine.id[-2:] == "-2")
    assert effect.difference == pytest.approx(6, abs=1.5)
    assert "Each difference is a mean over up to 2 pairs of rows a seed" in told([*one, *other])
    assert "also differ" not in told([*one, *other])
    apart = [*(e for e in one if e.id.startswith("dpo")), *(e for e in other if e.id.startswith("multi"))]
    assert "multi and dpo come from recipes that also differ in data." in told(apart)


def test_flags_and_missing_verdicts_count_on_the_rows_that_are_compared() -> None:
    """Also where values of a sweep's axis are compared, and not on other rows."""
    rng = np.random.default_rng(0)
    rows = [in_cell(row("dpo", s, rng.normal(50, 9, 100).tolist()), n=n) for n in ("0", "1") for s in range(3)]
    rows[0] = with_provenance(rows[0], guards={"alpaca_eval": [{"name": "null", "text": "always the same"}]})
    rows[1].outcomes["alpaca_eval"]["q0"] = None
    aside = with_provenance(untrained("base", n=100), guards={"row": [{"name": "x", "text": "y"}]})
    aside.outcomes["alpaca_eval"]["q1"] = None
    text = told([*rows, aside])
    assert "Doubtful figures: dpo.seed-0.n-0 (1 flagged: null 1)." in text
    assert "1 verdict is not scored; had they all gone one way, a difference would move by up to 0.33." in text
