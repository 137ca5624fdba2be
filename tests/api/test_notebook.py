"""A notebook of the API: its cells in plain Python, in a real kernel where one is installed, and on the quickstart."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.api.recipes import tiny_recipe

ROOT = Path(__file__).parents[2]

CELLS = [
    "import harness",
    "planned = harness.plan(recipe, store=store)\nplanned",
    "run = harness.run(recipe, leaderboards=boards, store=store)\nrun",
    "board = harness.load_board(run.folder)\n{row.id: row.metrics['alpaca_eval.win_rate'] for row in board.entries}",
    "examples = run.datasets[''].examples()\nexamples[0].responses[0].text",
    "run.checkpoints['multi-dpo'].path",
    "result = harness.gate(run, row='multi-dpo', baseline_row='dpo', margin=100, allow=True)\n"
    "result.code, result.reason",
    "again = harness.run(recipe, leaderboards=boards, store=store, progress=False)\nagain.ran",
]


@pytest.mark.slow
def test_the_cells_run_in_one_namespace(wordy_tiny_model: Path, tmp_path: Path) -> None:
    names: dict[str, Any] = {
        "recipe": tiny_recipe(wordy_tiny_model),
        "boards": tmp_path / "boards",
        "store": tmp_path / "store",
    }
    for cell in CELLS:
        exec(compile(cell, "<cell>", "exec"), names)
    assert all(not stage.in_store for stage in names["planned"].stages)
    assert {row.id for row in names["board"].entries} == {"base", "dpo", "multi-dpo"}
    assert names["result"].code == 0
    assert names["examples"][0].responses[0].rank == 1
    assert (names["again"].ran, names["again"].reused) == (0, names["run"].ran)


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("nbclient", "ipykernel"))), reason="needs nbclient and ipykernel"
)
def test_the_cells_run_in_a_kernel(wordy_tiny_model: Path, tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    setting = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom pathlib import Path\n"
        "from tests.api.recipes import tiny_recipe\n"
        f"recipe = tiny_recipe(Path({str(wordy_tiny_model)!r}))\n"
        f"boards, store = {str(tmp_path / 'boards')!r}, {str(tmp_path / 'store')!r}"
    )
    cells = [nbformat.v4.new_code_cell(source) for source in (setting, *CELLS)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    results = [
        [output.data for output in cell.outputs if output.output_type == "execute_result"] for cell in notebook.cells
    ]
    assert "| multi-dpo |" in results[3][0]["text/markdown"]
    assert results[-1][0]["text/plain"] == "0"


@pytest.mark.slow
def test_the_quickstart_runs_from_python(wordy_tiny_model: Path, tmp_path: Path) -> None:
    """The shipped recipe, with the tiny model in all places and fewer of everything."""
    import harness

    model = str(wordy_tiny_model)
    places = ("policy", "data.prompts.generator", "data.responses.generator")
    edits = [f"{place}.model={model}" for place in places]
    edits += ["data.seeds.0.limit=24", "data.prompts.count=2", "training.epochs=1"]
    edits += ["data.prompts.max_attempts=40", "data.responses.max_new_tokens=8", "evaluation.answers.max_new_tokens=8"]
    edits += ["evaluation.benchmarks[alpaca_eval].limit=4"]
    options = {"edits": edits, "leaderboards": tmp_path / "boards", "store": tmp_path / "store", "progress": False}
    run = harness.run(ROOT / "recipes" / "quickstart.yaml", **options)
    assert list(run.rows) == ["base", "dpo", "multi-dpo"]
    assert list(run.checkpoints) == ["dpo", "multi-dpo"]
    assert all(row.metrics["gold_reward.score"].n == 4 for row in run.rows.values())
    options_of_gate = {"row": "multi-dpo", "baseline_row": "dpo", "metric": "alpaca_eval.win_rate", "allow": True}
    assert harness.gate(run, **options_of_gate).code in (0, 1, 3)
    assert harness.run(ROOT / "recipes" / "quickstart.yaml", **options).ran == 0


def imported_by(code: str) -> set[str]:
    """Packages that a fresh process has imported after `code`."""
    program = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


HEAVY = {"torch", "transformers", "trl", "datasets", "pandas", "typer"}


def test_importing_the_harness_imports_nothing_else() -> None:
    ours = imported_by("import harness") - imported_by("pass")
    assert ours <= {"harness"}


def test_a_board_is_read_and_gated_without_heavy_imports() -> None:
    code = (
        "import harness\nboard = harness.load_board('leaderboards/quickstart')\n"
        "harness.gate(board, row='multi-dpo', baseline_row='dpo')"
    )
    assert not imported_by(code) & (HEAVY | {"rich"})
    assert not imported_by("import harness\nrepr(harness.plan('recipes/quickstart.yaml'))") & HEAVY


def test_the_gate_is_asked_whatever_was_imported_before() -> None:
    """`harness.gate` is a package too."""
    ask = "harness.gate(harness.load_board('leaderboards/quickstart'), row='dpo', minimum=0).code"
    for before in ("", "import harness.gate.check", "from harness import gate", "import harness.api", "harness.run"):
        imported_by(
            f"import harness\n{before}\nassert {ask} in range(4)\nimport harness.gate.ci\nassert {ask} in range(4)"
        )
