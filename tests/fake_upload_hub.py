"""A fake Hugging Face hub on 127.0.0.1 that takes uploads: what huggingface_hub asks for to make a dataset and commit
files to it. (`fake_hub` is for downloads.)"""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class UploadHub:
    """Where it listens, the only token that it lets write, its datasets (private or not) and what was committed to
    each, a mapping from path to content a commit."""

    url: str
    token: str
    private: dict[str, bool] = field(default_factory=dict)
    commits: dict[str, list[dict[str, bytes]]] = field(default_factory=dict)


@contextmanager
def upload_hub(token: str) -> Iterator[UploadHub]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def _send(self, status: int, body: Any, **headers: str) -> None:
            text = json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def _commit(self, repo: str, sent: bytes) -> None:
            lines = [json.loads(line) for line in sent.splitlines()]
            files = {v["path"]: base64.b64decode(v["content"]) for v in (x["value"] for x in lines[1:])}
            assert {x["key"] for x in lines[1:]} == {"file"}
            hub.commits.setdefault(repo, []).append(files)
            self._send(
                200, {"success": True, "commitOid": COMMIT, "commitUrl": f"{hub.url}/datasets/{repo}/commit/{COMMIT}"}
            )

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = self.path.split("?")[0]
            if self.headers.get("Authorization") != f"Bearer {hub.token}":
                self._send(403, {"error": "this token may not write"}, X_Error_Message="this token may not write")
            elif path == "/api/repos/create":
                asked = json.loads(sent)
                repo = f"{asked['organization']}/{asked['name']}"
                there = repo in hub.private
                hub.private.setdefault(repo, asked.get("visibility") == "private")
                self._send(409 if there else 200, {"url": f"{hub.url}/datasets/{repo}", "error": "it is there"})
            elif path == "/api/validate-yaml":
                about = yaml.safe_load(json.loads(sent)["content"].split("---")[1])
                known = about["license"] in ("apache-2.0", "mit", "other")
                errors = [] if known else [{"message": '"license" must be one of the known ones'}]
                self._send(200 if known else 400, {"errors": errors, "warnings": []})
            elif path.endswith("/preupload/main"):
                names = [f["path"] for f in json.loads(sent)["files"]]
                regular = [{"path": n, "uploadMode": "regular", "shouldIgnore": False, "oid": None} for n in names]
                self._send(200, {"files": regular})
            elif path.endswith("/commit/main"):
                self._commit(path.removeprefix("/api/datasets/").removesuffix("/commit/main"), sent)
            else:
                self._send(404, {"error": path})

        def do_GET(self) -> None:
            repo = self.path.split("?")[0].removeprefix("/api/datasets/").removesuffix("/revision/main")
            about = {"id": repo, "sha": COMMIT, "private": hub.private.get(repo), "siblings": []}
            self._send(200 if repo in hub.private else 404, about)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub = UploadHub(f"http://127.0.0.1:{server.server_address[1]}", token)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
