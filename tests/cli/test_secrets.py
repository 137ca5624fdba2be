"""Secrets: what a recipe, a server, a link or an error may try to get a planted variable or key out by. Every file that
is written, every line that is printed and every byte that is sent is searched."""

import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness.api import plan, run
from harness.cli.app import app
from harness.cli.endings import as_exit_code
from harness.errors import HarnessError
from tests.fake_server import completion

ROOT = Path(__file__).parents[2]
SECRETS = {
    "OPENAI_API_KEY": "sk-planted-0123456789abcdef",
    "HF_TOKEN": "hf_plantedZYXWVUT98765",
    "AWS_SECRET_ACCESS_KEY": "Planted/aws+secret/0123456789==",
    "MY_LOGIN": "me:hf_plantedZYXWVUT98765",
    "PLACE": "planted-place",
    "OPENAI_ORG_ID": "org-planted-42",
    "OPENAI_CUSTOM_HEADERS": "X-Gateway: planted-gateway-header",
}
IN_FILE = "planted-in-a-file-4711"
PLANTED = sorted({*SECRETS.values(), "hf_plantedZYXWVUT98765", "planted-gateway-header", IN_FILE})


@dataclass
class Stranger:
    """A server on 127.0.0.1, and the proxy of all other hosts. `received`: every request whole, but for the key that
    it may see: the one that a recipe names for a judge on this machine. `reply`: to a request for a completion."""

    received: list[str] = field(default_factory=list)
    reply: Callable[[], tuple[int, Any, dict[str, str]]] = lambda: (200, completion("Fine. Rating: [[7]]"), {})
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    one = Stranger()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_request(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode("utf-8", "replace")
            one.received.append(f"{self.requestline}\n{self.headers}\n{body}")
            status, content, headers = one.reply() if self.path.startswith("/v1") else (502, {"error": "no"}, {})
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_HEAD = do_CONNECT = handle_request

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    one.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield one
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A stranger's folder, beside the user's secret file and home."""
    (tmp_path / "home").mkdir()
    (tmp_path / "secret.txt").write_text(f"{IN_FILE}\n")
    (tmp_path / "secret.json").write_text(json.dumps([{"instruction": IN_FILE, "output": IN_FILE}]))
    place = tmp_path / "study"
    place.mkdir()
    answers = [{"question_id": i, "model_id": "a", "choices": [{"turns": ["one", "two"]}]} for i in range(1001, 1017)]
    (place / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    return place


def recipe(judge: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A recipe that judges a file's answers, without a model."""
    evaluation = {"judge": judge, "benchmarks": [{"name": "mt_bench", "questions": "builtin", "limit": 2}]}
    systems = [{"id": "a", "answers": {"mt_bench": "answers.jsonl"}}]
    return {"name": "study", "evaluation": evaluation, "systems": systems} | more


def judge(address: str, **fields: Any) -> dict[str, Any]:
    return {"name": "openai", "model": "m", "base_url": address, "max_retries": 0} | fields


def with_evaluation(given: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return given | {"evaluation": given["evaluation"] | fields}


def augmented(url: str, **prompts: Any) -> dict[str, Any]:
    """A recipe with prompts of a served generator."""
    generator = {"name": "openai", "model": "m", "base_url": url}
    data = {
        "seeds": [{"name": "builtin", "limit": 8}],
        "prompts": {"generator": generator, "count": 4} | prompts,
        "responses": {"generator": generator, "n": 2},
        "reward": {"name": "length"},
    }
    return {"name": "study", "policy": {"model": "smollm2-135m-instruct"}, "data": data, "methods": []}


Made = tuple[dict[str, Any], tuple[str, ...]]


def linked(folder: Path, name: str, target: str = "../secret.txt") -> str:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target)
    return name


# By name: a recipe, and options for the command. All of them are refused before anything is sent.
REFUSED: dict[str, Callable[[Path, str], Made]] = {
    "another key to a stranger": lambda f, u: (recipe(judge("https://judge.example/v1", api_key_env="HF_TOKEN")), ()),
    "the default key over http": lambda f, u: (recipe(judge("http://judge.example/v1")), ()),
    "the default key to another host": lambda f, u: (recipe(judge("https://judge.example/v1")), ()),
    "a host that looks like this machine": lambda f, u: (
        recipe(judge("http://127.0.0.1.judge.example/v1", api_key_env="AWS_SECRET_ACCESS_KEY")),
        (),
    ),
    "a user that looks like this machine": lambda f, u: (recipe(judge("http://localhost@judge.example/v1")), ()),
    "a vendor's host over http": lambda f, u: (recipe(judge("http://api.openai.com/v1")), ()),
    "another key to a vendor": lambda f, u: (recipe(judge("https://api.openai.com/v1", api_key_env="HF_TOKEN")), ()),
    "a variable in the name": lambda f, u: (recipe(judge(u), name="${PLACE}"), ()),
    "a token in the model's name": lambda f, u: (recipe(judge(u, model="${HF_TOKEN}")), ()),
    "a token in the address": lambda f, u: (recipe(judge(u + "/${HF_TOKEN}")), ()),
    "a variable in a stranger's address": lambda f, u: (recipe(judge("http://judge.example/${PLACE}")), ()),
    "a variable in a stranger's name": lambda f, u: (recipe(judge("http://${PLACE}.judge.example/v1")), ()),
    "a token by another name": lambda f, u: (recipe(judge(u + "/${MY_LOGIN}")), ()),
    "a variable in a request's fields": lambda f, u: (recipe(judge(u, extra_body={"user": "${PLACE}"})), ()),
    "a variable in an edit": lambda f, u: (recipe(judge(u)), ("--set", "evaluation.judge.model=${PLACE}")),
    "an edit of the address": lambda f, u: (
        recipe(judge(u)),
        ("--set", "evaluation.judge.base_url=https://judge.example", "--set", "evaluation.judge.api_key_env=HF_TOKEN"),
    ),
    "a variable in a sweep": lambda f, u: (
        recipe(judge(u), sweep={"evaluation.judge.model": ["${HF_TOKEN}", "${PLACE}"]}),
        (),
    ),
    "a host in a sweep": lambda f, u: (
        recipe(judge(u), sweep={"evaluation.judge.base_url": [u, "https://judge.example/v1"]}),
        (),
    ),
    "a variable as a hub id": lambda f, u: (recipe({"name": "local", "model": "${PLACE}"}), ()),
    "a missing file named by a variable": lambda f, u: (
        recipe(judge(u), systems=[{"id": "a", "answers": {"mt_bench": "${PLACE}/x.jsonl"}}]),
        (),
    ),
    "a link for answers": lambda f, u: (
        recipe(judge(u), systems=[{"id": "a", "answers": {"mt_bench": linked(f, "x.jsonl")}}]),
        (),
    ),
    "a secret file for answers": lambda f, u: (
        recipe(judge(u), systems=[{"id": "a", "answers": {"mt_bench": "../secret.txt"}}]),
        (),
    ),
    "a secret file for prices": lambda f, u: (with_evaluation(recipe(judge(u)), prices="../secret.txt"), ()),
    "a link for prices": lambda f, u: (with_evaluation(recipe(judge(u)), prices=linked(f, "prices.yaml")), ()),
    "a link for seeds": lambda f, u: (
        augmented(u) | {"data": augmented(u)["data"] | {"seeds": [{"name": "jsonl", "path": linked(f, "x.jsonl")}]}},
        (),
    ),
    "a link for a template": lambda f, u: (augmented(u, template=linked(f, "t.yaml")), ()),
    "a secret file for a template": lambda f, u: (augmented(u, template="../secret.txt"), ()),
    "a key to a generator": lambda f, u: (augmented("https://judge.example/v1"), ()),
    "a key to a reward model": lambda f, u: (
        augmented(u)
        | {
            "data": augmented(u)["data"]
            | {"reward": {"name": "api", "model": "m", "base_url": "http://judge.example", "api_key_env": "HF_TOKEN"}}
        },
        (),
    ),
}

READ_LATER = {"a link for answers", "a secret file for answers"}
"""What only a run reads."""


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


def environment(folder: Path, stranger: Stranger) -> dict[str, str]:
    proxy = f"http://127.0.0.1:{stranger.port}"
    user = {"HOME": str(folder.parent / "home"), "HARNESS_HOME": str(folder.parent / "home"), "CI": "1"}
    proxies = {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "http_proxy": proxy, "https_proxy": proxy}
    return {**SECRETS, **user, **proxies, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def write(folder: Path, made: dict[str, Any]) -> None:
    (folder / "x.yaml").write_text(json.dumps(made))  # JSON is YAML


def leaks(folder: Path, stranger: Stranger, printed: str, by_right: str = "") -> list[str]:
    """Where planted texts are: in what was printed, received, or written. `by_right`: what the judge may receive."""
    places = {"printed": printed, "received": "\n".join(stranger.received).replace(f"Bearer {by_right}", "")}
    own = {folder.parent / "secret.txt", folder.parent / "secret.json"}
    for path in folder.parent.rglob("*"):
        if path.is_file() and not path.is_symlink() and path not in own:
            places[str(path.relative_to(folder.parent))] = str(path) + path.read_bytes().decode("utf-8", "replace")
    return [f"{text} {place}" for place, content in places.items() for text in PLANTED if text in content]


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
        code = app(["export", str(data), "--push-to-hub", "me/mine"], standalone_mode=False) or 0
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


def harness(folder: Path, stranger: Stranger, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HARNESS_DATA", "COVERAGE_PROCESS_START") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", *arguments],
        cwd=folder,
        env={**kept, **environment(folder, stranger), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


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
