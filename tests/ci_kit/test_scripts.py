"""The action's scripts: which commits they compare, what they say where they end early; and the YAML around them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.ci_kit.repository import Origin, answers, checkout, git, recipe, write_event
from tests.ci_kit.runner import ACTION, DOCUMENT, ROOT, environment

BASE, HEAD = "a" * 40, "b" * 40


# Which commits.


def commits(tmp_path: Path, kind: str, event: Path, workspace: Path, **more: str) -> dict[str, str]:
    """What github.sh hands to gate.sh."""
    shutil.copy(ACTION / "github.sh", tmp_path)
    (tmp_path / "gate.sh").write_text('printf "%s\\n" "$GATE_BASE" "$GATE_HEAD"\n')
    number = json.loads(event.read_text()).get("pull_request", {}).get("number")
    lines = "" if number is None else f"{number}\\n{BASE}\\n{HEAD}\\n"  # as `pull_request event` says
    (tmp_path / "python").write_text(f"#!/bin/sh\nprintf '{lines}'\n")
    (tmp_path / "python").chmod(0o755)
    given = {
        "GATE_BIN": str(tmp_path),
        "GITHUB_EVENT_NAME": kind,
        "GITHUB_EVENT_PATH": str(event),
        "GITHUB_SHA": "c" * 40,
        "GITHUB_WORKSPACE": str(workspace),
        "RUNNER_TEMP": str(tmp_path),
    }
    done = subprocess.run(
        ["bash", tmp_path / "github.sh"], env=environment(tmp_path, **given, **more), capture_output=True, text=True
    )
    if done.returncode:
        return {"error": done.stderr}
    base, head = done.stdout.splitlines()
    return {"base": base, "head": head}


def test_the_events_name_the_commits(tmp_path: Path) -> None:
    event, merged = write_event(tmp_path / "event", 7, BASE, HEAD), "c" * 40
    assert commits(tmp_path, "pull_request", event, tmp_path) == {"base": BASE, "head": merged}
    # Here the workspace is the base branch's: what is judged is named by the event.
    assert commits(tmp_path, "pull_request_target", event, tmp_path) == {"base": BASE, "head": HEAD}
    assert (
        "give head another folder" in commits(tmp_path, "pull_request_target", event, tmp_path, GATE_HEAD=".")["error"]
    )
    push = write_event(tmp_path / "event")
    assert commits(tmp_path, "push", push, tmp_path) == {"base": merged, "head": merged}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"GATE_RECIPE": "other.yaml"}, "other.yaml is not in the base branch"),
        ({"GATE_MAX_COST": "much"}, "max-cost: expected dollars"),
        ({"GATE_JUDGE_KEY_VARIABLE": "x; rm"}, "judge-key-variable: expected a name"),
        ({"GATE_WITHOUT_BASELINE": "maybe"}, "without-baseline: expected pass or fail"),
        ({"GATE_BASE": "d" * 40}, "can't be fetched"),
    ],
)
def test_what_ends_early_is_said_in_the_comment(tmp_path: Path, changed: dict[str, str], said: str) -> None:
    origin = Origin(tmp_path / "origin")
    commit = origin.commit({"gate.yaml": recipe("http://127.0.0.1:9"), "answers/model.json": answers("old")})
    place = checkout(origin, tmp_path / "workspace", commit)
    given = {"GATE_BASE": commit, "GATE_HEAD": commit, "GATE_RECIPE": "gate.yaml", "GATE_MAX_COST": "1"}
    given |= {"GATE_BIN": "/nowhere", "GATE_REPOSITORY": str(place), "GATE_WORK": str(tmp_path / "work")}
    summary = tmp_path / "summary.md"
    env = environment(tmp_path, GITHUB_STEP_SUMMARY=str(summary), **given | changed)
    done = subprocess.run(["bash", ACTION / "gate.sh"], env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert said in done.stderr
    assert summary.read_text().startswith("## Gate: not judged\n")
    assert f"    harness gate: {said}" in summary.read_text() or said in summary.read_text()


def test_a_fork_s_commit_is_fetched_by_its_name_and_lies_beside_the_base_s(tmp_path: Path) -> None:
    origin = Origin(tmp_path / "origin")
    origin.commit({"gate.yaml": "x", "answers/model.json": "old"})
    base, head, _ = origin.pull(7, {"answers/model.json": "new"})
    place = checkout(origin, tmp_path / "workspace", base)
    (tmp_path / "python").write_text('#!/bin/sh\necho "harness: stopped at $*" >&2\nexit 2\n')
    (tmp_path / "python").chmod(0o755)
    given = {"GATE_BASE": base, "GATE_HEAD": head, "GATE_RECIPE": "gate.yaml", "GATE_MAX_COST": "1"}
    given |= {"GATE_BIN": str(tmp_path), "GATE_REPOSITORY": str(place), "GATE_WORK": str(tmp_path / "work")}
    done = subprocess.run(
        ["bash", ACTION / "gate.sh"], env=environment(tmp_path, **given), capture_output=True, text=True
    )
    sides = [tmp_path / "work" / side for side in ("base", "head")]
    assert [(side / "answers" / "model.json").read_text() for side in sides] == ["old", "new"]
    said = f"harness: stopped at -m harness.cli.ci.pull_request pair {sides[0]} {sides[1]} gate.yaml"
    assert (done.returncode, said in done.stderr) == (2, True)
    assert f"    {said}" in (tmp_path / "work" / "comment.md").read_text()
    assert git(place, "status", "--porcelain") == ""  # the workspace stays as it was


@pytest.mark.parametrize("wanted", ["", "preference-harness[judge]==0.2\n--pre"])
def test_it_is_installed_from_outside_of_the_checkout(tmp_path: Path, wanted: str) -> None:
    """From within it, `python -m venv` would import a stranger's venv.py."""
    lines = ('echo "$PWD $PYTHONSAFEPATH $*" >>"$LOG"', "mkdir -p venv/bin", 'cp "$0" venv/bin/python 2>&-', "exit 0")
    script = "\n".join(["#!/bin/sh", *lines, ""])
    (tmp_path / "python").write_text(script)
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "checkout").mkdir()
    given = {"GATE_PYTHON": str(tmp_path / "python"), "GATE_INSTALL": wanted, "RUNNER_TEMP": str(tmp_path)}
    given |= {"LOG": str(tmp_path / "log"), "GITHUB_OUTPUT": str(tmp_path / "output")}
    env = environment(tmp_path, **given)
    subprocess.run(["bash", ACTION / "install.sh"], env=env, cwd=tmp_path / "checkout", check=True)
    work = tmp_path / "harness-gate"
    what = "preference-harness[judge]==0.2 --pre" if wanted else f"-c {ROOT}/.ci/constraints.txt {ROOT}[judge]"
    made, installed = (tmp_path / "log").read_text().splitlines()
    assert made == f"{work} 1 -m venv {work}/venv"
    assert installed == f"{work} 1 -m pip install --quiet --disable-pip-version-check {what}"
    assert (tmp_path / "output").read_text() == f"bin={work}/venv/bin\n"


def test_a_folder_of_verdicts_that_the_checkout_brings_is_not_taken(tmp_path: Path) -> None:
    origin = Origin(tmp_path / "origin")
    commit = origin.commit({".harness-gate/verdicts.tar.gz": "forged"})
    place = checkout(origin, tmp_path / "workspace", commit)
    given = {"GATE_BIN": "/nowhere", "GATE_REPOSITORY": str(place), "GATE_WORK": str(place / ".harness-gate")}
    done = subprocess.run(
        ["bash", ACTION / "gate.sh"], env=environment(tmp_path, **given), capture_output=True, text=True
    )
    assert (done.returncode, "has files of its own in GATE_WORK" in done.stderr) == (2, True)


# The YAML.

EXAMPLES = ACTION / "examples"


def test_no_script_interpolates_an_expression() -> None:
    """What a stranger names a branch would otherwise be a part of the script."""
    for step in DOCUMENT["runs"]["steps"]:
        assert "${{" not in step.get("run", "")
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step.get("uses", f"x@{'0' * 40}"))
    assert not any("${{" in path.read_text() for path in ACTION.glob("*.sh"))


def test_every_input_is_used_and_every_variable_is_read() -> None:
    text = (ACTION / "action.yml").read_text()
    for name, about in DOCUMENT["inputs"].items():
        assert f"inputs.{name} " in text, name
        assert about["description"]
    scripts = "".join(path.read_text() for path in (*ACTION.glob("*.sh"), ACTION / "comment.py"))
    for variable in re.findall(r"^ +(GATE_\w+):", text, flags=re.MULTILINE):
        assert re.search(rf"\b{variable}\b", scripts.replace("$GATE_PYTHON", "GATE_PYTHON")), variable


@pytest.mark.parametrize("path", [*EXAMPLES.glob("github*.yml"), ACTION / "README.md"], ids=lambda path: path.name)
def test_the_workflows_give_what_the_action_takes(path: Path) -> None:
    text = path.read_text()
    text = text if path.suffix == ".yml" else text.partition("```yaml\n")[2].partition("```")[0]
    workflow = yaml.safe_load(text)
    (use,) = [step for step in workflow["jobs"]["gate"]["steps"] if "/actions/gate@" in step["uses"]]
    required = {name for name, about in DOCUMENT["inputs"].items() if about.get("required")}
    assert required <= use["with"].keys() <= DOCUMENT["inputs"].keys()


def test_the_job_for_forks_checks_out_nothing_of_them() -> None:
    workflow = yaml.safe_load((EXAMPLES / "github-forks.yml").read_text())
    steps = workflow["jobs"]["gate"]["steps"]
    assert [step["uses"].partition("@")[0].rpartition("/")[2] for step in steps] == ["checkout", "gate"]
    assert "with" not in steps[0]


@pytest.mark.parametrize(
    ("schema", "paths"),
    [
        ("github-actions", [ACTION / "action.yml"]),
        ("github-workflows", sorted(EXAMPLES.glob("github*.yml"))),
        ("gitlab-ci", [EXAMPLES / "gitlab.yml"]),
    ],
)
def test_the_yaml_fits_its_schema(schema: str, paths: list[Path]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    package = pytest.importorskip("check_jsonschema")
    folder = Path(package.__file__).parent / "builtin_schemas" / "vendor"
    validator = jsonschema.Draft7Validator(json.loads((folder / f"{schema}.json").read_text()))
    for path in paths:
        document = {str(k) if k is not True else "on": v for k, v in yaml.safe_load(path.read_text()).items()}
        assert [error.message for error in validator.iter_errors(document)] == []


def test_the_scripts_are_clean() -> None:
    found = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        pytest.skip("no shellcheck: it comes with the dev extra")
    done = subprocess.run([found, *sorted(ACTION.glob("*.sh"))], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout
