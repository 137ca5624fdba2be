"""300 replies of a server at its worst, to a judge, a generator and a reward model in a process of their own."""

import copy
import gzip
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.fake_server import completion
from tests.servers.raw_server import RawServer, Write, http

ROOT = Path(__file__).parents[2]
COUNT, SEED = 300, 20261129
KEY = "sk-planted-0123456789"
MEBIBYTE = b" " * (1 << 20)
PLAIN: tuple[Any, ...] = (None, True, False, [], {}, [[]], {"a": {}}, "", "text", "NaN", "1e5", ["[[1"])
STRINGS = ("\ud800", "\0", "\u202e\x1b[2J", "9" * 5000, "long " * 300_000, KEY, f"Bearer {KEY}")
NUMBERS = (10**400, 10**30, 1e300, -1e300, 5e8, -(10**9), float("nan"), float("inf"), float("-inf"))
MANY: tuple[Any, ...] = ([0] * 50_000, [None] * 300, {str(i): i for i in range(3000)})
ODD = (*PLAIN, *STRINGS, *NUMBERS, *MANY)
"""Values in place of any other. None of them might pass for a rating, a log-probability or a score."""
CHILD = """
import json, resource, sys, traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import openai, httpx
from harness.augmentation.pool import Pool
from harness.components import build
from harness.engine.journal import Journal
from harness.errors import HarnessError
from harness.judging.asker import make_ask
from harness.protocols import Ready
from harness.servers import served
from harness.types import Completion, JudgeReply, JudgeRequest, Message, Sampling
served.FIRST_WAIT = 0.01
url, folder, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
prompt = (Message(role="user", content="u"),)

def outcome(i):
    fields = {"model": f"m{i}", "base_url": f"{url}/{i}", "max_retries": 0, "timeout": 1.5, "patience": 0.1}
    try:
        if i % 3 == 0:
            judge = build("judge", {"name": "openai", **fields})
            ask = make_ask(judge, folder / "judge.jsonl", concurrency=1, advance=lambda n: None)
            reply = ask([JudgeRequest(messages=prompt, top_logprobs=5)])[0]
            return {"text": reply.text, "logprobs": reply.logprobs, "error": reply.error}
        if i % 3 == 1:
            pool = Pool(build("generator", {"name": "openai", **fields}), folder, seed=0, advance=lambda n: None)
            return {"text": pool.sample([prompt], Sampling(), range(1))[0][0].text}
        reward = build("reward", {"name": "api", **fields})
        return {"score": reward.score([(prompt, "a")], Ready(folder, lambda n: None, None, ()))[0]}
    except HarnessError as error:
        return {"error": str(error)}
    except BaseException:
        return {"traceback": traceback.format_exc()}

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with ThreadPoolExecutor(8) as threads:
    outcomes = list(threads.map(outcome, range(count)))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
Journal(folder / "judge.jsonl", JudgeReply, "reply").rows()
for path in folder.glob("samples-*.jsonl"):
    Journal(path, Completion, "sample").rows()
print(json.dumps({"outcomes": outcomes, "mebibytes": (peak - before) / 1024}))
"""


def good(i: int) -> Any:
    """A reply with a figure that no other has."""
    if i % 3 == 2:
        return {"id": "x", "model": "m", "data": [{"index": 0, "label": "A", "probs": [i / 8], "num_classes": 1}]}
    return completion(f"[[{i}]]", {f"t{i}": -0.25, "other": -2.5}, model="m", system_fingerprint="f")


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(inner for key, item in items for inner in paths(item, (*path, key)))]


def mutated(value: Any, draw: random.Random) -> Any:
    """The value with something in it replaced, left out or put into a list."""
    path = draw.choice(paths(value))
    if not path:
        return copy.deepcopy(draw.choice(ODD))
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    match draw.choice(["replace", "replace", "replace", "drop", "wrap"]):
        case "replace":
            parent[path[-1]] = copy.deepcopy(draw.choice(ODD))
        case "drop":
            del parent[path[-1]]
        case _:
            parent[path[-1]] = [[parent[path[-1]]]]
    return value


def body_of(i: int, draw: random.Random) -> bytes:
    value = good(i)
    for _ in range(draw.choice([0, 1, 1, 1, 2, 5])):
        value = mutated(value, draw)
        if not isinstance(value, dict | list):
            break
    body = json.dumps(value).encode()
    place = draw.randrange(len(body) + 1)
    changes = [body] * 8
    changes += [body[:place], body[:place] + b"\xff" + body[place:], body + body, body[:place] + b"\0" + body[place:]]
    changes += [
        body.decode().encode("utf-16"),
        b"\xef\xbb\xbf" + body,
        b")]}'\n" + body,
        body[:-1] + b', "choices": 1}',
    ]
    return draw.choice(changes)


def headers_of(draw: random.Random) -> list[str]:
    odd = [
        "X: " + "y" * 90_000,
        "X: " + "y" * 200_000,
        "Set-Cookie: \x7f=;;;=",
        "Content-Type: x;charset=idna",
        "X" * 50,
    ]
    odd += ["Content-Encoding: br", "Content-Encoding: gzip", "Content-Length: 3", "Content-Length: -1", "X: \xa0\xff"]
    odd += [f"X-Key: {KEY}", "Transfer-Encoding: chunked", "Connection: close", "Content-Encoding: identity,identity"]
    pauses = [
        "1" + "0" * 300,
        "-5",
        "٣",
        "²",
        "nan",
        "inf",
        "Mon, 01 Jan 0001 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 -0000",
    ]
    odd += [f"Retry-After: {pause}" for pause in pauses] + ["Retry-After-MS: 1e3"]
    return draw.sample(odd, draw.choice([0, 0, 1, 1, 3]))


def send(i: int, write: Write, draw: random.Random) -> None:
    """One reply, or what a server may do instead."""
    body, headers = body_of(i, draw), headers_of(draw)
    code = draw.choice(
        [200] * 12 + [201, 204, 301, 304, 307, 400, 401, 404, 413, 422, 429, 429, 500, 503, 529, 600, 999]
    )
    kind = draw.choice(
        ["whole"] * 10 + ["good"] * 3 + ["gzip", "bomb", "chunks", "endless", "drip", "drip", "flood", "cut", "junk"]
    )
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    match kind:
        case "whole":
            write(http(body, *headers, status=f"{code} {KEY}").decode("latin-1").encode("utf-8", "surrogateescape"))
        case "good":
            write(http(json.dumps(good(i)).encode()))
        case "gzip":
            write(http(gzip.compress(body)[: draw.choice([None, -4, 20])], "Content-Encoding: gzip", *headers))
        case "bomb":
            write(
                http(
                    gzip.compress(MEBIBYTE * 64, 1),
                    f"Content-Encoding: {draw.choice(['gzip', 'gzip, gzip', 'deflate'])}",
                )
            )
        case "chunks":
            write(chunked + f"{draw.choice(['zz', '-1', 'f' * 30, '10'])}\r\n".encode() + body)
        case "endless":
            write(chunked)
            for _ in range(300):
                write(b"100000\r\n" + MEBIBYTE + b"\r\n")
        case "drip":
            write(draw.choice([b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", chunked, b"HTTP/1.1 200 OK\r\nX: "]))
            for _ in range(60):
                write(b"1\r\n \r\n")
                time.sleep(0.05)
        case "flood":
            write(b"HTTP/1.1 200 OK\r\nContent-Length: 209715200\r\n\r\n")
            for _ in range(200):
                write(MEBIBYTE)
        case "cut":
            raise OSError
        case _:
            write(draw.randbytes(2000))
    raise OSError  # close the connection


def is_right(i: int, outcome: dict[str, Any]) -> bool:
    """Whether an outcome has no figure, or the one that was meant."""
    if i % 3 == 2:
        return outcome.get("score") in (None, i / 8)
    logprobs = outcome.get("logprobs") or {}
    meant = {f"t{i}": -0.25, "other": -2.5}
    is_meant = all(logprob in (meant.get(token), -9999.0) for token, logprob in logprobs.items())
    return is_meant and ("[[" not in outcome.get("text", "") or outcome["text"] == f"[[{i}]]")


@pytest.mark.slow  # a minute
def test_no_reply_of_a_server_crashes_costs_much_or_makes_a_figure(tmp_path: Path) -> None:
    def answer(request: bytes, write: Write) -> None:
        i = int(request.split(b"/")[1])
        send(i, write, random.Random(f"{SEED} {i}"))

    start = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENAI_API_KEY": KEY}
    with RawServer(answer).running() as server:
        url = server.url.removesuffix("/v1")
        command = [sys.executable, "-c", CHILD, url, str(tmp_path), str(COUNT)]
        child = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert server.failures == []
    assert child.returncode == 0, child.stderr[-3000:]
    report = json.loads(child.stdout)
    outcomes = report["outcomes"]
    assert [o["traceback"] for o in outcomes if "traceback" in o] == []
    assert [(i, o) for i, o in enumerate(outcomes) if not is_right(i, o)] == []
    assert KEY not in child.stdout + child.stderr
    assert all(KEY not in path.read_text() for path in tmp_path.iterdir() if path.is_file())
    assert all("\n" not in str(o.get("error")) and "\x1b" not in str(o.get("error")) for o in outcomes)
    counts = Counter("error" if o.get("error") else "read" for o in outcomes)
    assert counts["read"] >= COUNT / 10
    assert counts["error"] >= COUNT / 3
    assert report["mebibytes"] < 300
    assert time.monotonic() - start < 120
