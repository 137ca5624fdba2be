"""The README is a door: short, with commands that are the ones that run, and links that work outside the repository."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import HOME, ROOT, anchors, blocks, links, text_of

LINES, WORDS = 150, 1200
RAW = HOME.replace("github.com", "raw.githubusercontent.com")


@pytest.fixture(scope="module")
def readme() -> str:
    return text_of("README.md")


@pytest.fixture(scope="module")
def commands() -> list[str]:
    """The README's first two `sh` blocks."""
    return [block.text.removesuffix("\n") for block in blocks("README.md", "sh")[:2]]


def test_it_is_short(readme: str) -> None:
    assert len(readme.splitlines()) <= LINES
    assert len(readme.split()) <= WORDS


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
    """.ci/run beside a copy of the README, with a `bash` that only records its arguments: the command must arrive
    unchanged, and its failure must be the run's."""
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    (tmp_path / ".ci").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    shutil.copy(ROOT / "README.md", tmp_path / "README.md")
    shell, recorded = shutil.which("bash"), tmp_path / "recorded"
    assert shell is not None
    for name in ("bash", "python3"):
        stand_in = tmp_path / "bin" / name
        stand_in.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> "{recorded}"\nexit 37\n')
        stand_in.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [shell, ".ci/run"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert commands[1] in recorded.read_text().splitlines()
    assert done.returncode == 37


def test_the_recipe_loads(tmp_path: Path) -> None:
    from harness.recipe.load import load_recipe

    (block,) = blocks("README.md", "yaml")
    assert len(block.text.splitlines()) <= 15
    (tmp_path / "mine.yaml").write_text(block.text, encoding="utf-8")
    (tmp_path / "my-pairs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    recipe = load_recipe(tmp_path / "mine.yaml", check=False)  # its models are on a hub
    assert [m.id for m in recipe.methods] == ["dpo", "dpo-adjacent", "multi-dpo"]


def test_links_are_absolute_and_point_to_files_of_the_repository(readme: str) -> None:
    """PyPI shows the page without the repository."""
    inside = 0
    for link in links(readme):
        assert link.startswith("https://"), link
        for prefix in (f"{HOME}/blob/main/", f"{RAW}/main/"):
            if link.startswith(prefix):
                path, _, anchor = link.removeprefix(prefix).partition("#")
                assert (ROOT / path).is_file(), link
                assert not anchor or anchor in anchors(text_of(path)), link
                inside += 1
    assert inside >= 10


def test_project_urls_are_of_the_same_place() -> None:
    import tomllib

    urls = tomllib.loads(text_of("pyproject.toml"))["project"]["urls"]
    assert {"Homepage", "Issues", "Changelog"} <= urls.keys()
    assert all(url.startswith(HOME) for url in urls.values())


def test_the_command_table_has_every_command(readme: str) -> None:
    from typer.main import get_command

    from harness.cli.app import app

    table = "\n".join(line for line in readme.splitlines() if line.startswith("| `harness "))
    command = get_command(app)
    for name in command.commands:  # type: ignore[attr-defined]
        assert re.search(rf"`harness {name}[ `]", table), name
