"""A third benchmark is one file: its figures are on the board, its page, in comparisons, gates and sweeps, and a
machine without that file can still read the board."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.forked import harness

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

RECIPE = """\
name: arena
seed: 1
policy: {{model: {model}, dtype: float32}}
data:
  seeds: [{{name: builtin, limit: 24}}]
  holdout: 0.25
  responses: {{generator: {{name: hf, model: {model}, dtype: float32}}, n: 4, max_new_tokens: 12}}
  reward: {{name: length}}
  report: false
methods:
  - {{id: dpo, loss: {{name: dpo_best_worst, beta: 0.1}}}}
  - {{id: multi-dpo, loss: {{name: mdpo_linear, beta: 0.1}}}}
training: {{epochs: 2, learning_rate: 2.0e-2, max_prompt_length: 256, max_length: 512, lora: {{r: 4}}}}
evaluation:
  judge: {{name: reward_model, reward: {{name: length}}, temperature: 5.0}}
  answers: {{max_new_tokens: 24}}
  benchmarks: [{{name: arena_hard}}]
gates:
  - {{row: multi-dpo, metric: arena_hard.score, baseline_row: dpo, margin: 100, allow: true}}
"""
SWEEP = "sweep: {{grid: {{data.responses.n: [2, 4]}}}}\n"


class Site:
    """A folder with the benchmark installed in it, as a package would install it."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model = folder, model
        self.site = folder / "site"
        info = self.site / "arena-1.0.dist-info"
        info.mkdir(parents=True)
        shutil.copyfile(Path(__file__).parent / "arena.py", self.site / "arena.py")
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: arena\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[harness.benchmarks]\narena_hard = arena\n")

    def recipe(self, name: str, more: str = "") -> str:
        text = (RECIPE + more).format(model=self.model).replace("name: arena\n", f"name: {name}\n", 1)
        (self.folder / f"{name}.yaml").write_text(text)
        return f"{name}.yaml"

    def __call__(self, *arguments: str, installed: bool = True) -> subprocess.CompletedProcess[str]:
        paths = [str(ROOT), *([str(self.site)] if installed else [])]
        variables = {"PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "120"}
        return harness(*arguments, home=self.folder / "home", cwd=self.folder, **variables)

    def board(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / "leaderboards" / name / "board.json").read_text())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, wordy_tiny_model: Path) -> Site:
    site = Site(tmp_path_factory.mktemp("third"), wordy_tiny_model)
    done = site("run", site.recipe("arena"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "harness gate: pass: row multi-dpo against dpo: arena_hard.score " in done.stdout
    return site


def test_it_is_on_the_board(site: Site) -> None:
    rows = {row["id"]: row["metrics"] for row in site.board("arena")["rows"]}
    assert rows["base"]["arena_hard.score"]["value"] == 50  # each answer against itself
    assert rows["dpo"]["arena_hard.score"]["ci95"]
    assert {c["first"] for c in site.board("arena")["comparisons"]["arena_hard.score"]} == {"base", "dpo"}
    text = (site.folder / "leaderboards" / "arena" / "board.md").read_text()
    heads = [" ".join(line.split()) for line in text.split("\n") if line.startswith("| row ")]
    assert heads[0].startswith("| row | loss | Arena-Hard score, % (n=9) | Arena-Hard words an answer, words (n=9) |")
    assert "### Arena-Hard by category" in text
    assert "### Arena-Hard score, percentage points" in text
    shown = site("show", "leaderboards/arena").stdout
    assert "Arena-Hard" in shown
    assert "score %" in shown


def test_it_is_on_the_page_with_its_answers(site: Site) -> None:
    page = (site.folder / "leaderboards" / "arena" / "index.html").read_text()
    assert "Arena-Hard score, %" in page
    assert "Arena-Hard score, %</th>" in page  # its chart
    assert "<strong>Arena-Hard by category</strong>" in page
    data = re.search(r'id="board-data">(.*?)</script>', page, re.DOTALL)
    assert data
    assert page.count('id="pack-') == 4  # the prompts, and the answers of each row
    categories = [prompt[1] for prompt in json.loads(data[1])["prompts"]]
    assert categories == [name for name in ("code", "maths", "letters") for _ in range(3)]


def test_a_machine_without_the_file_reads_the_board_too(site: Site) -> None:
    shown = site("show", "leaderboards/arena", installed=False)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == site("show", "leaderboards/arena").stdout
    merged = site("merge", "leaderboards/arena", "-o", "merged", installed=False)
    assert merged.returncode == 0, merged.stderr
    assert "### Arena-Hard by category" in (site.folder / "merged" / "board.md").read_text()
    gate = site("gate", "leaderboards/arena", "--row", "multi-dpo", "--baseline", "leaderboards/arena",
                "--baseline-row", "dpo", "--metric", "arena_hard.score", "--allow", installed=False)  # fmt: skip
    assert gate.returncode == 3, gate.stdout + gate.stderr
    assert "inconclusive (margin 3;" in gate.stdout + gate.stderr  # the one that the figure declares
    same = site("gate", "leaderboards/arena", "--row", "dpo", "--baseline", "leaderboards/arena", "--metric",
                "arena_hard.score", "--allow", installed=False)  # fmt: skip
    assert same.returncode == 0, same.stdout + same.stderr
    assert "nothing has changed" in same.stdout


def test_gates_know_its_figures(site: Site) -> None:
    wrong = site("gate", "leaderboards/arena", "--row", "dpo", "--metric", "arena_hard.scores", "--min", "1")
    assert wrong.returncode == 2
    assert "did you mean 'arena_hard.score'" in wrong.stderr
    unpaired = site.folder / site.recipe("unpaired")
    unpaired.write_text(unpaired.read_text().replace("metric: arena_hard.score", "metric: arena_hard.words"))
    refused = site("validate", unpaired.name)
    assert refused.returncode == 2
    assert "no gate tests 'arena_hard.words'" in refused.stderr


def test_it_is_in_a_sweep(site: Site) -> None:
    done = site("run", site.recipe("swept", SWEEP))
    assert done.returncode == 0, done.stdout + done.stderr
    text = (site.folder / "leaderboards" / "swept" / "board.md").read_text()
    assert "### n (data.responses.n)" in text
    assert "Arena-Hard score, percentage points" in text.split("## What was varied")[1]
    assert "Arena-Hard by category:" in text
    page = (site.folder / "leaderboards" / "swept" / "index.html").read_text()
    assert "n: Arena-Hard by category" in page


def test_without_the_file_a_recipe_says_what_is_missing(site: Site) -> None:
    done = site("validate", "arena.yaml", installed=False)
    assert done.returncode == 2
    assert "unknown benchmark 'arena_hard'" in done.stderr
    assert done.stderr.count("\n") == 1
