"""The answer of a board: which comparisons it is about, and what it says of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from harness.boards.entry import Entry
from harness.boards.provenance import LossFacts
from harness.claims.answer import answer
from harness.claims.effects import edges
from harness.claims.primary import primary
from harness.types import Metric

WIN = "alpaca_eval.win_rate"


def row(
    method: str, seed: int, percentages: Sequence[float], *, recipe: dict[str, Any] | None = None, **more: Any
) -> Entry:
    """A trained row with these win rates by prompt."""
    about = {
        "judge": {"name": "j", "model": "m"},
        "judge_calibration": "80 %",
        "benchmarks": {"alpaca_eval": {}},
        "method_id": method,
        "training_seed": seed,
        "training": {"steps": 10, "forward_tokens": 100},
        "recipe": {"name": "r", "methods": [{"id": "dpo"}, {"id": "multi"}, {"id": "third"}], **(recipe or {})},
    }
    return Entry(
        id=f"{method}.seed-{seed}",
        method="mdpo_linear" if method == "multi" else "dpo_adjacent",
        metrics={WIN: Metric(value=float(np.mean(percentages)), n=len(percentages))},
        provenance={**about, **more},
        outcomes={"alpaca_eval": {f"q{i}": 1 + x / 100 for i, x in enumerate(percentages)}},
    )


def board(
    shifts: dict[str, float], *, seeds: int = 5, n: int = 200, spread: float = 0.5, noise: float = 10, **more: Any
) -> list[Entry]:
    """Each method's rows: its shift, trainings that vary by `spread` points, prompts by far more."""
    rng = np.random.default_rng(0)
    hard = rng.normal(50, 12, n)
    return [
        row(method, seed, np.clip(hard + shift + rng.normal(0, spread) + rng.normal(0, noise, n), 0, 100), **more)
        for method, shift in shifts.items()
        for seed in range(seeds)
    ]


def told(rows: list[Entry]) -> str:
    found = answer(rows)
    assert found is not None
    return "\n".join(found.lines)


def test_a_difference_between_methods_is_told_with_its_interval_seeds_and_budgets() -> None:
    found = answer(board({"dpo": 0, "multi": 6}))
    assert found is not None
    assert found.question == "multi against dpo, by AlpacaEval win rate: 5 seeds, 200 prompts."
    (statement,) = found.statements
    low, high = statement.effect.ci95 or (0, 0)
    size = f"+{statement.effect.difference:.1f} points of AlpacaEval win rate (95 % CI {low:.1f} to {high:.1f})"
    assert statement.text == f"multi against dpo, matched steps and tokens: {size}: significantly better."
    assert statement.kind == "better"
    assert "from prompts" in statement.parts
    assert "from trainings" in statement.parts
    assert found.cautions == ()


def test_what_is_not_significant_is_not_called_equal_and_says_what_could_have_been_shown() -> None:
    text = told(board({"dpo": 0, "multi": 0.3}, spread=2))
    assert "not significant; this run could have shown " in text
    assert "no difference" not in text
    assert "−" in text  # of the interval's lower end
    assert "-" not in text.replace("-dpo", "")


def test_one_seed_is_about_two_checkpoints() -> None:
    text = told(board({"dpo": 0, "multi": 6}, seeds=1))
    assert "one seed each, 200 prompts" in text
    assert "these two checkpoints differ" in text
    assert "Nothing was tried about the methods" in text


def test_trainings_that_differ_widen_the_interval_of_the_methods() -> None:
    """On the same prompts a test over prompts alone would see no difference between these two boards."""
    (steady,), (wild,) = (
        p.effects for s in (0.0, 6.0) if (p := primary(board({"dpo": 0, "multi": 4}, spread=s, noise=2))) is not None
    )
    assert steady.is_significant
    assert not wild.is_significant
    assert wild.estimate.from_trainings > 5 * steady.estimate.from_trainings  # type: ignore[union-attr]


def test_five_prompts_are_too_few_to_tell() -> None:
    text = told(board({"dpo": 0, "multi": 30}, n=5))
    assert "5 prompts are too few to tell anything; at least 6 are needed" in text
    assert "CI" not in text


@pytest.mark.parametrize(
    ("shift", "margin", "words"),
    [
        (0.0, 5.0, "as good as each other within 5 points"),
        (6.0, 20.0, "significantly better, though by less than 20 points"),
        (0.65, 1.0, "not significant, and no worse by 1 point of AlpacaEval win rate or more"),
    ],
)
def test_with_a_margin_equivalence_is_an_answer(shift: float, margin: float, words: str) -> None:
    assert words in told(board({"dpo": 0, "multi": shift}, recipe={"primary": {"margin": margin}}))


def test_each_method_is_compared_with_the_recipes_first_and_corrected_for_all() -> None:
    found = primary(board({"third": 1, "multi": 6, "dpo": 0}))
    assert found is not None
    assert [(e.value, e.against) for e in found.effects] == [("multi", "dpo"), ("third", "dpo")]
    assert all(e.adjusted_p >= e.p for e in found.effects)
    assert found.effects[0].adjusted_p == pytest.approx(2 * min(e.p for e in found.effects))
    assert not found.named


def test_the_recipe_names_metric_and_comparisons() -> None:
    wanted = {"primary": {"metric": "alpaca_eval.win_rate", "comparisons": [["multi", "third"]]}}
    found = primary(board({"third": 1, "multi": 6, "dpo": 0}, recipe=wanted))
    assert found is not None
    assert [(e.value, e.against) for e in found.effects] == [("multi", "third")]
    assert found.named
    missing = primary(board({"dpo": 0, "multi": 1}, recipe={"primary": {"metric": "mt_bench.score"}}))
    assert missing is None  # another metric is no substitute for the one named


def test_cells_where_multi_dpo_is_dpo_are_left_out() -> None:
    def with_n(n: int, shift: float, **more: Any) -> list[Entry]:
        recipe = {"data": {"responses": {"n": n}}}
        rows = board({"dpo": 0, "multi": shift}, recipe=recipe, **more)
        axes = [{"name": "n", "fields": ["data.responses.n"], "values": ["2", "4"]}]
        sweep = {"cells": [{"n": str(n)}], "axes": axes}
        return [
            entry.model_copy(
                update={
                    "id": f"{entry.id}.n-{n}",
                    "provenance": type(entry.provenance).model_validate(
                        {**entry.provenance.plain(), "sweep": {**sweep, "row": entry.provenance.method_id}}
                    ),
                }
            )
            for entry in rows
        ]

    both = [*with_n(2, 0), *with_n(4, 6)]
    (edge,) = edges(both)
    assert (edge.effects[0].pairs, edge.left_out) == (5, 5)
    assert edge.effects[0].difference == pytest.approx(6, abs=1)
    found = primary(both)
    assert found is not None
    assert found.effects[0].pairs == 5


def test_flags_missing_verdicts_and_uncalibrated_judges_are_cautions() -> None:
    rows = board({"dpo": 0, "multi": 6}, judge_calibration="uncalibrated")
    guards = {"alpaca_eval": [{"name": "null", "text": "the same answer to every prompt"}]}
    flagged = type(rows[0].provenance).model_validate({**rows[0].provenance.plain(), "guards": guards})
    rows[0] = rows[0].model_copy(update={"provenance": flagged})
    rows[1].outcomes["alpaca_eval"]["q0"] = None
    found = answer(rows)
    assert found is not None
    text = "\n".join(found.cautions)
    assert "Doubtful figures: dpo.seed-0 (1 flagged" in text
    assert "AlpacaEval: 1 verdict is not scored" in text
    assert "Judge: j m, not calibrated" in text
    assert found.statements[0].effect.prompts == 199


def test_a_rule_as_judge_is_called_exact() -> None:
    text = "a rule, exact by definition: 1 sentence"
    found = answer(board({"dpo": 0, "multi": 6}, judge_calibration={"verdict": "rule", "text": text}))
    assert found is not None
    assert found.cautions[-1] == "Judge: j m, a rule, exact by definition: 1 sentence."


def test_systems_are_compared_with_the_first() -> None:
    rows = [
        entry.model_copy(
            update={
                "id": entry.provenance.method_id,
                "provenance": type(entry.provenance).model_validate({"judge": {"name": "j"}, "judge_calibration": "x"}),
            }
        )
        for entry in board({"one": 0, "two": 8, "three": 0}, seeds=1)
    ]
    text = told(rows)
    assert text.startswith("2 systems against one, by AlpacaEval win rate: 200 prompts.")
    assert "two against one: +" in text
    assert "significantly better" in text
    assert "checkpoint" not in text


def test_a_single_row_has_no_answer() -> None:
    assert answer(board({"dpo": 0}, seeds=1)) is None
    assert answer([]) is None


def test_two_responses_make_multi_dpo_dpo_and_the_board_says_so() -> None:
    """Pairs as they are: the recipe names no number of responses, and the dataset's report has two a prompt."""
    losses = {"dpo": {"on_pairs": True}, "multi": {"is_multi_dpo": True}}
    for responses, said in ((96, True), (192, False)):
        data = {"ranked": {"train_prompts": 48, "responses": responses}}
        entries = [
            entry.model_copy(
                update={
                    "provenance": entry.provenance.model_copy(
                        update={"loss": LossFacts(**losses[entry.provenance.method_id or ""])}
                    )
                }
            )
            for entry in board({"dpo": 0, "multi": 0}, seeds=2, data=data)
        ]
        found = answer(entries)
        assert found is not None
        assert any("at two responses a prompt these are one loss" in line for line in found.cautions) == said
