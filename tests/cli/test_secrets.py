"""Secrets: what a recipe, a server, a link or an error may try to get a planted variable or key out by. Every file that
is written, every line that is printed and every byte that is sent is searched."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.api import plan, run
from harness.cli.app import app
from harness.cli.endings import as_exit_code
from harness.errors import HarnessError
from tests.cli.strangers import (
    IN_FILE,
    PLANTED,
    READ_LATER,
    REFUSED,
    ROOT,
    SECRETS,
    Stranger,
    environment,
    harness,
    judge,
    leaks,
    linked,
    recipe,
    serving,
    strange_folder,
    write,
)
from tests.fake_server import completion


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    with serving() as one:
        yield one


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return strange_folder(tmp_path)


def echo() -> tuple[int, Any, dict[str, str]]:
    """A reply that repeats the caller's key wherever it can."""
    key = SECRETS["OPENAI_API_KEY"]
    names = {"model": f"m-{key}", "system_fingerprint": key, "id": key}
    return 200, completion(f"Bearer {key}. Rating: [[7]]", {key: -0.1, "7": -2.0}, **names), {"X-Key": key}


def failing() -> tuple[int, Any, dict[str, str]]:
    return 401, {"error": {"message": f"wrong key: {SECRETS['OPENAI_API_KEY']}", "code": SECRETS["OPENAI_API_KEY"]}}, {}


def redirecting() -> tuple[int, Any, dict[str, str]]:
    return 307, b"", {"Location": f"http://judge.example/v1/{SECRETS['OPENAI_API_KEY']}"}


# By name: what a judge on this machine replies, and the exit code.
SERVED: dict[str, tuple[Callable[[], tuple[int, Any, dict[str, str]]], int]] = {
    "a server that repeats the key": (echo, 0),
    "an error that repeats the key": (failing, 2),
    "a redirect to another host": (redirecting, 2),
}


@pytest.mark.parametrize("command", ["validate", "plan"])
@pytest.mark.parametrize("name", REFUSED)
def test_a_recipe_is_refused_at_once(
    name: str,
    command: str,
    folder: Path,
    stranger: Stranger,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    for variable, value in environment(folder, stranger).items():
        monkeypatch.setenv(variable, value)
    made, options = REFUSED[name](folder, stranger.url)
    write(folder, made)
    try:
        code = app([command, "x.yaml", *options], standalone_mode=False) or 0
    except BaseException as error:
        code = as_exit_code(error)
    printed = "".join(capfd.readouterr())
    assert (code == 2 and len(printed.splitlines()) == 1) or name in READ_LATER, printed
    assert stranger.received == []
    assert leaks(folder, stranger, printed) == []


@pytest.mark.parametrize("name", ["README.md", "ranked.jsonl", "heldout.jsonl"])
@pytest.mark.parametrize("target", ["../../secret.txt", "../x.jsonl", "artifact.json"])
def test_a_link_is_not_uploaded(
    name: str,
    target: str,
    folder: Path,
    stranger: Stranger,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for variable, value in environment(folder, stranger).items():
        monkeypatch.setenv(variable, value)
    data = folder / "ranked"
    data.mkdir()
    responses = [{"text": str(n), "source": "s", "score": -n, "rank": n, "finish_reason": "stop"} for n in (1, 2)]
    row = {"id": "1", "messages": [{"role": "user", "content": "Hi"}], "responses": responses, "provenance": {}}
    for other in ("README.md", "ranked.jsonl", "heldout.jsonl", "artifact.json"):
        (data / other).write_text(json.dumps(row) + "\n")
    linked(folder, "x.jsonl")
    linked(data, name, target)
    try:
        code = app(["export", str(data), "--push-to-hub", "me/mine", "--split", "all"], standalone_mode=False) or 0
    except BaseException as error:
        code = as_exit_code(error)
    printed = "".join(capfd.readouterr())
    assert code == 2
    assert "it is a link" in printed
    assert IN_FILE not in printed
    assert stranger.received == []


def test_from_python(folder: Path, stranger: Stranger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for variable, value in environment(folder, stranger).items():
        monkeypatch.setenv(variable, value)
    made = recipe(judge("http://judge.example/v1"))
    assert plan(made, allow_hosts="http://judge.example").stages
    assert plan(made, allow_hosts=["http://judge.example=OPENAI_API_KEY"]).stages
    for allowed in ((), ["judge.example"], ["http://judge.example=HF_TOKEN"]):
        with pytest.raises(HarnessError, match="OPENAI_API_KEY is not sent"):
            plan(made, allow_hosts=allowed)
        with pytest.raises(HarnessError, match="OPENAI_API_KEY is not sent"):
            run(made, allow_hosts=allowed, progress=False)
    assert stranger.received == []


@pytest.mark.slow  # a process each
@pytest.mark.parametrize(("answer", "ci"), [("y", ""), ("n", ""), ("", ""), ("y", "true")])
def test_a_terminal_is_asked(answer: str, ci: str, folder: Path, stranger: Stranger) -> None:
    write(folder, recipe(judge("http://judge.example/v1")))
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment(folder, stranger), "CI": ci}
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.cli", "run", "x.yaml"],
            cwd=folder, env=env, stdin=theirs, stderr=theirs, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        os.write(ours, f"{answer}\n".encode())
        process.wait(120)
        printed = os.read(ours, 100_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert process.returncode == 2  # the proxy knows no such host
    assert ("would send your key in OPENAI_API_KEY to http://judge.example." in printed) == (not ci)
    sent = any(SECRETS["OPENAI_API_KEY"] in request for request in stranger.received)
    assert sent == (answer == "y" and not ci)


@pytest.mark.slow  # a process each
@pytest.mark.parametrize("name", REFUSED)
def test_a_run_is_refused_at_once(name: str, folder: Path, stranger: Stranger) -> None:
    made, options = REFUSED[name](folder, stranger.url)
    write(folder, made)
    done = harness(folder, stranger, "run", "x.yaml", *options)
    assert done.returncode == 2
    assert stranger.received == []
    assert leaks(folder, stranger, done.stdout + done.stderr) == []


@pytest.mark.slow  # a run each
@pytest.mark.parametrize("name", SERVED)
def test_a_server(name: str, folder: Path, stranger: Stranger) -> None:
    stranger.reply, code = SERVED[name]
    write(folder, recipe(judge(stranger.url)))
    done = harness(folder, stranger, "run", "x.yaml")
    assert done.returncode == code, done.stderr
    assert stranger.received
    assert all("POST /v1/chat/completions" in request for request in stranger.received)  # past the proxy
    by_right = SECRETS["OPENAI_API_KEY"]
    # OpenAI's other variables go to this machine as they always did.
    found = leaks(folder, stranger, done.stdout + done.stderr, by_right)
    assert [leak for leak in found if "received" not in leak] == []
    assert {leak for leak in found if "received" in leak} <= {
        "org-planted-42 received",
        "planted-gateway-header received",
    }


@pytest.mark.slow  # a run each
def test_what_a_run_records_is_as_written(folder: Path, stranger: Stranger) -> None:
    (folder / SECRETS["PLACE"]).mkdir()
    (folder / "answers.jsonl").rename(folder / SECRETS["PLACE"] / "answers.jsonl")
    systems = [{"id": "a", "answers": {"mt_bench": "${PLACE}/answers.jsonl"}}]
    write(folder, recipe(judge("${JUDGE_URL}", api_key_env=None), systems=systems))
    address = {"JUDGE_URL": f"http://127.0.0.1:{stranger.port}/v1/planted-in-a-file-4711"}
    done = harness(folder, stranger, "run", "x.yaml", **address)
    assert done.returncode == 0, done.stderr
    shown = [leak for leak in leaks(folder, stranger, done.stdout + done.stderr) if "received" not in leak]
    assert [leak for leak in shown if not leak.endswith("study/planted-place/answers.jsonl")] == []
    board = (folder / "leaderboards" / "study" / "board.json").read_text()
    assert "${JUDGE_URL}" in board
    assert "${PLACE}/answers.jsonl" in board
    plan = harness(folder, stranger, "plan", "x.yaml", **address)
    assert plan.returncode == 0
    assert not any(text in plan.stdout + plan.stderr for text in PLANTED)


@pytest.mark.slow  # a process each
def test_an_allowed_host_gets_its_key_only(folder: Path, stranger: Stranger) -> None:
    write(folder, recipe(judge("http://judge.example/v1")))
    allowed = ("--allow-host", "http://judge.example=OPENAI_API_KEY")
    assert harness(folder, stranger, "validate", "x.yaml", *allowed).returncode == 0
    stranger.received.clear()
    harness(folder, stranger, "run", "x.yaml", *allowed)  # through the proxy, which knows no such host
    assert any(SECRETS["OPENAI_API_KEY"] in request for request in stranger.received)
    assert leaks(folder, stranger, "", SECRETS["OPENAI_API_KEY"]) == []
    calibration = folder / "judge.yaml"
    calibration.write_text(json.dumps(judge("http://judge.example/v1", api_key_env="HF_TOKEN")))
    done = harness(folder, stranger, "calibrate", "--judge", "judge.yaml", *allowed)
    assert done.returncode == 2
    assert "--allow-host http://judge.example=HF_TOKEN" in done.stderr


@pytest.mark.slow  # imports the package
def test_an_env_file_is_not_loaded(folder: Path, stranger: Stranger) -> None:
    """The package `alpaca_eval` loads one from above its own folder, or in a session from the working folder."""
    for place in (folder, folder.parent):
        (place / ".env").write_text("HTTPS_PROXY=http://127.0.0.1:9\nPLANTED_BY_ENV=1\nOPENAI_ORG_ID=x\n")
    code = (
        "import os, sys; sys.ps1 = '> '\n"
        "import pandas, sklearn\n"
        "from harness.benchmarks.alpaca_eval.package import alpaca_eval_contained\n"
        "before = dict(os.environ)\n"
        "with alpaca_eval_contained():\n"
        "    assert dict(os.environ) == before\n"
        "import dotenv, alpaca_eval\n"
        "assert dict(os.environ) == before\n"
        "assert dotenv.load_dotenv() and os.environ['PLANTED_BY_ENV'] == '1'  # that file would have been loaded\n"
    )
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
