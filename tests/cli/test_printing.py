"""Texts from outside in the terminal and in files for CI: no escape sequence, no forged line, no command, no markup."""

import ast
import csv
import json
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.cli.app import app
from harness.cli.console import say, say_json
from harness.cli.endings import as_exit_code
from harness.data.leak_check import read_prompts
from harness.engine.store import Store
from harness.pipeline.progress import RunView
from harness.printable import terminal
from harness.report.write import write_board
from tests.gate.rows import row
from tests.sample_boards import entry

CLI = Path(__file__).parents[2] / "harness" / "cli"
ZOO = (
    "\x1b[2J\x1b]0;title\x07",
    "\x9b31m",
    "\n::error file=x::forged",
    "\r\n::set-env name=PATH::/tmp",
    "\u2028::stop-commands::x",
    "\x85::add-mask::x",
    "::warning::x",
    "##[error]forged ##vso[task.setvariable]x",
    "\u202egnirts\u2066",
    "\x00\x08\x7f",
    "[bold red]markup[/bold red] [link=http://x]y[/link] [/]",
    ":smile:",
)
ALL = "".join(f"{i}{text}" for i, text in enumerate(ZOO))
"""Every one of them, in one text."""
Command = Callable[..., tuple[int, str]]


def harmless(shown: str) -> bool:
    """Whether a text has no control or format character, and no line that a CI runner takes for a command."""
    assert all(c.isprintable() or c == "\n" for c in shown), [c for c in shown if not c.isprintable()]
    assert "##[" not in shown
    assert "##vso[" not in shown
    assert not [line for line in shown.split("\n") if line.lstrip().startswith("::")]
    return True


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command; returns its exit code, and what it prints."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str | Path) -> tuple[int, str]:
        try:
            code = app([str(argument) for argument in arguments], standalone_mode=False) or 0
        except BaseException as error:
            code = as_exit_code(error)
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return code, shown.out + shown.err

    return run


@pytest.mark.parametrize("path", sorted(CLI.glob("*.py")), ids=lambda path: path.stem)
def test_commands_print_at_one_place(path: Path) -> None:
    tree = ast.parse(path.read_text())
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = {node.id for node in calls if isinstance(node, ast.Name)}
    attributes = {ast.unparse(node) for node in calls if isinstance(node, ast.Attribute)}
    if path.stem != "console":
        assert "print" not in named
    assert not named & {"Console", "echo", "secho"}
    assert not attributes & {"typer.echo", "typer.secho", "sys.stdout.write", "sys.stderr.write"}


def test_consoles_come_from_one_place() -> None:
    for path in CLI.parent.rglob("*.py"):
        if path.name != "printable.py":
            assert "Console(" not in path.read_text(), path


@pytest.mark.parametrize("text", ZOO)
def test_a_line_is_one_harmless_line(capsys: pytest.CaptureFixture[str], text: str) -> None:
    say(f"name{text}")
    say(text, error=True)
    shown = capsys.readouterr()
    assert shown.out.count("\n") == shown.err.count("\n") == 1
    assert harmless(shown.out + shown.err)


def test_json_keeps_its_values(capsys: pytest.CaptureFixture[str]) -> None:
    value = {f"{ALL} é 日本": [ALL, "\udc80", 1.5, None]}
    say_json(value)
    say_json(value, indent=1)
    shown = capsys.readouterr().out
    line, _, rest = shown.partition("\n")
    assert harmless(shown)
    assert "é 日本" in line
    assert json.loads(line) == json.loads(rest) == value


def test_a_console_takes_nothing_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("[b]head[/b]")
    table.add_row(ZOO[10])
    table.add_row(Text(ALL))
    console = terminal(width=400)
    console.print(table, ZOO[11], ALL)
    shown = capsys.readouterr().out
    assert harmless(shown)
    assert "[bold red]markup[/bold red] [link=http://x]y[/link] [/]" in shown
    assert ":smile:" in shown


def hostile_row(name: str = ALL):
    return row(name, 0, 60, judge={"name": ALL}, judge_calibration=ALL, made_by={ALL: ALL}, method_id=ALL)


def test_show_and_report(tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "boards\n::error::x" / "b"
    write_board(folder, ALL, [hostile_row(), entry("base", ALL)])
    code, shown = command("show", folder, "--svg", tmp_path / "x.svg")
    assert code == 0
    assert harmless(shown)
    ElementTree.parse(tmp_path / "x.svg")
    assert "\x1b" not in (tmp_path / "x.svg").read_text()
    code, shown = command("report", folder)
    assert code == 0
    assert harmless(shown)
    for name in ("board.md", "index.html", "board.csv"):
        text = (folder / name).read_text()
        assert name == "board.csv" or not set(text) & set("\x1b\x00\x07\x08"), name
    (line,) = [line for line in csv.reader((folder / "board.csv").open(newline="")) if line[0].startswith("0\x1b")]
    assert line[0] == ALL  # for programs


def test_gate(tmp_path: Path, command: Command) -> None:
    board = tmp_path / "b"
    write_board(board, ALL, [hostile_row(), row("::error::x", 0, 60), row("worse", -8, 60)])
    summary = tmp_path / "summary.md"
    arguments = ["--junit", tmp_path / "gate.xml", "--markdown", summary]
    codes = set()
    for name, baseline in (
        (ALL, "worse"),
        ("worse", "::error::x"),
        ("::error::x", "worse"),
        ("::error::x", ALL),
        (ALL[1:], ALL),
    ):
        code, shown = command("gate", board, "--row", name, "--baseline-row", baseline, *arguments)
        assert harmless(shown)
        assert shown.count("\n") == 1
        codes.add(code)
        suite = ElementTree.parse(tmp_path / "gate.xml").getroot()
        assert suite.get("tests") == "1"
    assert codes == {0, 1, 2}
    code, shown = command("gate", board, "--row", "worse", "--baseline-row", "worse", "--metric", ALL)
    assert code == 2
    assert harmless(shown)
    rows = [line for line in summary.read_text().split("\n") if line.startswith("|")]
    assert {line.count("|") for line in rows} == {10}


def test_merge(tmp_path: Path, command: Command) -> None:
    for name in ("a", "b"):
        write_board(tmp_path / name, name, [row(ALL, 0 if name == "a" else 1, 60)])
    code, shown = command("merge", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "both")
    assert code == 2
    assert "differs between" in shown
    assert harmless(shown)
    assert shown.count("\n") == 1
    code, shown = command("merge", tmp_path / "a", "-o", tmp_path / "both")
    assert code == 0
    assert harmless(shown)
    code, shown = command("merge", tmp_path / "a", "-o", tmp_path / f"x{ALL.replace('/', '').replace(chr(0), '')}")
    assert code == 0
    assert harmless(shown)


RECIPE = Path(__file__).parents[2] / "recipes" / "quickstart.yaml"


@pytest.mark.parametrize("text", [text for text in ZOO if "\x00" not in text])
def test_validate_and_plan(text: str, command: Command) -> None:
    for edit in (
        f"policy.model={text}",
        f"name={text}",
        f"{text}=1",
        f"methods.0.id={text}",
        f"methods.0.loss.name={text}",
    ):
        for name in ("validate", "plan"):
            code, shown = command(name, RECIPE, "--set", edit)
            assert code == 2
            assert harmless(shown)
            assert shown.count("\n") == 1


def test_a_sweep_s_labels(tmp_path: Path, command: Command) -> None:
    text = RECIPE.read_text() + "\nsweep:\n  axes:\n    - {field: seed, values: [0, 1]}\n"
    (tmp_path / "x.yaml").write_text(text)
    _, shown = command("plan", tmp_path / "x.yaml", "--store", tmp_path / "store")
    assert harmless(shown)


def test_components_and_cache(tmp_path: Path, command: Command) -> None:
    for arguments in ((ALL.replace("\0", ""),), ("loss", ALL.replace("\0", ""))):
        code, shown = command("components", *arguments)
        assert code == 2
        assert harmless(shown)
    store = tmp_path / "store"
    Store(store)
    folder = store / "artifacts" / ("a" * 64)
    folder.mkdir(parents=True)
    record = {"key": folder.name, "stage": ALL, "version": 1, "params": {}, "inputs": {}, "files": {}}
    (folder / "artifact.json").write_text(json.dumps(record))
    (store / "journals" / "x\n::error::y").mkdir(parents=True)
    (store / "journals" / "x\n::error::y" / "j.jsonl").write_text(f"{ALL}\n{{\n")
    for arguments in (
        ("ls",),
        ("ls", "--json"),
        ("verify",),
        ("gc", "--dry-run"),
        ("gc", "--keep", tmp_path / "no\n::error::"),
    ):
        code, shown = command("cache", *arguments, "--store", store)
        assert harmless(shown)


def test_leaks(tmp_path: Path, command: Command) -> None:
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": ALL}) + "\n")
    assert read_prompts(tmp_path / "p.jsonl")
    code, shown = command("leaks", tmp_path / "p.jsonl", "--against", f"mt_bench,{ALL}")
    assert code == 2
    assert harmless(shown)


def test_progress_and_warnings(capsys: pytest.CaptureFixture[str], command: Command) -> None:
    command("--version")
    logging.getLogger("library").warning("%s", ALL)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        sys.stderr.write(warnings.formatwarning(ALL, UserWarning, "x.py", 1))
    view = RunView(terminal(width=300))
    with view:
        logging.getLogger("harness.x").warning("the judge says %s", ALL)
        view.start(ALL, 3)
        view.advance(1)
    shown = capsys.readouterr()
    assert harmless(shown.out + shown.err)
    assert len([line for line in shown.out.split("\n") if "the judge says" in line]) == 1
