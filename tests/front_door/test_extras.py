"""A package that an extra brings and that is not installed: one line says how to install it, wherever it is missed."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from harness import components, errors
from harness.components import component_class
from harness.errors import ComponentError, MissingPackage, missing_package, need

HIDING = """\
import importlib.machinery, sys
class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {hidden!r} else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Finder
"""
COMMANDS = """\
from harness.cli.app import app
from harness.cli.endings import as_exit_code
for line in {lines!r}:
    sys.argv = ["harness", *line.split()]
    print("$", line, file=sys.stderr)
    try:
        app(standalone_mode=False)
    except BaseException as error:
        print(as_exit_code(error), file=sys.stderr)
"""
CALLS = """\
import harness
for call in (lambda: harness.run("r.yaml"), lambda: harness.plan("r.yaml", offline=True)):
    try:
        call()
    except harness.HarnessError as error:
        print(error)
"""
SERVED = """\
name: served
systems: [{id: a, answers: {mt_bench: a.jsonl}}]
evaluation:
  judge: {name: openai, model: m, base_url: "http://127.0.0.1:9/v1", api_key_env: null}
  benchmarks: [{name: mt_bench, questions: builtin}]
"""
TRAINED = """\
name: trained
policy: {model: smollm2-135m-instruct}
data: {seeds: [{name: jsonl, path: a.jsonl}]}
methods: [{id: dpo, loss: {name: dpo_best_worst}}]
"""


def needs(package: str, extra: str) -> str:
    return f"needs the package {package}, which is not installed: pip install 'preference-harness[{extra}]'"


def without(folder: Path, hidden: set[str], code: str) -> tuple[str, list[str]]:
    """(output, lines of stderr) of Python code where packages are hidden."""
    command = [sys.executable, "-c", HIDING.format(hidden=hidden) + code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout, done.stderr.splitlines()


def test_commands_end_with_the_line(tmp_path: Path) -> None:
    """`validate` says it before anything runs, with the field, and once for all that one command installs."""
    (tmp_path / "served.yaml").write_text(SERVED)
    (tmp_path / "trained.yaml").write_text(TRAINED)
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    lines = ["validate served.yaml", "validate trained.yaml", "run trained.yaml", "import a.jsonl -o a.parquet"]
    hidden = {"torch", "transformers", "datasets", "trl", "pyarrow", "openai", "fastchat"}
    said = "\n".join(without(tmp_path, hidden, COMMANDS.format(lines=lines))[1])
    judge = f"harness: served.yaml:4: evaluation.judge: judge 'openai' {needs('openai', 'judge')}"
    policy = f"harness: trained.yaml:2: policy: a policy {needs('torch', 'train')}"
    expected = [judge, policy, policy, f"harness: import {needs('pyarrow', 'parquet')}"]
    assert said == "\n".join(f"$ {line}\n{text}\n2" for line, text in zip(lines, expected, strict=True))


def test_calls_raise_the_line(tmp_path: Path) -> None:
    """Where a recipe is checked, and where an import fails."""
    (tmp_path / "r.yaml").write_text(TRAINED.replace("name: jsonl, path: a.jsonl", "name: parquet, path: a.parquet"))
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and so on PAR1")
    out, _ = without(tmp_path, {"torch", "pyarrow"}, CALLS)
    checked = f"r.yaml:2: policy: a policy {needs('torch', 'train')} (and 1 more)"
    assert out == f"{checked}\nthis call {needs('pyarrow', 'parquet')}\n"


def test_a_components_file_that_imports_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not at fault, and other components are listed all the same."""
    (tmp_path / "somebodys_loss.py").write_text("import absent_package\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(components, "modules", lambda kind: {"theirs": "somebodys_loss"})
    with pytest.raises(ComponentError, match="mend that file"):
        component_class.__wrapped__("loss", "theirs")
    monkeypatch.setattr(errors, "EXTRAS", {**errors.EXTRAS, "ray": ("ray", "absent_package")})
    with pytest.raises(ComponentError) as raised:
        component_class.__wrapped__("loss", "theirs")
    assert str(raised.value) == f"loss 'theirs' {needs('absent_package', 'ray')}"


def test_only_what_is_missing_as_a_whole() -> None:
    """To install a package again would not mend one that lacks a part, nor an import of a name that it doesn't have."""
    assert missing_package(ModuleNotFoundError(name="bitsandbytes.absent"), "this") is None
    assert missing_package(ModuleNotFoundError(name="torch"), "this") is None, "it is installed"
    assert missing_package(ModuleNotFoundError(name="brought_by_nobody"), "this") is None
    assert missing_package(ImportError(name="ray"), "this") is None
    assert missing_package(ValueError(), "this") is None
    absent = missing_package(PackageNotFoundError("fschat"), "this")
    assert isinstance(absent, MissingPackage)


def test_nothing_is_missing() -> None:
    need("this", ("numpy", "torch", "json"))
