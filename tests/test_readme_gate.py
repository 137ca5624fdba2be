"""The README's recipe of gates and its CI examples are read by what reads them."""

import re
from pathlib import Path

import yaml
from typer.testing import CliRunner

from harness.cli import app
from harness.recipe import Gate, System

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = [yaml.safe_load(b) for b in re.findall(r"^```yaml\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)]


def test_the_gates_are_gates() -> None:
    (gates,) = [b["gates"] for b in BLOCKS if isinstance(b, dict) and "gates" in b]
    assert [Gate.model_validate(g).row for g in gates] == ["multi-dpo"] * 3


def test_the_systems_are_systems() -> None:
    (systems,) = [b["systems"] for b in BLOCKS if isinstance(b, dict) and "systems" in b]
    assert System.model_validate(systems[0]).answers.keys() == {"alpaca_eval"}


def test_the_commands_in_ci_take_the_options_that_are_named() -> None:
    (workflow,) = [b for b in BLOCKS if isinstance(b, dict) and "jobs" in b]
    (hooks,) = [b for b in BLOCKS if isinstance(b, dict) and "repos" in b]
    said = workflow["jobs"]["gate"]["steps"][-1]["run"], hooks["repos"][0]["hooks"][0]["entry"]
    known = CliRunner().invoke(app, ["gate", "--help"], env={"COLUMNS": "200"}).output
    for command in said:
        assert command.split()[:2] == ["harness", "gate"]
        options = re.findall(r"--[a-z-]+", command)
        assert options
        assert all(option in known for option in options)
