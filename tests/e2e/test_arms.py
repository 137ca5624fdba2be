"""Training seeds and matched budgets through the command line, on a tiny random model."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests import forked

pytestmark = pytest.mark.slow

RECIPE = """\
name: arms
seed: 1
policy: {{model: {model}, dtype: float32}}
data: {{seeds: [{{name: builtin}}], holdout: 16, train_limit: 9}}
methods:
  - {{id: once, loss: {{name: dpo_adjacent}}, match: prompts, match_to: dpo, training: {{batch_size: 2, seeds: null}}}}
  - {{id: dpo, loss: {{name: dpo_best_worst}}, training: {{epochs: 2}}}}
  - {{id: fair, loss: {{name: mdpo_linear}}, match: tokens, match_to: dpo, training: {{batch_size: 3}}}}
training:
  seeds: [1, 4]
  batch_size: 4
  learning_rate: 1.0e-3
  max_prompt_length: 256
  max_length: 512
  lora: {{r: 4}}
"""


def harness(folder: Path, *arguments: str) -> str:
    done = forked.harness(*arguments, home=folder / "home", cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    made = tmp_path_factory.mktemp("arms")
    (made / "arms.yaml").write_text(RECIPE.format(model=tiny_model))
    harness(made, "run", "arms.yaml")
    return made


@pytest.fixture(scope="module")
def board(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "leaderboards" / "arms" / "board.json").read_text())
    return found | {"rows": {row["id"]: row for row in found["rows"]}}


def test_one_row_a_seed_and_the_same_data(board: dict[str, Any]) -> None:
    rows = board["rows"]
    assert list(rows) == ["base", "once", "dpo.seed-1", "dpo.seed-4", "fair.seed-1", "fair.seed-4"]
    assert len({row["provenance"]["keys"]["ranked"] for row in rows.values()}) == 1
    assert {row["provenance"]["seed"] for row in rows.values()} == {1}
    seeded = rows["fair.seed-4"]["provenance"]
    assert (seeded["method_id"], seeded["training_seed"], seeded["match_to"]) == ("fair", 4, "dpo.seed-4")
    assert "training_seed" not in rows["once"]["provenance"]
    margins = [rows[row]["metrics"]["heldout.margin"]["value"] for row in ("dpo.seed-1", "dpo.seed-4")]
    assert margins[0] != margins[1]


def test_mean_and_spread_over_seeds(board: dict[str, Any]) -> None:
    groups = {group["method_id"]: group for group in board["training_seeds"]}
    assert list(groups) == ["dpo", "fair"]
    assert groups["dpo"]["seeds"] == [1, 4]
    one, other = (board["rows"][row]["metrics"]["heldout.margin"]["value"] for row in groups["dpo"]["rows"])
    margin = groups["dpo"]["metrics"]["heldout.margin"]
    assert (margin["n"], margin["n_invalid"]) == (2, 0)
    assert margin["mean"] == pytest.approx((one + other) / 2)
    assert margin["sd"] == pytest.approx(abs(one - other) / 2**0.5)


def test_budgets_are_matched_and_recorded(board: dict[str, Any]) -> None:
    trained = {row: found["provenance"].get("training") for row, found in board["rows"].items()}
    given = trained["dpo.seed-1"]
    assert (given["steps"], given["prompts_seen"]) == (6, 18)  # two passes over nine prompts, four a step
    assert "budget" not in given
    once = trained["once"]
    assert (once["match"], once["budget"], once["used"], once["steps"]) == ("prompts", 18, 18, 10)
    for seed in (1, 4):
        fair = trained[f"fair.seed-{seed}"]
        assert fair["match"] == "tokens"
        assert fair["budget"] == fair["used"] == fair["forward_tokens"] == given["forward_tokens"]
        assert fair["steps"] == 6


def test_the_board_says_so(folder: Path) -> None:
    text = (folder / "leaderboards" / "arms" / "board.md").read_text()
    assert "- once: trained for as many prompts as dpo.seed-1: 18 there, 18 here.\n" in text
    assert "### Over training seeds" in text
    assert "Over training seeds" in harness(folder, "show", "leaderboards/arms")


def test_a_further_seed_trains_only_that(folder: Path) -> None:
    out = harness(folder, "run", "arms.yaml", "--set", "training.seeds=[1, 4, 5]", "--leaderboards", "more")
    assert "4 stages run" in out  # two methods: training and held-out pairs
