"""A fake Hugging Face hub on 127.0.0.1 that takes uploads: what huggingface_hub asks for to make a dataset or a model
and commit files to it. (`fake_hub` is for downloads.)"""

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
    """Where it listens, the only token that it lets write, its repositories (private or not) with their kinds, and what
    was committed to each: a mapping from path to content a commit, and what each holds after the last one."""

    url: str
    token: str
    private: dict[str, bool] = field(default_factory=dict)
    commits: dict[str, list[dict[str, bytes]]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)


def _repo(path: str, end: str) -> str:
    return path.removeprefix("/api/datasets/").removeprefix("/api/models/").removesuffix(end)


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
            added = [x["value"] for x in lines[1:] if x["key"] == "file"]
            deleted = [x["value"]["path"] for x in lines[1:] if x["key"] == "deletedFile"]
            assert len(added) + len(deleted) == len(lines) - 1
            files = {v["path"]: base64.b64decode(v["content"]) for v in added}
            hub.commits.setdefault(repo, []).append(files)
            kept = {path: data for path, data in hub.files.get(repo, {}).items() if path not in deleted}
            hub.files[repo] = kept | files
            self._send(200, {"success": True, "commitOid": COMMIT, "commitUrl": f"{self._home(repo)}/commit/{COMMIT}"})

        def _home(self, repo: str) -> str:
            return f"{hub.url}/{'datasets/' if hub.kinds[repo] == 'dataset' else ''}{repo}"

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
                hub.kinds.setdefault(repo, asked.get("type", "model"))
                self._send(409 if there else 200, {"url": self._home(repo), "error": "it is there"})
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
                self._commit(_repo(path, "/commit/main"), sent)
            else:
                self._send(404, {"error": path})

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if path.endswith("/tree/main"):
                files = hub.files.get(_repo(path, "/tree/main"), {})
                self._send(200, [{"type": "file", "path": n, "size": len(d), "oid": COMMIT} for n, d in files.items()])
                return
            repo = _repo(path, "/revision/main")
            about: dict[str, Any] = {"id": repo, "sha": COMMIT, "private": hub.private.get(repo), "siblings": []}
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
