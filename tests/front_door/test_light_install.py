"""The package without an extra: small, whole, and enough for boards, gates, reports, labels and own data. What needs an
extra says so in one line."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import typer.main

from harness.cli.app import app
from tests.judging.gold.helpers import board, saved
from tests.perf.light_install import GATE, ROOT, Installed, gate_seconds, install

pytestmark = pytest.mark.slow  # makes an environment, which takes half a minute
ABSENT = ("torch", "transformers", "trl", "peft", "datasets", "sklearn", "scipy", "pandas", "pyarrow", "alpaca_eval")
ABSENT += ("fastchat", "openai", "anthropic", "huggingface_hub")
SERVED = """\
name: served
systems: [{id: a, answers: {mt_bench: a.jsonl}}]
evaluation:
  judge: {name: openai, model: m, base_url: "http://127.0.0.1:9/v1", api_key_env: null}
  benchmarks: [{name: mt_bench, questions: builtin}]
"""
LIGHT = {
    *("show", "report", "merge", "diff", "gate", "baseline", "history", "label", "prices", "cache", "import"),
    *("components", "fields", "schema", "init"),
}
"""Commands that work without an extra."""
IN_PART = {
    "validate": "with --offline",
    "plan": "with --offline, of a recipe without AlpacaEval and MT-bench",
    "leaks": "with the evaluation sets in a folder",
    "export": "datasets",
}
NEVER = {"run", "calibrate"}
Texts = tuple[int, str, str]


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install(tmp_path_factory.mktemp("environment") / "light")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With two boards that have answers, a recipe of the quickstart, one of rows from files, and pairs."""
    folder = tmp_path_factory.mktemp("work")
    board(folder / "board")
    board(folder / "labelled")
    (folder / "served.yaml").write_text(SERVED)
    (folder / "a.jsonl").write_text("{}\n")
    (folder / "judge.yaml").write_text("{name: openai, model: m, base_url: 'http://127.0.0.1:9/v1', api_key_env: null}")
    (folder / "quickstart.yaml").write_bytes((ROOT / "recipes" / "quickstart.yaml").read_bytes())
    (folder / "mine.csv").write_text("prompt,chosen,rejected\n" + "".join(f"{i}?,yes {i},no\n" for i in range(60)))
    return folder


@pytest.fixture
def harness(light: Installed, folder: Path) -> "Harness":
    return Harness(light, folder)


class Harness:
    """The command, in the light environment."""

    def __init__(self, light: Installed, folder: Path) -> None:
        self.light, self.folder = light, folder

    def ended(self, line: str) -> Texts:
        """(exit code, output, errors)."""
        # Not from the checkout: what is tested is what pip has installed.
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HARNESS"))}
        done = subprocess.run(
            [str(self.light.python.parent / "harness"), *line.split()],
            cwd=self.folder,
            env={**own, "HARNESS_HOME": str(self.folder / "home")},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return done.returncode, done.stdout, done.stderr

    def says(self, line: str) -> str:
        """The output of a command that succeeds."""
        code, out, errors = self.ended(line)
        assert code == 0, (line, errors)
        return out

    def refuses(self, line: str, extra: str) -> None:
        """Asserts that a command ends with the one line that says how to install the extra."""
        code, out, errors = self.ended(line)
        assert (code, out, len(errors.splitlines())) == (2, "", 1), (line, out, errors)
        assert f"which is not installed: pip install 'preference-harness[{extra}]'" in errors, (line, errors)


def test_its_size_and_its_packages(light: Installed, folder: Path) -> None:
    """Seconds are printed: they are those of this machine on this day."""
    assert light.megabytes < 150
    code = "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n)])"
    found = subprocess.run([light.python, "-c", code, *ABSENT], cwd=folder, capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
    check = subprocess.run([light.python, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout
    print(
        f"\nlight: {light.megabytes:.0f} MB in {light.seconds:.0f} s; a gate in {gate_seconds(light.python, 5):.2f} s"
    )


def test_every_command_is_known_here() -> None:
    group = typer.main.get_command(app)
    assert set(vars(group)["commands"]) == LIGHT | IN_PART.keys() | NEVER


def test_boards(harness: Harness) -> None:
    assert "row-1" in harness.says("show board --svg board.svg --alpaca-eval rows.csv")
    assert (harness.folder / "board.svg").is_file()
    assert "board" in harness.says("show .")
    assert "the same" in harness.says("diff board labelled")
    harness.says(f"merge board {ROOT / 'leaderboards' / 'orca-smollm2'} -o merged")
    assert "row-1" in harness.says("show merged")
    harness.says("report merged")
    assert "row-2" in (harness.folder / "merged" / "index.html").read_text()


def test_gates(harness: Harness) -> None:
    harness.says("baseline promote board --row row-1 -o baseline.json")
    gate = "gate board --baseline baseline.json --row row-1 --margin 20"
    assert "harness gate: pass: row row-1" in harness.says(f"{gate} --junit gate.xml --markdown gate.md")
    assert "row-1" in (harness.folder / "gate.md").read_text()
    assert harness.ended("gate board --row row-2 --baseline-row row-1")[0] in (0, 1, 3)
    assert "row-1" in harness.says("history baseline.json")


def test_a_gate_imports_little(light: Installed) -> None:
    """It ends in half a second, most of which are imports."""
    command = [light.python, "-X", "importtime", "-m", "harness.cli", *GATE]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert {"pydantic", "typer", "harness.gate.ask"} <= modules
    slow = {"numpy", "httpx", "httpcore", "jinja2", "rich", "rapidfuzz", "yaml", "asyncio", "harness.recipe"}
    assert not modules & slow


def test_labels(harness: Harness) -> None:
    """The page, and what somebody says on it."""
    harness.says("label labelled --pairs 12 --rows row-1")
    path = saved(harness.folder / "labelled", harness.folder / "ada.json", lambda item: item["number"] % 3 != 0)
    assert "verdicts" in harness.says(f"label labelled --read {path}")


def test_own_data_and_recipes(harness: Harness) -> None:
    assert "60 pairs" in harness.says("init --data mine.csv -o mine.yaml")
    harness.says("init -o shipped.yaml")
    for recipe in ("mine", "quickstart"):
        assert "fine" in harness.says(f"validate --offline {recipe}.yaml")
    assert "dpo" in harness.says("plan --offline mine.yaml")
    assert "60 rows" in harness.says("import mine.csv -o mine.jsonl")
    assert "60 rows" in harness.says("export mine.jsonl -o trl.jsonl --format trl")


def test_leaks(harness: Harness, shared_data: Path) -> None:
    assert harness.ended(f"leaks mine.csv --data {shared_data}") == (
        *(0, ""),
        "harness: 0 of 60 prompts overlap alpaca_eval,mt_bench\n",
    )


def test_reference(harness: Harness) -> None:
    listing = " ".join(harness.says("components").split())
    for name in ("mdpo_linear", "alpaca_eval", "sequence_classifier", "hub"):
        assert name in listing
    assert "(needs the extra judge)" in listing
    assert "(needs the extra train)" in listing
    assert "pip install" in harness.says("components judge openai")
    assert "holdout" in harness.says("fields data")
    assert json.loads(harness.says("schema"))["title"]
    assert "gpt" in harness.says("prices gpt-4o")
    (harness.folder / "store").mkdir()
    assert "0 artifacts" in harness.says("cache ls --store store")


def test_what_needs_an_extra(harness: Harness) -> None:
    for line, extra in (
        ("run quickstart.yaml", "train"),
        ("run served.yaml", "judge"),
        ("validate served.yaml", "judge"),
        ("plan --offline served.yaml", "judge"),
        ("calibrate --judge judge.yaml --recorded board", "judge"),
        ("init --data owner/name -o hub.yaml", "train"),
        ("init --data mine.csv --from served -o asked.yaml", "judge"),
        ("import mine.csv -o mine.parquet", "parquet"),
        ("leaks mine.csv", "judge"),
    ):
        harness.refuses(line, extra)
    path = harness.folder / "call.py"
    path.write_text("import harness\ntry: harness.run('served.yaml')\nexcept harness.HarnessError as e: print(e)\n")
    done = subprocess.run(
        [harness.light.python, path], cwd=harness.folder, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.endswith("pip install 'preference-harness[judge]'\n")
