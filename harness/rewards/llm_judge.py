"""A judge that rates responses, as a reward model."""

import math
import re
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from harness.components import Component, JudgeField, RecipePath, identity
from harness.datafiles import read_bytes, sha256
from harness.errors import DataError
from harness.protocols import Ready
from harness.types import Advance, JudgeReply, JudgeRequest, Message, Messages, PreferencePair, prompt_id

RATING = """\
Rate how good the assistant's last answer is: is it helpful, correct, complete, to the point and honest? Length by \
itself is no merit.

{conversation}

[Answer to be rated]
{response}
[End of the answer]

Reply with one whole number from 1 (useless) to 10 (could not be better), and nothing else."""
CHOICE = """\
Which of two answers to the conversation is better: more helpful, correct, complete, to the point and honest? Length \
by itself is no merit.

{conversation}

[Answer A]
{first}
[End of answer A]

[Answer B]
{second}
[End of answer B]

Reply with A or B, and nothing else."""
RATINGS = tuple(str(n) for n in range(1, 11))
PRIOR = 0.1
"""Of a tournament: the strengths' standard normal prior counts as this many comparisons, so that who wins all stays
finite."""


class LlmJudge(Component):
    """Scores by any judge of the project. `mode: rating`: one number from 1 to 10 a response; a judge that answers with
    the probabilities of all ten gives their expectation. `mode: tournament`: all pairs of a prompt's responses, in both
    orders, and the log-strengths of a Bradley-Terry model (1952) of the outcomes, with a normal prior; N (N - 1) calls
    a prompt. `template`: a text file of one's own with {conversation} and {response}, or {first} and {second}.

    A reply that can't be read leaves a response without a score (a tournament leaves out that comparison, and scores
    nobody that none is left of). A judge that is down raises JudgeError.
    """

    judge: JudgeField
    mode: Literal["rating", "tournament"] = "rating"
    template: RecipePath | None = None

    @property
    def groupwise(self) -> bool:
        """In a tournament a response's score is one among the others'."""
        return self.mode == "tournament"

    def identity(self) -> dict[str, Any]:
        template = sha256(self._template().encode())
        return {"name": self.name, "mode": self.mode, "judge": identity(self.judge), "template_sha256": template}

    def check(self) -> None:
        wanted = {"conversation", "response"} if self.mode == "rating" else {"conversation", "first", "second"}
        missing = [name for name in sorted(wanted) if "{" + name + "}" not in self._template()]
        if missing:
            raise DataError(f"template {self.template}: expected {{{missing[0]}}} in it for mode: {self.mode}")

    def fit(self, pairs: Sequence[PreferencePair], folder: Path, *, seed: int, advance: Advance) -> dict[str, Any]:
        """Nothing to train."""
        return {}

    def score(self, rows: Sequence[tuple[Messages, str]], ready: Ready) -> list[float | None]:
        ask = ready.ask(self.judge)
        if self.mode == "rating":
            requests = [
                self._request({"conversation": _told(messages), "response": text}, RATINGS) for messages, text in rows
            ]
            return [_rating(reply) for reply in ask(requests)]
        groups: dict[str, list[int]] = {}
        for place, (messages, _) in enumerate(rows):
            groups.setdefault(prompt_id(messages), []).append(place)
        games = [pair for places in groups.values() for a, b in combinations(places, 2) for pair in ((a, b), (b, a))]
        requests = [
            self._request({"conversation": _told(rows[a][0]), "first": rows[a][1], "second": rows[b][1]}, ("A", "B"))
            for a, b in games
        ]
        won = {game: _first_wins(reply) for game, reply in zip(games, ask(requests), strict=True)}
        scores: list[float | None] = [None] * len(rows)
        for places in groups.values():
            for place, strength in zip(places, bradley_terry(places, won), strict=True):
                scores[place] = strength
        return scores

    def _template(self) -> str:
        if self.template is None:
            return RATING if self.mode == "rating" else CHOICE
        return read_bytes(self.template).decode("utf-8", errors="replace")

    def _request(self, values: dict[str, str], choices: tuple[str, ...]) -> JudgeRequest:
        # In one pass: what a model wrote may spell a placeholder too.
        prompt = re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), self._template())
        return JudgeRequest(messages=(Message(role="user", content=prompt),), max_tokens=8, choices=choices)


def _told(messages: Messages) -> str:
    return "\n\n".join(f"[{m.role.capitalize()}]\n{m.content}" for m in messages)


def _rating(reply: JudgeReply) -> float | None:
    if reply.logprobs is not None and set(RATINGS) <= set(reply.logprobs):
        weights = [math.exp(reply.logprobs[rating]) for rating in RATINGS]
        return sum(w * n for n, w in enumerate(weights, start=1)) / sum(weights)
    found = re.fullmatch(r"\W*(\d{1,2})(?:\s*/\s*10)?\W*", reply.text)
    return float(found[1]) if found and 1 <= int(found[1]) <= 10 else None


def _first_wins(reply: JudgeReply) -> float | None:
    """The probability that the first answer is the better one: from log-probabilities of A and B, else 0 or 1."""
    if reply.logprobs is not None and {"A", "B"} <= set(reply.logprobs):
        return 1 / (1 + math.exp(max(-700.0, min(700.0, reply.logprobs["B"] - reply.logprobs["A"]))))
    found = re.fullmatch(r"\W*([AB])\W*", reply.text)
    return None if found is None else float(found[1] == "A")


def bradley_terry(places: Sequence[int], won: dict[tuple[int, int], float | None]) -> list[float | None]:
    """Log-strengths of a prompt's responses (their mean is 0) from the outcomes of their comparisons: won[a, b] is the
    share of the game that a has won, None where it has no outcome. None for one that no outcome is known of."""
    import numpy as np
    from scipy.optimize import minimize

    index = {place: i for i, place in enumerate(places)}
    games = [(index[a], index[b], w) for (a, b), w in won.items() if a in index and b in index and w is not None]
    if not games:
        return [None] * len(places)
    first, second, share = (np.array(column) for column in zip(*games, strict=True))

    def loss(strengths: Any) -> tuple[float, Any]:
        margin = strengths[first] - strengths[second]
        expected = 1 / (1 + np.exp(-margin))
        value = np.logaddexp(0, -margin) @ share + np.logaddexp(0, margin) @ (1 - share)
        slope = np.bincount(first, expected - share, len(places)) - np.bincount(second, expected - share, len(places))
        return value + PRIOR * strengths @ strengths / 2, slope + PRIOR * strengths

    found = minimize(loss, np.zeros(len(places)), jac=True, method="L-BFGS-B").x
    played = set(first.tolist()) | set(second.tolist())
    return [float(x - found.mean()) if i in played else None for i, x in enumerate(found)]
