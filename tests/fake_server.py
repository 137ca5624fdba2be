"""A small OpenAI-compatible chat server on 127.0.0.1 that does what the test says and keeps what it was sent."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]
Answer = tuple[int, Body | bytes, Mapping[str, str]] | Body


def completion(text: str, top_logprobs: Mapping[str, float] | None = None, **more: Any) -> Body:
    """A chat completion as OpenAI's endpoint writes it."""
    logprobs = None
    if top_logprobs is not None:
        top = [{"token": t, "logprob": x, "bytes": list(t.encode())} for t, x in top_logprobs.items()]
        logprobs = {"content": [{**top[0], "top_logprobs": top}], "refusal": None}
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": text, "refusal": None},
        "logprobs": logprobs,
    }
    usage = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    } | more


class FakeServer:
    """`requests`: the bodies received, in order of arrival. `headers`, `paths`: theirs."""

    def __init__(self, answer: Callable[[Body], Answer], delay: float = 0.0) -> None:
        self.requests: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["Content-Length"]))
                if not sent:  # the caller was killed
                    return
                body = json.loads(sent)
                with outer._lock:
                    outer.requests.append(body)
                    outer.headers.append(dict(self.headers))
                    outer.paths.append(self.path)
                    outer._at_once += 1
                    outer.most_at_once = max(outer.most_at_once, outer._at_once)
                time.sleep(delay)
                made = answer(body)
                status, content, headers = made if isinstance(made, tuple) else (200, made, {})
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                with outer._lock:
                    outer._at_once -= 1
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.send_response(status)
                    for name, value in {"Content-Type": "application/json", **headers}.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @contextlib.contextmanager
    def running(self) -> "Iterator[FakeServer]":
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()
