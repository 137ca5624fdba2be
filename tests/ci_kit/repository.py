"""A repository with a gate: its base branch, pull requests, what `actions/checkout` makes of them, and a judge and a
GitHub that are stand-ins on 127.0.0.1."""

import contextlib
import json
import random
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.fake_server import Body, completion

PROMPTS = 40
WINS = {"old": 0.7, "same": 0.7, "worse": 0.1}
"""How often each model's answers win over the reference."""
WORDS = (
    "amber",
    "brook",
    "candle",
    "dune",
    "ember",
    "fjord",
    "garnet",
    "harbour",
    "island",
    "kettle",
    "lantern",
    "meadow",
)


class Judge:
    """Prefers answers by the name of the model in them. `asked`: the names, one for each request."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, body: Body) -> Any:
        text = body["messages"][-1]["content"]
        (name,) = set(re.findall(r"\[(old|same|worse)\]", text))
        number = int(re.findall(r"about question (\d+),", text)[0])
        self.asked.append(name)
        wins = (number * 7 % PROMPTS) / PROMPTS < WINS[name]
        first = text.index(f"[{name}]") < text.index("[reference]")
        best, other = ("m", "M") if wins == first else ("M", "m")
        return completion(best, {best: -0.001, other: -9.0}, usage={"prompt_tokens": 100, "completion_tokens": 1})


def answers(name: str) -> str:
    """A model's answers, in AlpacaEval's format: about as long as others', and each unlike the next."""
    rng = random.Random(name)
    words = [[WORDS[rng.randrange(len(WORDS))] for _ in range(rng.randint(8, 16))] for _ in range(PROMPTS)]
    rows = [
        {
            "instruction": f"What about question {i}?",
            "output": f"{' '.join(words[i])}: about question {i}, [{name}]",
            "generator": name,
            "dataset": "x",
        }
        for i in range(PROMPTS)
    ]
    return json.dumps(rows)


def recipe(url: str) -> str:
    judge = {"name": "openai", "model": "judge-1", "base_url": url, "max_retries": 0}
    judge |= {"price": {"input": 100, "output": 300}, "api_key_env": "JUDGE_KEY"}
    benchmark = {"name": "alpaca_eval", "prompts": "reference.json", "reference": "file"}
    systems = [{"id": "model", "answers": {"alpaca_eval": "answers/model.json"}}]
    return json.dumps(
        {"name": "gate", "evaluation": {"judge": judge, "benchmarks": [benchmark]}, "systems": systems}, indent=1
    )


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=Us", "-c", "user.email=us@example.org", "-c", "init.defaultBranch=main")
    command = ["git", *who, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Origin:
    """The repository on the server: pull requests are refs that GitHub keeps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        git(folder, "init", "--quiet")
        git(folder, "config", "uploadpack.allowAnySHA1InWant", "true")

    def commit(self, files: dict[str, str]) -> str:
        """A commit on the branch that is checked out."""
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "--quiet", "--allow-empty", "-m", "x")
        return git(self.folder, "rev-parse", "HEAD")

    def pull(self, number: int, files: dict[str, str]) -> tuple[str, str, str]:
        """(base, head, merge): a pull request's commits; pushes to it follow on each other."""
        base = git(self.folder, "rev-parse", "main")
        branch = f"pull-{number}"
        there = git(self.folder, "branch", "--list", branch)
        git(self.folder, "checkout", "--quiet", *([branch] if there else ["-b", branch]))
        head = self.commit(files)
        git(self.folder, "checkout", "--quiet", "-B", "merge", "main")
        git(self.folder, "merge", "--quiet", "--no-ff", "-m", "merge", branch)
        merge = git(self.folder, "rev-parse", "HEAD")
        git(self.folder, "checkout", "--quiet", "main")
        git(self.folder, "update-ref", f"refs/pull/{number}/merge", merge)
        git(self.folder, "update-ref", f"refs/pull/{number}/head", head)
        return base, head, merge


def checkout(origin: Origin, workspace: Path, commit: str) -> Path:
    """As `actions/checkout` does: one commit and no more."""
    workspace.mkdir(parents=True)
    git(workspace, "init", "--quiet")
    git(workspace, "remote", "add", "origin", f"file://{origin.folder}")
    git(workspace, "fetch", "--quiet", "--no-tags", "--depth=1", "origin", commit)
    git(workspace, "checkout", "--quiet", "--detach", "FETCH_HEAD")
    return workspace


class GitHub:
    """The API of comments. `comments`: as they are. `refuses`: with status 403, as for a fork's token."""

    def __init__(self) -> None:
        self.comments: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.refuses = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = int(re.findall(r"[?&]page=(\d+)", self.path)[0])
                self._answer("GET", lambda _: outer.comments[100 * (page - 1) : 100 * page])

            def do_POST(self) -> None:
                def add(body: dict[str, Any]) -> dict[str, Any]:
                    outer.write(body["body"], "github-actions[bot]")
                    return outer.comments[-1]

                self._answer("POST", add)

            def do_PATCH(self) -> None:
                def edit(body: dict[str, Any]) -> dict[str, Any]:
                    (comment,) = [c for c in outer.comments if self.path.endswith(f"/issues/comments/{c['id']}")]
                    comment["body"] = body["body"]
                    return comment

                self._answer("PATCH", edit)

            def _answer(self, method: str, make: Any) -> None:
                outer.calls.append(method)
                sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                known = self.headers["Authorization"] == "Bearer the-token"
                status = 401 if not known else 403 if outer.refuses else 200
                data = json.dumps(make(json.loads(sent or b"{}")) if status == 200 else {}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def write(self, body: str, author: str) -> None:
        self.comments.append({"id": len(self.comments) + 1, "body": body, "user": {"login": author}})

    @contextlib.contextmanager
    def running(self) -> "Iterator[GitHub]":
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def write_event(path: Path, number: int | None = None, base: str = "", head: str = "") -> Path:
    pull = {} if number is None else {"pull_request": {"number": number, "base": {"sha": base}, "head": {"sha": head}}}
    path.write_text(json.dumps({"action": "synchronize", **pull}))
    return path
