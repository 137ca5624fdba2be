"""DPO against Multi-DPO on rankings that were made elsewhere, trained on all of their responses and on two of them."""

import json
from pathlib import Path
from typing import Any

import pytest

import harness

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("imported")
    texts, scores = ("Apples and roses", "Roses, fire", "Grass", "Snow", "No idea"), (9.0, 7.5, 3.0, 1.0, None)
    with (folder / "rows.jsonl").open("w") as file:
        for i in range(12):
            of = zip(texts, scores, strict=True)
            completions = [{"model": t[0], "response": f"{t} {i}", "overall_score": s} for t, s in of]
            file.write(json.dumps({"instruction": f"Name {i} red things.", "completions": completions}) + "\n")
    recipe = {
        "name": "imported",
        "policy": {"model": str(tiny_model), "dtype": "float32"},
        "data": {"ranked": str(folder / "rows.jsonl"), "holdout": 4, "report": False},
        "methods": [
            {"id": "dpo", "loss": {"name": "dpo_best_worst"}},
            {"id": "multi-dpo", "loss": {"name": "mdpo_linear"}},
        ],
        "training": {"learning_rate": 1e-3, "max_prompt_length": 64, "max_length": 96, "lora": {"r": 4}},
        "sweep": {"data.pairs": ["all", "best_worst"]},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HARNESS_HOME", str(folder / "home"))
        return dict(harness.run(recipe).rows)


def test_dpo_on_the_best_and_the_worst_is_the_same_whoever_selects_them(rows: dict[str, Any]) -> None:
    whole, selected = rows["dpo.pairs-all"], rows["dpo.pairs-best_worst"]
    assert whole.outcomes["heldout"] == selected.outcomes["heldout"]
    assert set(whole.outcomes["heldout"].values()) != {0.0}


def test_over_two_responses_multi_dpo_is_dpo_and_over_four_it_is_not(rows: dict[str, Any]) -> None:
    margins = {row: list(rows[row].outcomes["heldout"].values()) for row in rows}
    assert margins["multi-dpo.pairs-best_worst"] == pytest.approx(margins["dpo.pairs-best_worst"], rel=1e-3)
    assert margins["multi-dpo.pairs-all"] != pytest.approx(margins["dpo.pairs-all"], rel=1e-3)


def test_rankings_have_rank_correlations_and_unscored_responses_are_counted(rows: dict[str, Any]) -> None:
    row = rows["multi-dpo.pairs-all"]
    assert (row.metrics["heldout.kendall_tau"].n, row.metrics["heldout.pair_accuracy"].n) == (4, 4)
    assert row.provenance.data["ranked"]["not_scored"] == 12
    assert row.provenance.training.model_extra["unscored_responses"] == 8
    assert rows["dpo.pairs-best_worst"].provenance.responses == 2
