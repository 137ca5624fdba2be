"""The command line: mistakes are one line and exit code 2, and looking at a recipe loads nothing heavy."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
QUICKSTART = str(ROOT / "recipes" / "quickstart.yaml")


def harness(*arguments: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *python, "-m", "harness.cli", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rnu", QUICKSTART), "Did you mean 'run'"),
        (("run",), "Missing parameter"),
        (("run", "no-such.yaml"), "no-such.yaml: no such file"),
        (("run", QUICKSTART, "--set", "data.responses.n=1"), "data.responses.n: expected at least 2"),
        (("validate", QUICKSTART, "--set", "methods.1.loss.bta=1"), "did you mean 'beta'"),
        (("validate", QUICKSTART, "--set", "policy.model=smollm2"), "did you mean 'smollm2-135m-instruct'"),
        (("run", QUICKSTART, "--leaderboards", "/dev/null"), "/dev/null"),
        (("show", "/nowhere"), "/nowhere"),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    done = harness(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("harness: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_a_benchmark_named_twice_is_refused(tmp_path: Path) -> None:
    twice = "evaluation.benchmarks=[{name: mt_bench, questions: builtin}, {name: mt_bench, questions: builtin}]"
    done = harness("validate", QUICKSTART, "--set", twice)
    assert done.returncode == 2
    assert "expected each benchmark once" in done.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("validate", QUICKSTART), ("plan", QUICKSTART)])
def test_nothing_heavy_is_imported_to_look_at_a_recipe(arguments: tuple[str, ...]) -> None:
    done = harness(*arguments, python=("-X", "importtime"))
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "harness" in imported
    assert not imported & {"torch", "transformers", "trl", "datasets", "pandas", "openai", "alpaca_eval", "fastchat"}


def test_every_shipped_recipe_is_valid_or_names_the_data_it_misses() -> None:
    for recipe in sorted((ROOT / "recipes").glob("*.yaml")):
        done = harness("validate", str(recipe))
        assert done.returncode == 0 or "shared/data" in done.stderr, done.stderr
