"""A recipe without augmentation and without a judge, through the command line, on a tiny random model."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.forked import harness

pytestmark = pytest.mark.slow

RECIPE = """\
name: pairs
seed: 3
policy: {{model: {model}, dtype: float32}}
data: {{seeds: [{{name: builtin}}], holdout: 24, train_limit: 16}}
methods:
  - {{id: dpo, loss: {{name: dpo_best_worst, beta: 0.1}}}}
  - {{id: multi-dpo, loss: {{name: mdpo_linear, beta: 0.1}}}}
training: {{epochs: 2, learning_rate: 1.0e-3, max_prompt_length: 256, max_length: 512, lora: {{r: 4}}}}
"""


class Run:
    """A finished run in a folder of its own."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder = folder
        (folder / "pairs.yaml").write_text(RECIPE.format(model=model))
        self.first = self("run", "pairs.yaml")

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return harness(*arguments, home=self.folder / "home", cwd=self.folder)

    @property
    def rows(self) -> dict[str, Any]:
        found = json.loads((self.folder / "leaderboards" / "pairs" / "board.json").read_text())["rows"]
        return {row["id"]: row for row in found}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Run:
    done = Run(tmp_path_factory.mktemp("pairs"), tiny_model)
    assert done.first.returncode == 0, done.first.stderr
    return done


def test_rows_have_the_held_out_figures_and_no_others(run: Run) -> None:
    assert list(run.rows) == ["base", "dpo", "multi-dpo"]
    for row in run.rows.values():
        assert set(row["metrics"]) == {"heldout.pair_accuracy", "heldout.margin", "heldout.margin_kept"}
        assert {row["metrics"][f"heldout.{name}"]["n"] for name in ("pair_accuracy", "margin")} == {24}
        assert {"seeds", "ranked"} <= set(row["provenance"]["data"]) <= {"seeds", "ranked", "reference", "report"}
    assert run.rows["base"]["metrics"]["heldout.margin_kept"]["value"] is None
    assert run.rows["dpo"]["metrics"]["heldout.margin_kept"]["value"] == 1
    assert run.rows["base"]["metrics"]["heldout.pair_accuracy"]["value"] == 0.5
    assert run.rows["dpo"]["metrics"]["heldout.margin"]["value"] != 0
    assert run.rows["dpo"]["provenance"]["training"]["steps"] == 4


def test_over_two_responses_multi_dpo_is_dpo(run: Run) -> None:
    ours, theirs = (run.rows[row]["metrics"]["heldout.margin"]["value"] for row in ("multi-dpo", "dpo"))
    assert ours == pytest.approx(theirs, rel=1e-3)


def test_the_board_reads_well_without_a_judge(run: Run) -> None:
    text = (run.folder / "leaderboards" / "pairs" / "board.md").read_text()
    assert "No judge was asked" in text
    for word in ("Judge:", "judged by", "Kendall", "LC:", "calibrated", "AlpacaEval", "MT-bench"):
        assert word not in text
    assert "- Seed pairs: 24 heldout, 0 leaks dropped, 0 repeated prompts, 16 train\n" in text
    assert "- Ranked data: 24 heldout prompts, 32 responses, 16 train prompts\n" in text


def test_the_run_says_where_things_are_and_the_plan_what_there_is(run: Run) -> None:
    assert "Ranked dataset: " in run.first.stdout
    assert run.first.stdout.count("Checkpoint ") == 2
    done = run("plan", "pairs.yaml")
    assert done.returncode == 0, done.stderr
    stages = [line.split()[0] for line in done.stdout.splitlines() if "in the store" in line]
    assert stages == ["seeds", "ranked", "report", "dataset", "reference", "train/dpo", "train/multi-dpo"] + [
        f"heldout/{row}" for row in ("base", "dpo", "multi-dpo")
    ]


def test_checkpoints_are_measured_on_held_out_pairs_alone(run: Run) -> None:
    recipe = (run.folder / "pairs.yaml").read_text().replace("name: pairs", "name: curves", 1)
    (run.folder / "curves.yaml").write_text(recipe + "evaluation: {checkpoints: [0.5, 1.0]}\n")
    done = run("run", "curves.yaml")
    assert done.returncode == 0, done.stderr
    assert "Learning curves" in done.stdout
    found = json.loads((run.folder / "leaderboards" / "curves" / "board.json").read_text())["rows"]
    margins = {row["id"]: row["metrics"]["heldout.margin"] for row in found}
    assert list(margins) == ["base", "dpo", "dpo.at-0.5", "multi-dpo", "multi-dpo.at-0.5"]
    assert {margin["n"] for margin in margins.values()} == {24}
    assert margins["dpo"]["value"] == run.rows["dpo"]["metrics"]["heldout.margin"]["value"]
    assert margins["dpo.at-0.5"]["value"] not in (0, margins["dpo"]["value"])


def test_an_evaluation_of_nothing_is_one_line(run: Run) -> None:
    for nothing in ("{}", "{answers: {max_new_tokens: 4}, checkpoints: [0.5]}"):
        (run.folder / "nothing.yaml").write_text((run.folder / "pairs.yaml").read_text() + f"evaluation: {nothing}\n")
        done = run("validate", "nothing.yaml", "--offline")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "benchmarks: expected at least one" in done.stderr
