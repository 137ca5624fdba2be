"""What the package needs of others: a light installation and extras, ranges with room for vLLM, and constraints that
the README installs."""

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

from harness.errors import EXTRAS, installation
from tests.docs.pages import blocks

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = ".ci/constraints.txt"
FREE = {"pip"}  # it installs everything else, and a newer one does that as well
CALLED = {"sklearn": "scikit-learn", "yaml": "pyyaml", "fastchat": "fschat", "pkg_resources": "setuptools"}
BROUGHT = {  # imported and not declared: a dependency brings it, in the version that it needs
    "dotenv": "alpaca-eval",
    "markupsafe": "jinja2",
    "pydantic_core": "pydantic",
}
OWN = "preference-harness"
HEAVY = {"torch", "transformers", "trl", "datasets", "scikit-learn", "alpaca-eval", "fschat", "pandas", "scipy"}
"""What an installation for continuous integration has no use for."""
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


def of_extra(name: str) -> dict[str, Requirement]:
    """What an extra brings, with the extras that it names of this package."""
    own = read(PROJECT["optional-dependencies"][name])
    named = own.pop(OWN).extras if OWN in own else ()
    return {key: wanted for other in named for key, wanted in of_extra(other).items()} | own


LIGHT = read(PROJECT["dependencies"])
OPTIONAL = {key: wanted for name in PROJECT["optional-dependencies"] for key, wanted in of_extra(name).items()}
WHOLE = LIGHT | of_extra("all")
"""What a whole recipe needs, such as the quickstart."""
INSTALLED = LIGHT | of_extra("dev")
"""What the README's two commands install."""
LOCKED = read(lines_of(LOCK))
VLLM = read(lines_of("tests/front_door/vllm-0.33.0.txt"))


def test_there_is_room_for_vllm() -> None:
    shared = WHOLE.keys() & VLLM.keys()
    assert {"torch", "transformers", "huggingface-hub"} <= shared
    for name in shared:
        assert WHOLE[name].specifier.contains(BESIDE[name]), name
        assert VLLM[name].specifier.contains(BESIDE[name]), name


@pytest.mark.soak  # a minute or more, and reads hundreds of packages' metadata from PyPI
def test_pip_installs_vllm_beside_the_package() -> None:
    """`--dry-run`: nothing is installed. `--ignore-installed`: as in a new environment."""
    options = ["--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    command = [sys.executable, "-m", "pip", "install", *options, f"{ROOT}[all]", "vllm==0.33.0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
    assert done.returncode == 0, done.stderr[-2000:]
    metadata = [one["metadata"] for one in json.loads(done.stdout)["install"]]
    chosen = {canonicalize_name(one["name"]): one["version"] for one in metadata}
    for name in WHOLE.keys() & VLLM.keys():
        assert WHOLE[name].specifier.contains(chosen[name]), name
        assert VLLM[name].specifier.contains(chosen[name]), name


def test_every_dependency_has_a_lowest_version() -> None:
    """Which a test with the lowest of all can install."""
    for name, wanted in (LIGHT | OPTIONAL).items():
        assert {one.operator for one in wanted.specifier} & {">=", "=="}, name


def test_torch_has_no_highest_version() -> None:
    assert {one.operator for one in WHOLE["torch"].specifier} == {">="}


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
    assert {canonicalize_name(CALLED.get(name, name)) for name in others} <= (LIGHT | OPTIONAL).keys()


def test_the_package_itself_is_light() -> None:
    assert not LIGHT.keys() & HEAVY
    assert WHOLE.keys() >= HEAVY
    assert WHOLE.keys() <= INSTALLED.keys()
    assert OWN not in WHOLE.keys() | INSTALLED.keys()


def test_a_package_has_one_range_wherever_it_is_named() -> None:
    named = [read(lines) for lines in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())]
    for name in {name for lines in named for name in lines} - {OWN}:
        assert len({str(lines[name]) for lines in named if name in lines}) == 1, name


def test_messages_name_the_extra_that_brings_a_package() -> None:
    """And the smallest, of those that do. Trackers are installed one by one."""
    for extra, names in EXTRAS.items():
        brought = of_extra(extra)
        for name in names:
            distribution = canonicalize_name(CALLED.get(name, BROUGHT.get(name, name)))
            assert distribution in brought, name
            assert distribution not in LIGHT, name
            assert installation(name) == f"pip install 'preference-harness[{extra}]'"
    assert installation("wandb") == "pip install wandb"
    covered = {canonicalize_name(CALLED.get(name, name)) for names in EXTRAS.values() for name in names}
    assert of_extra("all").keys() - covered == FREE, "a package that no message knows the extra of"


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
