"""Rows of checkpoints on the way, through the command line: the board, its curves, and what changes nothing."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import harness
from tests import forked
from tests.sample_boards import markdown_tables

pytestmark = pytest.mark.slow

RECIPE = """\
name: pairs
seed: 3
policy: {{model: {model}, dtype: float32}}
data: {{seeds: [{{name: builtin}}], holdout: 24, train_limit: 16}}
methods:
  - {{id: dpo, loss: {{name: dpo_best_worst, beta: 0.1}}}}
  - {{id: trl, engine: trl, loss: {{name: sigmoid, beta: 0.1}}}}
training: {{epochs: 2, learning_rate: 1.0e-3, max_prompt_length: 256, max_length: 512, lora: {{r: 4}}}}
evaluation:
  judge: {{name: local, model: {model}, dtype: float32}}
  answers: {{max_new_tokens: 4}}
  kl: true
  checkpoints: {checkpoints}
  benchmarks: [{{name: alpaca_eval, prompts: builtin, reference: base, limit: 6}}]
"""
ROWS = ["base", "dpo", "dpo.at-0.25", "dpo.at-0.5", "trl", "trl.at-0.25", "trl.at-0.5"]


def run(folder: Path, model: Path, checkpoints: str, *more: str) -> subprocess.CompletedProcess[str]:
    (folder / "pairs.yaml").write_text(RECIPE.format(model=model, checkpoints=checkpoints))
    return forked.harness("run", "pairs.yaml", *more, home=folder / "home", cwd=folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, wordy_tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    done = run(folder, wordy_tiny_model, "[0.5, 0.25, 1.0]")
    assert done.returncode == 0, done.stderr
    assert "Learning curves" in done.stdout
    shutil.copytree(folder / "leaderboards", folder / "full" / "leaderboards")  # later runs replace it
    return folder


def board(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "leaderboards" / "pairs" / "board.json").read_text())


def test_each_checkpoint_is_a_row_that_nothing_is_compared_with(folder: Path) -> None:
    rows = {row["id"]: row for row in board(folder)["rows"]}
    assert list(rows) == ROWS
    margins = [rows[name]["metrics"]["heldout.margin"]["value"] for name in ("dpo.at-0.25", "dpo.at-0.5", "dpo")]
    assert margins == sorted(margins)
    assert len(set(margins)) == 3
    steps = [rows[f"{name}.at-{at}"]["provenance"]["checkpoint"] for name in ("dpo", "trl") for at in (0.25, 0.5)]
    assert [point["steps"] for point in steps] == [1, 2, 1, 2]
    for compared in board(folder)["comparisons"].values():
        assert not any(".at-" in name for pair in compared for name in (pair["first"], pair["second"]))


def test_the_board_and_its_page_have_a_curve_of_each_training(folder: Path) -> None:
    text = (folder / "leaderboards" / "pairs" / "board.md").read_text()
    section = text.split("## Learning curves")[1].split("\n## ")[0]
    assert [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")][2:] == [
        *["dpo"] * 4,
        *["trl"] * 4,
    ]
    assert ".at-" not in text.split("## Results")[1].split("\n## ")[0].split("###")[0]
    page = (folder / "leaderboards" / "pairs" / "index.html").read_text()
    assert "Held-out margin over training" in page


def test_each_checkpoint_has_its_divergence_and_that_grows(folder: Path) -> None:
    rows = {row["id"]: row["metrics"] for row in board(folder / "full")["rows"]}
    assert "kl.answer" not in rows["base"]
    for method in ("dpo", "trl"):
        found = [rows[name]["kl.answer"] for name in (f"{method}.at-0.25", f"{method}.at-0.5", method)]
        values = [metric["value"] for metric in found]
        assert 0 < values[0] < values[1] < values[2]
        assert [(metric["n"], metric["n_invalid"]) for metric in found] == [(6, 0)] * 3
        assert all(metric["ci95"] for metric in found)
    text = (folder / "full" / "leaderboards" / "pairs" / "board.md").read_text()
    assert "no estimate of the divergence of whole answers" in text
    trained = text.split("## Data, training and cost")[1]
    assert not any(line.startswith("| dpo.at-") and "dpo_best_worst" in line for line in trained.splitlines())


def test_the_card_of_a_checkpoint_is_about_it(folder: Path) -> None:
    where = folder / "full" / "leaderboards" / "pairs"
    harness.export_model(where, "dpo.at-0.25", folder / "exported", store=folder / "home" / "store", merge=True)
    card = (folder / "exported" / "README.md").read_text()
    settings = dict(row[:2] for table in markdown_tables(card) for row in table if len(row) == 2)
    assert settings["optimizer steps"] == "1"
    assert settings["checkpoint"].endswith("4 optimizer steps")
    assert "loss, last steps" not in settings
    assert {"base", "dpo.at-0.25"} <= {row[0] for table in markdown_tables(card) for row in table}


def outcomes(folder: Path, row: str) -> dict[str, float]:
    entry = json.loads((folder / "leaderboards" / "pairs" / "entries" / f"{row}.json").read_text())
    return entry["outcomes"]["alpaca_eval"]


def test_a_choice_is_made_on_some_prompts_and_figures_are_of_the_others(folder: Path, wordy_tiny_model: Path) -> None:
    everything = {row: outcomes(folder / "full", row) for row in ROWS}
    choice = "[0.5, 0.25, 1.0]\n  select: {metric: alpaca_eval.win_rate, prompts: 0.34}"
    done = run(folder, wordy_tiny_model, choice, "--replace")
    assert done.returncode == 0, done.stderr
    rows = {row["id"]: row for row in board(folder)["rows"]}
    rest = {row: outcomes(folder, row) for row in ROWS}
    left_out = everything["base"].keys() - rest["base"].keys()
    assert len(left_out) == 2
    for row in ROWS:
        assert rest[row] == {key: value for key, value in everything[row].items() if key not in left_out}
        assert rows[row]["metrics"]["alpaca_eval.win_rate"]["n"] == 4
        assert row == "base" or rows[row]["metrics"]["kl.answer"]["n"] == 4
    for method in ("dpo", "trl"):
        candidates = [row for row in ROWS if row.startswith(method)]
        facts = {row: rows[row]["provenance"]["selection"] for row in candidates}
        # A preference of 1 is for the reference and 2 for the row.
        slices = {row: 100 * sum(everything[row][key] - 1 for key in left_out) / 2 for row in candidates}
        for row in candidates:
            assert facts[row]["candidates"][facts[row]["candidate"]] == pytest.approx(slices[row])
            assert len(facts[row]["candidates"]) == 3
        (chosen,) = [row for row in candidates if facts[row]["is_chosen"]]
        assert slices[chosen] == max(slices.values())
        assert f"{method}: checkpoint" in " ".join(done.stdout.split())
    compared = board(folder)["comparisons"]["alpaca_eval.win_rate"]
    assert len(compared) == 3  # base and one row of each method
    assert "best of its 3 candidates (checkpoint) by AlpacaEval win rate on 2 prompts" in " ".join(done.stdout.split())


def test_the_last_checkpoint_is_that_of_a_run_without_others(folder: Path, wordy_tiny_model: Path) -> None:
    with_curves = {row["id"]: row["metrics"] for row in board(folder / "full")["rows"]}
    done = run(folder, wordy_tiny_model, "null", "--replace")
    assert done.returncode == 0, done.stderr
    without = {row["id"]: row["metrics"] for row in board(folder)["rows"]}
    assert without == {name: with_curves[name] for name in ("base", "dpo", "trl")}
