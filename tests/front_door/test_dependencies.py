"""What the package admits of others' versions: ranges with room for vLLM, and constraints that the README installs."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.docs.pages import blocks

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = ".ci/constraints.txt"
FREE = {"pip"}  # it installs everything else, and a newer one does that as well
CALLED = {"sklearn": "scikit-learn", "yaml": "pyyaml"}
BROUGHT = {  # imported and not declared: a dependency brings it, in the version that it needs
    "dotenv": "alpaca-eval",
    "markupsafe": "jinja2",
    "pydantic_core": "pydantic",
}
ASKED_FOR = {"vllm", "deepspeed", "lm_eval", "mlflow", "trackio", "wandb"}
"""What a recipe may name and an error then says how to install."""
BESIDE = {
    "anthropic": "2.14.0",
    "certifi": "2026.10.19",
    "filelock": "4.3.1",
    "huggingface-hub": "2.4.0",
    "numpy": "2.3.5",
    "openai": "3.57.0",
    "pydantic": "2.14.4",
    "pyyaml": "6.0.4",
    "regex": "2026.11.19",
    "setuptools": "80.10.2",
    "torch": "2.14.0",
    "transformers": "5.20.2",
}
"""What pip chose for both on 2026-11-30: `pip install --dry-run . vllm==0.33.0`."""


def read(lines: Iterable[str]) -> dict[str, Requirement]:
    wanted = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return {canonicalize_name(one.name): one for one in wanted if one.marker is None or one.marker.evaluate()}


def lines_of(path: str) -> list[str]:
    return (ROOT / path).read_text(encoding="utf-8").splitlines()


DIRECT = read(PROJECT["dependencies"])
OPTIONAL = read(line for lines in PROJECT["optional-dependencies"].values() for line in lines)
INSTALLED = DIRECT | read(PROJECT["optional-dependencies"]["dev"])
"""What the README's two commands install."""
LOCKED = read(lines_of(LOCK))
VLLM = read(lines_of("tests/front_door/vllm-0.33.0.txt"))


def test_there_is_room_for_vllm() -> None:
    shared = DIRECT.keys() & VLLM.keys()
    assert {"torch", "transformers", "huggingface-hub"} <= shared
    for name in shared:
        assert DIRECT[name].specifier.contains(BESIDE[name]), name
        assert VLLM[name].specifier.contains(BESIDE[name]), name


@pytest.mark.soak  # a minute or more, and reads hundreds of packages' metadata from PyPI
def test_pip_installs_vllm_beside_the_package() -> None:
    """`--dry-run`: nothing is installed. `--ignore-installed`: as in a new environment."""
    options = ["--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    command = [sys.executable, "-m", "pip", "install", *options, str(ROOT), "vllm==0.33.0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
    assert done.returncode == 0, done.stderr[-2000:]
    metadata = [one["metadata"] for one in json.loads(done.stdout)["install"]]
    chosen = {canonicalize_name(one["name"]): one["version"] for one in metadata}
    for name in DIRECT.keys() & VLLM.keys():
        assert DIRECT[name].specifier.contains(chosen[name]), name
        assert VLLM[name].specifier.contains(chosen[name]), name


def test_every_dependency_has_a_lowest_version() -> None:
    """Which a test with the lowest of all can install."""
    for name, wanted in (DIRECT | OPTIONAL).items():
        assert {one.operator for one in wanted.specifier} & {">=", "=="}, name


def test_torch_has_no_highest_version() -> None:
    assert {one.operator for one in DIRECT["torch"].specifier} == {">="}


def test_every_import_is_declared() -> None:
    names = set[str]()
    for path in (ROOT / "harness").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
            elif isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
    others = names - sys.stdlib_module_names - BROUGHT.keys() - ASKED_FOR - {"harness"}
    assert len(others) > 20
    assert {canonicalize_name(CALLED.get(name, name)) for name in others} <= (DIRECT | OPTIONAL).keys()


# The constraints.


@pytest.mark.parametrize("command", [block.text for block in blocks("README.md", "sh")[:2]])
def test_the_readme_installs_what_was_tested(command: str) -> None:
    assert f"pip install -c {LOCK} " in command


def test_constraints_are_plain_versions_in_order() -> None:
    """No paths, no addresses, no builds of one machine such as 2.13.0+cpu."""
    lines = [line for line in lines_of(LOCK) if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line) for line in lines)
    assert list(LOCKED) == sorted(LOCKED)
    assert len(LOCKED) == len(lines)


def test_constraints_are_within_the_ranges() -> None:
    for name, wanted in INSTALLED.items():
        if name not in FREE:
            (locked,) = LOCKED[name].specifier
            assert wanted.specifier.contains(locked.version), name


def test_constraints_hold_all_that_is_installed() -> None:
    """In the environment that the README's command makes; others are free."""
    for name, wanted in INSTALLED.items():
        if name not in FREE and not LOCKED[name].specifier.contains(Version(version(name)).public):
            pytest.skip(f"{name} {version(name)} is not the constraints': {wanted}")
    missing, waiting, seen = set(), list(INSTALLED.values()), set[tuple[str, str]]()
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        missing |= set() if name in LOCKED or name in FREE else {name}
        for extra in ("", *wanted.extras):
            if name == "torch" or (name, extra) in seen:  # torch names its CUDA packages by their exact versions
                continue
            seen.add((name, extra))
            needed = [Requirement(line) for line in _required(name)]
            waiting += [one for one in needed if one.marker is None or one.marker.evaluate({"extra": extra})]
    assert missing == set()


def _required(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:
        return []
