"""The command line: mistakes are one line and exit code 2, and looking at a recipe loads nothing heavy."""

import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from harness.pipeline.study import make_study_plan
from harness.recipe.load import load_study

ROOT = Path(__file__).parents[2]
QUICKSTART = str(ROOT / "recipes" / "quickstart.yaml")


def harness(*arguments: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *python, "-m", "harness.cli", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rnu", QUICKSTART), "Did you mean 'run'"),
        (("run",), "Missing argument"),
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


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes" / "paper").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_paper_s_recipes_are_valid_and_can_be_planned(recipe: Path) -> None:
    """That of the paper's own size names models of a hub, vLLM and a key: without those only as a recipe."""
    large = recipe.stem == "paper-scale"
    done = harness("validate", str(recipe), *(["--offline"] if large else []))
    assert done.returncode == 0, done.stderr
    schema, command = recipe.read_text().split("\n", 2)[:2]
    assert schema == "# yaml-language-server: $schema=../recipe.schema.json"
    assert command.startswith(f"# harness run recipes/paper/{recipe.name}")
    if not large:
        study = load_study(recipe)
        assert study.name == recipe.stem
        assert make_study_plan(study).rows


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in pairwise("abcdefghij")
)


@pytest.mark.parametrize(
    "text",
    [
        "name: x\npadding: '" + "x" * 10_000_000 + "'\n",
        BOMB,
        "name: !!python/object/apply:os.system ['touch hacked']\n",
        "name: ../../escaped\n",
        "sweep: {cells: [{id: ../../escaped, seed: 1}]}\n",
    ],
    ids=["ten megabytes", "bomb", "code", "a name that climbs", "a cell that climbs"],
)
def test_a_hostile_recipe_is_refused_in_a_line_at_once(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    started = time.monotonic()
    done = harness("validate", str(tmp_path / "x.yaml"))
    assert time.monotonic() - started < 10
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"harness: {tmp_path / 'x.yaml'}")
    assert [p.name for p in tmp_path.iterdir() if "harness" not in p.name] == ["x.yaml"]
