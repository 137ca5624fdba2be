"""The documentation's commands are understood, cheap ones run, and its recipes validate."""

import copy
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from harness.cli.app import app
from tests.docs import pages
from tests.docs.pages import PAGES, ROOT, Block, commands, documents, judge_files, text_of

by_page = pytest.mark.parametrize("page", PAGES)


def harness_commands(page: str) -> list[list[str]]:
    """Arguments of the `harness` commands in a page's sh blocks."""
    lines = [part.strip() for line in commands(page) for part in line.split("&&")]
    split = [shlex.split(line, comments=True) for line in lines]
    return [parts[1:] for parts in split if parts and Path(parts[0]).name == "harness"]


def parsed(arguments: list[str]) -> None:
    """Raises typer's error for an unknown command or option, a missing argument or a wrong value."""
    command: Any = get_command(app)
    context = command.make_context("harness", list(arguments))
    for name in arguments:
        if not (inner := getattr(command, "commands", {})):
            break
        assert name in inner, f"harness {' '.join(arguments)}: no command {name}"
        command, rest = inner[name], arguments[arguments.index(name) + 1 :]
        context = command.make_context(name, list(rest), parent=context)


@by_page
def test_commands_are_understood(page: str) -> None:
    for arguments in harness_commands(page):
        parsed(arguments)


@by_page
def test_files_that_pytest_is_given_exist(page: str) -> None:
    for line in commands(page):
        if " pytest" in line:
            assert all((ROOT / part).exists() for part in shlex.split(line) if part.startswith("tests/")), line


def test_a_wrong_command_would_be_noticed() -> None:
    from typer.exceptions import TyperException

    parsed(["cache", "gc", "--keep", "leaderboards/quickstart"])
    for wrong in (["cache", "gc", "--kep", "x"], ["run"], ["gate", "board", "--margin", "much"]):
        with pytest.raises(TyperException):
            parsed(wrong)
    with pytest.raises(AssertionError, match="no command lss"):
        parsed(["cache", "lss"])


CHEAP = {"components", "show", "validate", "plan", "gate", "baseline", "merge", "cache", "export", "import"}
NOT_HERE = {"--push-to-hub", "gc"}  # they need a hub, and a store that has made the boards


def can_run(arguments: list[str]) -> bool:
    return arguments[0] in CHEAP and not NOT_HERE & set(arguments)


@pytest.mark.parametrize("page", [page for page in PAGES if any(map(can_run, harness_commands(page)))])
def test_cheap_commands_run(page: str, sandbox: Path) -> None:
    if page == "recipes/README.md":
        run(["import", "nectar.jsonl", "-o", "ranked/ranked.jsonl", "--format", "nectar"])
    for arguments in harness_commands(page):
        if can_run(arguments):
            run(arguments)


def run(arguments: list[str]) -> None:
    for k, argument in enumerate(arguments):
        if argument == "-o":
            Path(arguments[k + 1]).parent.mkdir(parents=True, exist_ok=True)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, f"harness {' '.join(arguments)}: {done.exception!r}\n{done.output}"


@by_page
def test_inline_commands_exist(page: str) -> None:
    command: Any = get_command(app)
    for span in pages.spans(text_of(page)):
        parts = span.split()
        if parts[:1] != ["harness"] or len(parts) == 1 or parts[1].startswith("-"):
            continue
        assert parts[1] in command.commands, span
        inner = command.commands[parts[1]]
        if len(parts) > 2 and parts[2] in getattr(inner, "commands", {}):
            inner = inner.commands[parts[2]]
        options = {option for parameter in inner.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {part for part in parts[2:] if part.startswith("-")} <= options | {"--help"}, span


# Recipes.


def recipes() -> list[tuple[Block, dict[str, Any]]]:
    """Whole recipes as they stand; a page's excerpt in the README's recipe."""
    ((_, whole),) = [(block, document) for block, document in documents() if block.page == "README.md"]
    found = []
    for block, document in documents():
        if "jobs" in document or "repos" in document or block in judge_files():
            continue
        is_whole = "name" in document and ("policy" in document or "systems" in document)
        found.append((block, document if is_whole else merged(whole, document)))
    return found


def merged(whole: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    result = copy.deepcopy(whole)
    for key, value in part.items():
        old = result.get(key)
        result[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return result


@pytest.mark.parametrize(
    ("block", "document"), recipes(), ids=lambda v: f"{v.page}:{v.line}" if isinstance(v, Block) else ""
)
def test_recipes_validate_offline(block: Block, document: dict[str, Any], sandbox: Path) -> None:
    for path in ("baseline.json", "gemma/model_outputs.json.gz", "gemma/annotations.json.gz", "answers/mine.json"):
        (sandbox / path).parent.mkdir(exist_ok=True)
        (sandbox / path).touch()
    Path("recipe.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    run(["validate", "recipe.yaml", "--offline"])


def test_judge_files_are_judges(sandbox: Path) -> None:
    from harness.recipe.judge_file import load_judge

    assert judge_files()
    assert load_judge(Path("judge.yaml")).name == "reward_model"
