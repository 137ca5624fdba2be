"""The README's commands are the ones that are run: README.md, .ci/run and the command line held together."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def commands(readme: str) -> list[str]:
    """The README's first two `sh` blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", readme, flags=re.MULTILINE | re.DOTALL)
    return [block.removesuffix("\n") for block in blocks[:2]]


def test_two_commands_of_one_line(commands: list[str]) -> None:
    first, second = commands
    assert "\n" not in first + second
    assert "harness run recipes/quickstart.yaml" in first
    assert re.search(r"[ /]pytest$", second)
    assert (ROOT / "recipes" / "quickstart.yaml").is_file()


def test_both_install_with_venv_and_pip(commands: list[str]) -> None:
    for command in commands:
        assert command.startswith("python3 -m venv ")
        assert re.search(r"\bpip install\b", command)
        assert not re.search(r"\buvx?\b", command)


def test_ci_runs_the_test_command_as_it_stands(commands: list[str], tmp_path: Path) -> None:
    """.ci/run, beside a copy of the README and with a `bash` that only takes down what it is told: the command must
    come through to the letter, and its failure must be the run's."""
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    (tmp_path / ".ci").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    shutil.copy(ROOT / "README.md", tmp_path / "README.md")
    shell, heard = shutil.which("bash"), tmp_path / "heard"
    assert shell is not None
    for name in ("bash", "python3"):
        stand_in = tmp_path / "bin" / name
        stand_in.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> "{heard}"\nexit 37\n')
        stand_in.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [shell, ".ci/run"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert commands[1] in heard.read_text().splitlines()
    assert done.returncode == 37


def test_every_subcommand_that_the_readme_names_exists(readme: str) -> None:
    fenced = re.findall(r"^```.*?\n(.*?)^```$", readme, flags=re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", readme, flags=re.MULTILINE | re.DOTALL))
    named = {
        found
        for code in (*fenced, *spans)
        for found in re.findall(r"(?:^|[$#;&|(] ?|bin/)harness ([a-z][a-z-]*)", code, flags=re.MULTILINE)
    }
    assert {"run", "validate", "plan", "show"} <= named
    shown = subprocess.run(
        [sys.executable, "-m", "harness.cli", "--help"],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "120", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    listed = set(re.findall(r"^\W*([a-z][a-z-]*) {2,}", shown.partition("Commands")[2], flags=re.MULTILINE))
    assert named <= listed


def test_the_recipe_in_the_readme_loads(readme: str, tmp_path: Path) -> None:
    from harness.recipe_file import load_recipe

    text, *_ = re.findall(r"^```yaml\n(.*?)^```$", readme, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "my-pairs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    recipe = load_recipe(tmp_path / "mine.yaml", check=False)  # its models are on a hub
    assert [m.id for m in recipe.methods] == ["dpo", "dpo-adjacent", "multi-dpo"]


def test_the_loss_in_the_readme_is_one(readme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed through an entry point, as another package would, and equal to DPO where its margin is 0."""
    import torch

    from harness import components
    from harness.protocols import RankedLogps

    (source,) = re.findall(r"^```python\n(.*?)^```$", readme, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "readme_loss.py").write_text(source, encoding="utf-8")
    info = tmp_path / "readme_loss-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: readme-loss\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[harness.losses]\ndpo_margin = readme_loss\n")
    monkeypatch.syspath_prepend(tmp_path)
    components.modules.cache_clear()
    try:
        batch = RankedLogps(
            logps=torch.tensor([[-3.0, -5.0, -4.0]]),
            ref_logps=torch.tensor([[-4.0, -4.0, -4.0]]),
            scores=torch.tensor([[2.0, 1.0, 0.0]]),
            lengths=torch.tensor([[3, 3, 3]]),
            mask=torch.tensor([[True, True, True]]),
        )
        plain, valid = components.build("loss", {"name": "dpo_best_worst", "beta": 0.5})(batch)
        zero, _ = components.build("loss", {"name": "dpo_margin", "beta": 0.5})(batch)
        loss, _ = components.build("loss", {"name": "dpo_margin", "beta": 0.5, "gamma": 0.7})(batch)
    finally:
        components.modules.cache_clear()
    assert valid.tolist() == [True]
    assert torch.equal(zero, plain)
    assert loss.item() == pytest.approx(-torch.nn.functional.logsigmoid(torch.tensor(0.5 * (1.0 - 0.0) - 0.7)).item())
