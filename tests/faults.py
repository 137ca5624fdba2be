"""A judge's server at its worst: what it may do instead of a good reply."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from tests.fake_server import Answer, Body, completion

UNCHARGED: Mapping[str, Answer] = {
    "429 with a pause": (429, {"error": {"message": "slow down"}}, {"Retry-After": "0.02"}),
    "429": (429, {"error": {"message": "slow down"}}, {}),
    "500": (500, {"error": {"message": "oops"}}, {}),
    "503": (503, b"<html>no backend</html>", {"Content-Type": "text/html"}),
    "reset": "reset",
    "silence": "silence",
    "cut": "cut",
    "half of the JSON": (200, b'{"choices": [{"mess', {}),
    "an error in a good status": (200, b'{"error": {"message": "upstream failed", "code": 502}}', {}),
    "not an object": (200, b"[1, 2]", {}),
    "no JSON": (200, b"<html>hello</html>", {"Content-Type": "text/html"}),
    "nothing": (200, b"", {}),
}
"""Faults that leave a call without a reply."""
CHARGED: Mapping[str, Body] = {
    "empty": completion(""),
    "no choices": completion("", choices=[]),
    "no message": completion("", choices=[{"index": 0}]),
    "parts": completion("", choices=[{"message": {"content": [{"type": "text"}]}, "logprobs": "none"}]),
    "banana": completion("banana"),
    "half a surrogate pair": completion("\ud800"),
    "impossible probabilities": completion("x", {"x": float("nan"), "y": float("-inf")}),
    "very long": completion("very long " * 20_000),
    "a refusal": completion("", choices=[{"message": {"content": None, "refusal": "I can't judge that."}}]),
}
"""Whole replies, paid for, that no verdict can be read from."""


class Faulty:
    """Answers as `good` does, but for a share of the calls, which get every fault in turn. `done`: how often each."""

    def __init__(self, good: Callable[[Body], Body], share: float, seed: int = 0) -> None:
        self.done: Counter[str] = Counter()
        self._good, self._share = good, share
        self._random = random.Random(seed)
        self._faults: dict[str, Any] = {**UNCHARGED, **CHARGED}
        self._lock = threading.Lock()

    def __call__(self, body: Body) -> Answer:
        with self._lock:
            name = "good"
            if self._random.random() < self._share:
                name = list(self._faults)[(self.done.total() - self.done["good"]) % len(self._faults)]
            self.done[name] += 1
        found: Answer = self._good(body) if name == "good" else self._faults[name]
        return found
