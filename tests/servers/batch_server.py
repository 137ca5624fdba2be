"""A stand-in of OpenAI's batch endpoints on 127.0.0.1, beside its chat endpoint, that does what the test says."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.fake_server import Body, completion

Answer = Callable[[Body], Any]
"""A chat completion's body, or (status, body) of an error."""
Edit = Callable[[list[dict[str, Any]]], list[Any]]
"""Changes the lines of the results; a line may also become bytes."""


def text_of(body: Body) -> str:
    return str(body["messages"][-1]["content"])


class BatchServer:
    """`submitted`: the lines of each batch. `direct`: the bodies of calls of their own. `looks`: so often a batch is
    looked at before it has ended, as `ends`. `edit`: of the results. `refuses`: by path, the status of what the server
    doesn't have. `before_reply`: called between making a batch and saying so. `lists`: whether it lists batches."""

    def __init__(self, answer: Answer = lambda body: completion(f"re {text_of(body)}"), **how: Any) -> None:
        self.answer = answer
        self.looks: int = how.get("looks", 1)
        self.ends: str = how.get("ends", "completed")
        self.edit: Edit = how.get("edit", list)
        self.refuses: dict[str, int] = how.get("refuses", {})
        self.before_reply: Callable[[], None] = how.get("before_reply", lambda: None)
        self.lists: bool = how.get("lists", True)
        self.submitted: list[list[dict[str, Any]]] = []
        self.direct: list[Body] = []
        self.cancelled: list[str] = []
        self.batches: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self.url = ""

    @contextmanager
    def running(self) -> Iterator["BatchServer"]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        thread = threading.Thread(target=lambda: server.serve_forever(0.01), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def handle(self, method: str, path: str, data: bytes) -> tuple[int, Any]:
        path, _, query = path.partition("?")
        path = path.removeprefix("/v1")
        for start, status in self.refuses.items():
            if path.startswith(start):
                return status, {"error": {"message": f"there is no {path}"}}
        if path == "/chat/completions":
            self.direct.append(json.loads(data))
            made = self.answer(json.loads(data))
            return made if isinstance(made, tuple) else (200, made)
        if path == "/files":
            assert b'name="purpose"\r\n\r\nbatch\r\n' in data
            boundary = data.split(b"\r\n", 1)[0]
            part = next(part for part in data.split(boundary) if b'name="file"' in part)
            with self.lock:
                name = f"file-{len(self.files)}"
                self.files[name] = part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")
            return 200, {"id": name, "object": "file", "purpose": "batch"}
        if path == "/batches" and method == "POST":
            made = self.make(json.loads(data))
            self.before_reply()
            return 200, made
        if path == "/batches":
            if not self.lists:
                return 404, {"error": {"message": "no list"}}
            return 200, {"object": "list", "data": list(self.batches.values()), "has_more": False}
        if match := re.fullmatch(r"/batches/([^/]+)(/cancel)?", path):
            return self.look(match[1], cancel=bool(match[2]))
        if match := re.fullmatch(r"/files/([^/]+)/content", path):
            return (200, self.files[match[1]]) if match[1] in self.files else (404, {"error": {"message": "no file"}})
        return 404, {"error": {"message": f"no {path} {query}"}}

    def make(self, body: Body) -> dict[str, Any]:
        assert (body["endpoint"], body["completion_window"]) == ("/v1/chat/completions", "24h")
        with self.lock:
            lines = [json.loads(line) for line in self.files[body["input_file_id"]].splitlines()]
            assert all((line["method"], line["url"]) == ("POST", "/v1/chat/completions") for line in lines)
            self.submitted.append(lines)
            name = f"batch_{len(self.submitted)}"
            counts = {"total": len(lines), "completed": 0, "failed": 0}
            self.batches[name] = {"id": name, "status": "validating", "request_counts": counts, "looks": 0, **body}
            return self.batches[name]

    def look(self, name: str, *, cancel: bool) -> tuple[int, Any]:
        if name not in self.batches:
            return 404, {"error": {"message": f"no batch {name}"}}
        batch = self.batches[name]
        if cancel:
            self.cancelled.append(name)
            return 200, batch | {"status": "cancelling"}
        with self.lock:
            batch["looks"] += 1
            if batch["looks"] <= self.looks:
                batch["status"] = "in_progress"
            elif batch["status"] != self.ends:
                self.end(name, batch)
        return 200, batch

    def end(self, name: str, batch: dict[str, Any]) -> None:
        batch["status"] = self.ends
        if self.ends == "failed":
            batch["errors"] = {"object": "list", "data": [{"code": "x", "message": "the file is not to my taste"}]}
            return
        results: list[dict[str, Any]] = []
        for number, line in enumerate(self.submitted[int(name.removeprefix("batch_")) - 1]):
            made = self.answer(line["body"])
            status, body = made if isinstance(made, tuple) else (200, made)
            response = {"status_code": status, "request_id": f"r{number}", "body": body}
            results.append({"id": f"l{number}", "custom_id": line["custom_id"], "response": response, "error": None})
        lines = self.edit(results)
        good = [x for x in lines if isinstance(x, bytes) or (x["response"] or {}).get("status_code") == 200]
        for field, some in (("output_file_id", good), ("error_file_id", [x for x in lines if x not in good])):
            if some:
                batch[field] = f"{name}-{field}"
                data = b"\n".join(x if isinstance(x, bytes) else json.dumps(x).encode() for x in some)
                self.files[batch[field]] = data
        batch["request_counts"]["completed"] = len(good)


def expired(line: dict[str, Any]) -> dict[str, Any]:
    """A line of a request that was not executed in time."""
    return line | {"response": None, "error": {"code": "batch_expired", "message": "not executed in time"}}


def _handler(server: BatchServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self._answer("POST", self.rfile.read(int(self.headers["Content-Length"] or 0)))

        def do_GET(self) -> None:
            self._answer("GET", b"")

        def _answer(self, method: str, data: bytes) -> None:
            status, body = server.handle(method, self.path, data)
            if status == 0:  # the connection breaks
                self.close_connection = True
                return
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


def wait_until(fact: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for a fact. Raises TimeoutError."""
    until = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(0.02)
