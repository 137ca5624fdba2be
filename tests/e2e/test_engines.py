"""A whole run with a method of TRL's and methods that start from a fine-tuned policy, through the command line."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_run import RECIPE, Run

pytestmark = pytest.mark.slow

METHODS = """\
methods:
  - {{id: trl-ipo, engine: trl, loss: {{name: ipo, beta: 0.1, pairs: adjacent}}}}
  - {{id: tuned, loss: {{name: mdpo_linear, beta: 0.1}}, training: {{sft: {{learning_rate: 5.0e-3}}}}}}
  - {{id: tuned-trl, engine: trl, loss: {{name: sigmoid}}, training: {{sft: {{learning_rate: 5.0e-3}}, lora: null}}}}
"""


class OtherRun(Run):
    """The recipe of `test_run` with other methods."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        self.recipe = folder / "tiny.yaml"
        start, end = RECIPE.index("methods:"), RECIPE.index("training: {{epochs")
        self.recipe.write_text((RECIPE[:start] + METHODS + RECIPE[end:]).format(model=model))
        self.first = self("run", str(self.recipe))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, wordy_tiny_model: Path) -> OtherRun:
    done = OtherRun(tmp_path_factory.mktemp("engines"), wordy_tiny_model)
    assert done.first.returncode == 0, done.first.stderr
    return done


@pytest.fixture(scope="module")
def rows(run: OtherRun) -> dict[str, dict[str, Any]]:
    board = json.loads((run.folder / "leaderboards" / "tiny" / "board.json").read_text())
    return {row["id"]: row for row in board["rows"]}


def test_the_board_has_the_fine_tuned_policies_beside_what_was_made_of_them(rows: dict[str, dict[str, Any]]) -> None:
    assert {name: row["method"] for name, row in rows.items()} == {
        "base": "base",
        "sft": "sft",
        "sft-2": "sft",  # lora: null fine-tunes the whole model, so that it is another one
        "trl-ipo": "trl:ipo",
        "tuned": "mdpo_linear",
        "tuned-trl": "trl:sigmoid",
    }
    for row in rows.values():
        assert row["metrics"]["mt_bench.score"]["n"] == 8
        assert row["metrics"]["heldout.margin"]["value"] is not None
    assert rows["sft"]["metrics"]["heldout.margin"]["value"] != 0
    assert rows["tuned"]["provenance"]["sft"]["row"] == "sft"
    assert rows["tuned"]["provenance"]["sft"]["examples"] > 0
    assert rows["tuned-trl"]["provenance"]["sft"]["row"] == "sft-2"
    assert "sft" not in rows["trl-ipo"]["provenance"]
    assert rows["trl-ipo"]["provenance"]["training"]["pairs"] > rows["trl-ipo"]["provenance"]["training"]["examples"]


def test_the_board_says_what_was_fine_tuned(run: OtherRun) -> None:
    text = (run.folder / "leaderboards" / "tiny" / "board.md").read_text()
    assert "`sft` was fine-tuned on the best response of each training prompt." in text
    assert "tuned: trained from that model, which is also their reference" in text
    assert str(run.folder) not in text
    assert "it/s" not in run.first.stderr  # no library's own bar


def test_a_method_starts_where_its_reference_is(run: OtherRun) -> None:
    """Its first loss is that of a policy that equals its reference, and its adapter is of the fine-tuned model."""
    by_key = run.artifacts
    (tuned,) = [
        (key, a) for key, a in by_key.items() if a["stage"] == "train" and a["params"]["loss"]["name"] == "mdpo_linear"
    ]
    folder = run.home / "store" / "artifacts"
    first = json.loads((folder / tuned[0] / "steps.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert first["margin_mean"] == pytest.approx(0, abs=1e-3)
    adapter = json.loads((folder / tuned[0] / "checkpoint" / "adapter_config.json").read_text())
    assert tuned[1]["inputs"]["sft"] in adapter["base_model_name_or_path"]


def test_a_second_run_executes_nothing_and_a_changed_beta_one_method(run: OtherRun) -> None:
    assert "0 stages run" in run("run", str(run.recipe)).stdout
    before = set(run.artifacts)
    done = run("run", str(run.recipe), "--set", "methods.1.loss.beta=0.5")
    assert done.returncode == 0, done.stderr
    new = [a["stage"] for key, a in run.artifacts.items() if key not in before]
    assert sorted(new) == ["answers", "answers", "heldout", "train", "verdicts", "verdicts"]
