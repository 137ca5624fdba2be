"""A judge that rates responses, as a reward model."""

import re
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from harness.components import JudgeField, RecipePath, identity
from harness.errors import DataError
from harness.files import sha256
from harness.outside import LARGEST_SETTINGS, read_text, reason_of
from harness.protocols import Ready, RewardModel
from harness.servers.replies import shares
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
RATING_CHOICES = tuple(str(n) for n in range(1, 11))
MOST_REPEATED = 10
"""How often a template may show the same text."""
PRIOR_WEIGHT = 0.1
"""In a tournament, the standard normal prior of the strengths counts as this many comparisons, so that the strength of
a response that wins all of them stays finite."""


class LlmJudge(RewardModel):
    """Scores responses with any judge of the project. `mode: rating`: one number from 1 to 10 per response; if the
    judge returns the probabilities of all ten, their expectation. `mode: tournament`: compares all pairs of a prompt's
    responses, in both orders, with N (N - 1) calls per prompt; the scores are the log-strengths of a Bradley-Terry
    model (1952) of the outcomes, with a normal prior. `template`: the path of your own text file with {conversation}
    and {response}, or {first} and {second}.

    A response whose rating can't be read gets no score. A tournament leaves out unreadable comparisons, and a response
    without any comparison left gets no score. A judge that is down raises JudgeError.
    """

    judge: JudgeField
    mode: Literal["rating", "tournament"] = "rating"
    template: RecipePath | None = None

    @property
    def groupwise(self) -> bool:
        """In a tournament, a response's score depends on the other responses."""
        return self.mode == "tournament"

    def identity(self) -> dict[str, Any]:
        template = sha256(self._template().encode())
        return {"name": self.name, "mode": self.mode, "judge": identity(self.judge), "template_sha256": template}

    def check(self) -> None:
        names = {"conversation", "response"} if self.mode == "rating" else {"conversation", "first", "second"}
        missing = [name for name in sorted(names) if "{" + name + "}" not in self._template()]
        if missing:
            raise DataError(f"template {self.template}: expected {{{missing[0]}}} in it for mode: {self.mode}")
        for name in names:
            if (count := self._template().count("{" + name + "}")) > MOST_REPEATED:
                raise DataError(f"template {self.template}: {{{name}}} {count} times; expected at most {MOST_REPEATED}")

    def fit(self, pairs: Sequence[PreferencePair], folder: Path, *, seed: int, advance: Advance) -> dict[str, Any]:
        """Nothing to train."""
        return {}

    def score(self, rows: Sequence[tuple[Messages, str]], ready: Ready) -> list[float | None]:
        ask = ready.ask(self.judge)
        if self.mode == "rating":
            requests = [
                self._request({"conversation": _transcript(messages), "response": text}, RATING_CHOICES)
                for messages, text in rows
            ]
            return [_rating(reply) for reply in ask(requests)]
        groups: dict[str, list[int]] = {}
        for i, (messages, _) in enumerate(rows):
            groups.setdefault(prompt_id(messages), []).append(i)
        games = [pair for indices in groups.values() for a, b in combinations(indices, 2) for pair in ((a, b), (b, a))]
        requests = [self._comparison(rows[a][0], rows[a][1], rows[b][1]) for a, b in games]
        outcomes = {game: _first_wins(reply) for game, reply in zip(games, ask(requests), strict=True)}
        scores: list[float | None] = [None] * len(rows)
        for indices in groups.values():
            for i, strength in zip(indices, bradley_terry(indices, outcomes), strict=True):
                scores[i] = strength
        return scores

    def _comparison(self, messages: Messages, first: str, second: str) -> JudgeRequest:
        return self._request({"conversation": _transcript(messages), "first": first, "second": second}, ("A", "B"))

    def _template(self) -> str:
        if self.template is None:
            return RATING if self.mode == "rating" else CHOICE
        try:
            return read_text(self.template, LARGEST_SETTINGS)
        except (OSError, ValueError) as error:
            reason = reason_of(error)
            raise DataError(f"template {self.template} can't be read ({reason}); expected a text file") from None

    def _request(self, values: dict[str, str], choices: tuple[str, ...]) -> JudgeRequest:
        # In one pass, since a model's text may itself contain a placeholder.
        prompt = re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), self._template())
        return JudgeRequest(messages=(Message(role="user", content=prompt),), max_tokens=8, choices=choices)


def _transcript(messages: Messages) -> str:
    return "\n\n".join(f"[{m.role.capitalize()}]\n{m.content}" for m in messages)


def _rating(reply: JudgeReply) -> float | None:
    if weights := shares(reply, RATING_CHOICES):
        return sum(w * n for n, w in enumerate(weights, start=1))
    match = re.fullmatch(r"\W*([0-9]{1,2})(?:\s*/\s*10)?\W*", reply.text)
    return float(match[1]) if match and 1 <= int(match[1]) <= 10 else None


def _first_wins(reply: JudgeReply) -> float | None:
    """The probability that the first answer is better: from the log-probabilities of A and B, or else 0 or 1."""
    if weights := shares(reply, ("A", "B")):
        return weights[0]
    match = re.fullmatch(r"\W*([AB])\W*", reply.text)
    return None if match is None else float(match[1] == "A")


def bradley_terry(indices: Sequence[int], outcomes: dict[tuple[int, int], float | None]) -> list[float | None]:
    """Log-strengths of a prompt's responses (their mean is 0) from the outcomes of their comparisons: outcomes[a, b] is
    a's share of the win, None without an outcome. A response without any outcome gets None."""
    import numpy as np
    from scipy.optimize import minimize

    place = {index: i for i, index in enumerate(indices)}
    games = [(place[a], place[b], w) for (a, b), w in outcomes.items() if a in place and b in place and w is not None]
    if not games:
        return [None] * len(indices)
    first, second, share = (np.array(column) for column in zip(*games, strict=True))

    def loss(strengths: Any) -> tuple[float, Any]:
        margin = strengths[first] - strengths[second]
        expected = 1 / (1 + np.exp(-margin))
        value = np.logaddexp(0, -margin) @ share + np.logaddexp(0, margin) @ (1 - share)
        slope = np.bincount(first, expected - share, len(indices)) - np.bincount(second, expected - share, len(indices))
        return value + PRIOR_WEIGHT * strengths @ strengths / 2, slope + PRIOR_WEIGHT * strengths

    strengths = minimize(loss, np.zeros(len(indices)), jac=True, method="L-BFGS-B").x
    played = set(first.tolist()) | set(second.tolist())
    return [float(x - strengths.mean()) if i in played else None for i, x in enumerate(strengths)]
