"""A runner of composite actions, as far as the gate's needs one: its steps in order, their environment and outputs, and
stand-ins for the actions that it uses (the cache, the artifact)."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parents[2]
ACTION = ROOT / ".github" / "actions" / "gate"
DOCUMENT: dict[str, Any] = yaml.safe_load((ACTION / "action.yml").read_text())
_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


class Job(NamedTuple):
    """What a run has left: its exit code, the outputs of its steps, all that it printed, its summary and artifacts."""

    code: int
    outputs: dict[str, str]
    log: str
    summary: str
    artifacts: dict[str, Path]
    environments: dict[str, dict[str, str]]


class Runner:
    """Runs the action in a workspace. `cache`: the folder in which caches stay between jobs, newest last."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment
        self.caches: list[tuple[str, Path]] = []
        self.jobs = 0

    def run(self, workspace: Path, inputs: dict[str, str], event: Path, kind: str, commit: str) -> Job:
        """One job; each has a temporary folder of its own, as on a fresh machine."""
        self.jobs += 1
        temporary = self.folder / f"job-{self.jobs}"
        temporary.mkdir()
        contexts = {f"inputs.{name}": str(about.get("default", "")) for name, about in DOCUMENT["inputs"].items()}
        assert inputs.keys() <= DOCUMENT["inputs"].keys()
        contexts |= {f"inputs.{name}": value for name, value in inputs.items()}
        contexts |= {"github.token": "the-token", "github.run_id": str(self.jobs), "github.run_attempt": "1"}
        contexts |= {"runner.temp": str(temporary), "inputs.token": "the-token"}
        github = {
            "GITHUB_ACTION_PATH": str(ACTION),
            "GITHUB_EVENT_NAME": kind,
            "GITHUB_EVENT_PATH": str(event),
            "GITHUB_OUTPUT": str(temporary / "output"),
            "GITHUB_REPOSITORY": "us/model",
            "GITHUB_RUN_ID": str(self.jobs),
            "GITHUB_SHA": commit,
            "GITHUB_STEP_SUMMARY": str(temporary / "summary.md"),
            "GITHUB_WORKSPACE": str(workspace),
            "RUNNER_TEMP": str(temporary),
            "CI": "true",
        }
        code, log = 0, ""
        artifacts: dict[str, Path] = {}
        environments: dict[str, dict[str, str]] = {}
        for step in DOCUMENT["runs"]["steps"]:
            if not (_holds(step["if"], contexts) if "if" in step else code == 0):
                continue
            if "uses" in step:
                self._use(step["uses"].partition("@")[0], _filled(step["with"], contexts), artifacts)
                continue
            (temporary / "output").write_text("")
            own = _filled(step.get("env", {}), contexts)
            environments[step["name"]] = own
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]],
                cwd=workspace,
                env=self.environment | github | own,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=120,
            )
            code, log = code or done.returncode, log + done.stdout
            for line in (temporary / "output").read_text().splitlines():
                name, _, value = line.partition("=")
                contexts[f"steps.{step.get('id')}.outputs.{name}"] = value
        outputs = {name: _fill(about["value"], contexts) for name, about in DOCUMENT["outputs"].items()}
        summary = temporary / "summary.md"
        text = summary.read_text() if summary.exists() else ""
        return Job(code, outputs, log, text, artifacts, environments)

    def _use(self, action: str, given: dict[str, str], artifacts: dict[str, Path]) -> None:
        path = Path(given["path"])
        if action == "actions/cache/restore":
            prefix = given["restore-keys"].strip()
            found = [cache for key, cache in self.caches if key.startswith(prefix)]
            if found:
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(found[-1], path)
        elif action == "actions/cache/save":
            kept = self.folder / f"cache-{len(self.caches)}"
            shutil.copy(path, kept)
            self.caches.append((given["key"], kept))
        else:
            assert action == "actions/upload-artifact"
            artifacts[given["name"]] = path


def _filled(values: dict[str, Any], contexts: dict[str, str]) -> dict[str, str]:
    return {name: _fill(str(value), contexts) for name, value in values.items()}


def _fill(text: str, contexts: dict[str, str]) -> str:
    return _EXPRESSION.sub(lambda match: contexts.get(match[1], ""), text)


def _holds(condition: str, contexts: dict[str, str]) -> bool:
    text = re.sub(r"\b(?:steps|inputs|github)\.[\w.-]+", lambda match: repr(contexts.get(match[0], "")), condition)
    text = text.replace("always()", "True").replace("&&", " and ").replace("||", " or ")
    return bool(eval(text, {"__builtins__": {}}))


def environment(home: Path, **more: str) -> dict[str, str]:
    """A machine's, with the harness of these tests on its PATH and nothing of ours."""
    names = ("LANG", "TMPDIR", "HF_HUB_OFFLINE", "OMP_NUM_THREADS")
    own = {"HOME": str(home), "HARNESS_HOME": str(home / "harness"), "GIT_CONFIG_NOSYSTEM": "1"}
    own["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {name: os.environ[name] for name in names if name in os.environ} | own | more
