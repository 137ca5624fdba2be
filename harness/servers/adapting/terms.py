"""What a server takes of requests to one model: learnt from its refusals, and applied to every later request.

A refused call is compared with what that call sent, changed, and sent again. A change counts for all callers once a
call that was changed so has been answered: a refusal that was about one prompt after all changes nothing else. Changed
is what leaves a reply's meaning as it is, and what is noted where it doesn't quite. Everything else stays refused.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from harness.servers.adapting.refusals import STREAM, SYSTEM, Refusal, bound_in, least_in, refusal_of

T = TypeVar("T")
Body = Mapping[str, Any]

LIMIT, NEW_LIMIT = "max_tokens", "max_completion_tokens"
COLDEST = 0.01
"""The temperature instead of 0, for servers that want a positive one: in effect greedy."""
_LOGPROBS = frozenset({"logprobs", "top_logprobs"})
_ALTERNATIVE = {"activation": "use_activation", "use_activation": "activation"}
"""The same parameter in different versions of a server: one of them is enough."""
_POSITIVE = (
    "greater than 0",
    "strictly positive",
    "must be positive",
    "be > 0",
    "exclusivemin",
    "gt 0",
    "larger than 0",
    "greater than zero",
    "positive float",
)


@dataclass(frozen=True)
class Facts:
    """`left_out`: parameters that the server refuses. `limit`: the token limit's name; `least`, `most`: its bounds.
    `alternatives`: the most log-probabilities. `coldest`: the lowest temperature. `folds`: it takes no system message.
    `streams`: it only answers in streams."""

    left_out: frozenset[str] = frozenset()
    limit: str = LIMIT
    least: int | None = None
    most: int | None = None
    alternatives: int | None = None
    coldest: float | None = None
    folds: bool = False
    streams: bool = False

    def words(self) -> list[str]:
        """What is done differently, for the log."""
        names = sorted(self.left_out - {"logprobs", "top_logprobs"})
        return [
            *(f"without {name}" for name in names),
            *(["without log-probabilities"] if self.left_out & _LOGPROBS else []),
            *([f"with {NEW_LIMIT} for {LIMIT}"] if self.limit != LIMIT else []),
            *([f"with at least {self.least} tokens"] if self.least else []),
            *([f"with at most {self.most} tokens"] if self.most else []),
            *([f"for {self.alternatives} log-probabilities"] if self.alternatives else []),
            *([f"at temperature {self.coldest:g} for 0"] if self.coldest else []),
            *(["with the system message in the first user turn"] if self.folds else []),
            *(["for streams"] if self.streams else []),
        ]

    def and_also(self, other: "Facts") -> "Facts":
        """All that both know."""
        lowest = [x.alternatives for x in (self, other) if x.alternatives]
        return Facts(
            left_out=self.left_out | other.left_out,
            limit=NEW_LIMIT if NEW_LIMIT in (self.limit, other.limit) else LIMIT,
            least=max((x.least for x in (self, other) if x.least), default=None),
            most=min((x.most for x in (self, other) if x.most), default=None),
            alternatives=min(lowest, default=None),
            coldest=self.coldest or other.coldest,
            folds=self.folds or other.folds,
            streams=self.streams or other.streams,
        )


@dataclass(frozen=True)
class Rules:
    """What may be changed. `samples`: the replies are samples, whose temperature is part of their meaning. `fixed`:
    parameters that the recipe sets, which are sent as they are or not at all."""

    samples: bool = False
    fixed: frozenset[str] = field(default_factory=frozenset)

    def may_leave_out(self, name: str, body: Body) -> bool:
        if name in self.fixed or name not in body:
            return False
        if name in ("temperature", "top_p"):
            return not self.samples or body[name] == 1
        return name in {"seed", "stop", "stream_options", *_LOGPROBS} or _ALTERNATIVE.get(name) in body


def applied(facts: Facts, request: Body, rules: Rules) -> tuple[dict[str, Any], tuple[str, ...]]:
    """(the request as the server takes it, notes of what that changes in a reply's meaning)."""
    body, notes = dict(request), []
    for name in sorted(facts.left_out):
        if rules.may_leave_out(name, body):
            value = body.pop(name)
            if name in _LOGPROBS:
                notes.append("without log-probabilities")
            elif name in ("seed", "stop") or (name in ("temperature", "top_p") and value != 1):
                notes.append(f"without {name}")
    if body.get("temperature") == 0 and facts.coldest and "temperature" not in rules.fixed:
        body["temperature"] = facts.coldest
        notes.append(f"temperature {facts.coldest:g} instead of 0")
    if facts.alternatives and facts.alternatives < body.get("top_logprobs", 0):
        notes.append(f"top_logprobs {facts.alternatives} instead of {body['top_logprobs']}")
        body["top_logprobs"] = facts.alternatives
    if LIMIT in body and LIMIT not in rules.fixed:
        limit = body.pop(LIMIT)
        raised = max(limit, facts.least or 0)
        fitted = limit if rules.samples else min(raised, facts.most or raised)
        if fitted != limit:
            notes.append(f"{LIMIT} {fitted} instead of {limit}")
        body[facts.limit] = fitted
    if facts.folds and (folded := _folded(body.get("messages") or ())) is not None:
        body["messages"] = folded
        notes.append("system message in the first user turn")
    if facts.streams:
        body["stream"] = True
        if "stream_options" not in facts.left_out:
            body["stream_options"] = {"include_usage": True}
    return body, tuple(dict.fromkeys(notes))


def learnt(facts: Facts, refused: Refusal, body: Body, rules: Rules) -> Facts | None:
    """What is known after a refusal of a body; None if nothing can be changed for it."""
    name, text = refused
    if name in rules.fixed:
        return None
    if name == SYSTEM:
        return None if facts.folds else replace(facts, folds=True)
    if name == STREAM and not body.get("stream"):
        return replace(facts, streams=True)
    if name in (LIMIT, NEW_LIMIT):
        return _limit(facts, name, text, body, rules)
    if name == "temperature" and body[name] == 0 and any(words in text.lower() for words in _POSITIVE):
        return replace(facts, coldest=COLDEST)
    if name in _LOGPROBS:
        most = bound_in(text, body.get("top_logprobs", 0))
        return replace(facts, alternatives=most) if most else replace(facts, left_out=facts.left_out | _LOGPROBS)
    if rules.may_leave_out(name, body):
        return replace(facts, left_out=facts.left_out | {name})
    return None


def _limit(facts: Facts, name: str, text: str, body: Body, rules: Rules) -> Facts | None:
    """The token limit under its other name or, where no sample would become another, within the server's bounds."""
    low, high = least_in(text, body[name]), bound_in(text, body[name])
    if not rules.samples and low and facts.least is None:
        return replace(facts, least=low)
    if not rules.samples and high and facts.most is None:
        return replace(facts, most=high)
    return replace(facts, limit=NEW_LIMIT) if name == LIMIT and not low and not high else None


def _folded(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]] | None:
    """The messages with the system's before the first user turn's text; None if there are none to fold."""
    system = [m["content"] for m in messages if m["role"] == "system"]
    rest = [m for m in messages if m["role"] != "system"]
    first = next((i for i, m in enumerate(rest) if m["role"] == "user"), None)
    if not system or first is None:
        return None
    rest[first] = {**rest[first], "content": "\n\n".join([*system, rest[first]["content"]])}
    return rest


class Terms:
    """What is known of a server and model, shared by all callers. `tell` is told what is new."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._facts = Facts()

    def send(
        self, request: Body, rules: Rules, post: Callable[[dict[str, Any]], T], tell: Callable[[str, Exception], None]
    ) -> tuple[T, tuple[str, ...]]:
        """(`post` of the request as the server takes it, notes of what that changes in the reply's meaning). Raises the
        package's error of a call that is refused, whatever is changed."""
        import openai

        before = facts = self._facts
        tried: list[dict[str, Any]] = []
        problem: Exception | None = None
        while True:
            body, notes = applied(facts, request, rules)
            tried.append(body)
            try:
                result = post(body)
            except openai.APIStatusError as error:
                refused = refusal_of(error.status_code, error.body, body)
                new = learnt(facts, refused, body, rules) if refused else None
                others = self._facts  # learnt from other calls, while this one was under way
                known = new.and_also(others) if new else others
                if applied(known, request, rules)[0] in tried:
                    raise
                facts, problem = known, error
                continue
            if problem is not None:
                self._note(before, facts, problem, tell)
            return result, notes

    def _note(self, before: Facts, now: Facts, problem: Exception, tell: Callable[[str, Exception], None]) -> None:
        with self._lock:
            known, self._facts = self._facts, self._facts.and_also(now)
            new = [words for words in self._facts.words() if words not in known.words()]
        if new:
            tell(", ".join(new), problem)


_all: WeakValueDictionary[tuple[str, ...], Terms] = WeakValueDictionary()
_all_lock = threading.Lock()


def terms_of(*key: str) -> Terms:
    """The shared terms under a key (role, address, model), as long as somebody uses them: a server that was restarted
    with other settings is asked afresh by the next run."""
    with _all_lock:
        if (terms := _all.get(key)) is None:
            terms = _all[key] = Terms()
        return terms
