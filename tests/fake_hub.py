"""A dataset on a fake Hugging Face hub on 127.0.0.1: what huggingface_hub asks for to download a snapshot."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(NamedTuple):
    """Where it listens, and what it was asked, as `METHOD path`."""

    url: str
    asked: list[str]


@contextmanager
def fake_hub(dataset: str, files: dict[str, bytes], commit: str = COMMIT) -> Iterator[Hub]:
    """Serves `files` (by path) of `dataset` at its only commit, which `main` is too."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def _send(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _answer(self) -> None:
            path = self.path.split("?")[0]
            asked.append(f"{self.command} {path}")
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in files.items()
            ]
            about = {"id": dataset, "sha": commit, "siblings": [{"rfilename": name} for name in files]}
            api = f"/api/datasets/{dataset}"
            if path == f"{api}/tree/{commit}":
                self._send(200, json.dumps(tree).encode(), Content_Type="application/json")
            elif path in (api, f"{api}/revision/main", f"{api}/revision/{commit}"):
                self._send(200, json.dumps(about).encode(), Content_Type="application/json")
            elif (
                path.startswith(start := f"/datasets/{dataset}/resolve/{commit}/") and path.removeprefix(start) in files
            ):
                content = files[path.removeprefix(start)]
                self._send(200, content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=commit)
            else:
                self._send(404, b"{}", X_Error_Code="RepoNotFound" if dataset not in path else "RevisionNotFound")

        do_GET = do_HEAD = _answer

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield Hub(f"http://127.0.0.1:{server.server_address[1]}", asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
