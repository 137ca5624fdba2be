"""The examples of gates, systems and hooks are read by what reads them. Those of actions: tests/ci_kit."""

import re

import yaml
from typer.testing import CliRunner

from harness.cli.app import app
from harness.recipe.evaluation import System
from harness.recipe.recipe import Gate
from tests.docs.pages import ROOT, all_blocks

DOCUMENTS = [yaml.safe_load(block.text) for block in all_blocks("yaml")]


def test_the_gates_are_gates() -> None:
    (gates,) = [document["gates"] for document in DOCUMENTS if "gates" in document]
    assert [Gate.model_validate(gate).row for gate in gates] == ["multi-dpo.seed-0"] * 3


def test_a_floor_in_an_example_can_be_reached() -> None:
    """`min` of a share is a fraction up to 1, and percent above."""
    (gates,) = [document["gates"] for document in DOCUMENTS if "gates" in document]
    for gate in gates:
        if gate.get("metric") == "heldout.pair_accuracy" and "min" in gate:
            assert 1 < gate["min"] < 100


def test_the_systems_are_systems() -> None:
    for systems in [document["systems"] for document in DOCUMENTS if "systems" in document]:
        assert System.model_validate(systems[0]).answers.keys() == {"alpaca_eval"}


def test_the_command_in_the_hook_takes_the_options_that_are_named() -> None:
    hooks = yaml.safe_load((ROOT / ".github" / "actions" / "gate" / "examples" / "pre-commit.yaml").read_text())
    command = hooks["repos"][0]["hooks"][0]["entry"]
    shown = CliRunner().invoke(app, ["gate", "--help"], env={"COLUMNS": "200"}).output
    assert command.split()[:2] == ["harness", "gate"]
    options = re.findall(r"--[a-z-]+", command)
    assert options
    assert all(option in shown for option in options)


def test_default_margins_of_figures_without_a_benchmark() -> None:
    from harness.figures import HELDOUT_FIGURES
    from tests.docs.pages import text_of

    text = text_of("harness/gate/README.md")
    for figure in HELDOUT_FIGURES:
        if figure.pairing is not None and figure.higher_is_better is not None:
            assert f"| `{figure.metric}` | {figure.margin:.1f} " in text
