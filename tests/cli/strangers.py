"""A stranger's server, folder and recipes, and a search for planted secrets in all that comes of them."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

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


@contextmanager
def serving() -> Iterator[Stranger]:
    """The server, while it runs."""
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


def strange_folder(tmp_path: Path) -> Path:
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
