"""An engine for tests, of the standard library alone: `python stub.py PORT [SECONDS] [HOW]`. It is ready after SECONDS.

`/v1/chat/completions` answers AlpacaEval's annotator with `m`, MT-bench's with a rating, others with a sentence that
follows from the request. `/v1/completions` takes token ids, also to say how likely they are, and `/classify` gives the
length of what it reads. HOW: `fails` ends while it starts; `dies` ends in the middle of the fifth call, if no other has
before; `hangs` stops there with all its threads, `stalls` never answers that call, or one after it;
`slow` takes a second for the first call, and counts tokens meanwhile. What it has answered is appended to $STUB_LOG."""

import hashlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

port, seconds, how = int(sys.argv[1]), float((sys.argv[2:3] or ["0"])[0]), (sys.argv[3:4] or [""])[0]
ready, calls, lock = time.monotonic() + seconds, 0, threading.Lock()
log = os.environ.get("STUB_LOG")
WORDS = ("river", "garden", "letter", "market", "winter", "doctor", "bridge", "castle", "forest", "teacher", "window")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self._answer(200, {"stub_tokens_total": time.monotonic()} if how == "slow" else {})
            return
        self._answer(200 if time.monotonic() >= ready else 503, {})

    def do_POST(self) -> None:
        global calls
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with lock:
            calls += 1
            if how in FAULTS and calls == 5 and log and not os.path.exists(f"{log}.died"):
                open(f"{log}.died", "w").close()
                FAULTS[how]()
        time.sleep(1 if how == "slow" and calls == 1 else 0.02)
        self._answer(200, ANSWERS[self.path](body))
        if log:
            line = {"process": os.getpid(), "path": self.path, "key": self.headers.get("Authorization"), **body}
            with lock, open(log, "a") as file:
                file.write(json.dumps(line) + "\n")

    def _answer(self, status: int, content: object) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def completion(body: dict[str, Any]) -> dict[str, Any]:
    asked, logprobs = body["messages"][-1]["content"], None
    if body.get("logprobs"):
        text, top = "m", [{"token": t, "logprob": x, "bytes": list(t.encode())} for t, x in (("m", -0.1), ("M", -2.5))]
        logprobs = {"content": [{**top[0], "top_logprobs": top}]}
    elif "[[rating]]" in asked:
        text = "It is good. Rating: [[7]]"
    else:
        number = int(hashlib.sha256(json.dumps([body["messages"], body.get("seed")]).encode()).hexdigest()[:12], 16)
        one, two, three, four = (WORDS[number // 11**i % 11] for i in range(4))
        text = (
            f"Tell me a story about the {one} and the {two}, in which a {three} finds the {four} {number % 97} times."
        )
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": "stop", "message": message, "logprobs": logprobs}
    return {"model": body["model"], "choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}


def classified(body: dict[str, Any]) -> dict[str, Any]:
    return {"data": [{"probs": [float(len(body["messages"][-1]["content"]))]}]}


def logprob(token: int) -> float:
    return -(token % 7) / 8


def continued(body: dict[str, Any]) -> dict[str, Any]:
    """The last three tokens of the prompt, and the first that ends a text; or how likely the prompt is."""
    if "prompt_logprobs" in body:
        given = [{str(token): {"logprob": logprob(token), "rank": 1}} for token in body["prompt"][1:]]
        return {"model": body["model"], "choices": [{"index": 0, "text": "?", "prompt_logprobs": [None, *given]}]}
    ids = [*body["prompt"][-3:], body["stop_token_ids"][0]]
    return {"model": body["model"], "choices": [{"index": 0, "finish_reason": "stop", "text": "?", "token_ids": ids}]}


FAULTS: dict[str, Callable[[], object]] = {
    "dies": lambda: os._exit(3),
    "hangs": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "stalls": lambda: time.sleep(3600),  # with the lock that all calls need
}
ANSWERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "/classify": classified,
    "/v1/chat/completions": completion,
    "/v1/completions": continued,
    "/v1/load_lora_adapter": dict,
}


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


if how == "fails":
    print("loading weights\nRuntimeError: out of memory on device 0\nbye", flush=True)
    sys.exit(1)
print("ready", flush=True)
Server(("127.0.0.1", port), Handler).serve_forever()
