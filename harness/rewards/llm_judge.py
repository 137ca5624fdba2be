"""A judge that rates responses, as a reward model."""

import re
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from harness.components import JudgeField, RecipePath, identity
from harness.errors import DataError
from harness.files import sha256
from harness.outside import LARGEST_SETTINGS, parse_json, read_text, reason_of
from harness.protocols import Ready, RewardModel
from harness.servers.replies import answer_only, settled, shares
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

    Thoughts are no part of a reply; give a judge that reasons room for them by its `max_tokens`. A response whose
    rating can't be read gets no score. A tournament leaves out unreadable comparisons, and a response without any
    comparison left gets no score. A judge that is down raises JudgeError.
    """

    judge: JudgeField
    """The judge that is asked."""
    mode: Literal["rating", "tournament"] = "rating"
    """How the judge is asked: for a `rating` of each response, or to compare two at a time in a `tournament`."""
    template: RecipePath | None = None
    """Your own text of the question, a file with {conversation} and {response}, or {first} and {second}."""

    @property
    def groupwise(self) -> bool:
        """In a tournament, a response's score depends on the other responses."""
        return self.mode == "tournament"

    def identity(self) -> dict[str, Any]:
        template = sha256(self._template().encode())
        asked = {"name": self.name, "mode": self.mode, "judge": identity(self.judge), "template_sha256": template}
        return {**asked, "reads": "answers"}  # replies with thoughts were read as a whole once

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
            return [_rating(reply) for reply in settled(ask.readable(requests, _rating_problem))]
        groups: dict[str, list[int]] = {}
        for i, (messages, _) in enumerate(rows):
            groups.setdefault(prompt_id(messages), []).append(i)
        games = [pair for indices in groups.values() for a, b in combinations(indices, 2) for pair in ((a, b), (b, a))]
        requests = [self._comparison(rows[a][0], rows[a][1], rows[b][1]) for a, b in games]
        replies = settled(ask.readable(requests, _choice_problem))
        outcomes = {game: _first_wins(reply) for game, reply in zip(games, replies, strict=True)}
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


_NUMBER = r"(?<![\w.-])(\d{1,2}(?:\.\d+)?)(?![\w%-]|\.\d)(?:\s*(?:/|out of)\s*(\d+))?"
_LABEL = r"(?:(?:final|overall|my|the|your)\s+)*(?:rating|score|grade|verdict|answer|choice|winner)(?:\s+is)?"
"""What a reply may name what it says by."""
_MARKUP = r"[\s*_`\"'(){}\[\]:=.,!#>-]*"
_RATED = re.compile(rf"{_MARKUP}(?:{_LABEL}\b{_MARKUP})?{_NUMBER}{_MARKUP}", re.IGNORECASE)
_SCALE = r"(?:\s*\(\s*1\s*(?:-|–|to)\s*10\s*\))?"
_LABELLED = re.compile(
    rf"\b(?:rating|score)\b{_SCALE}(?:\s+(?:is|of))?{_MARKUP}{_NUMBER}|(?=\d+\s*(?:/|out of)\s*10\b){_NUMBER}",
    re.IGNORECASE,
)
_CHOSEN = re.compile(rf"{_MARKUP}(?:(?i:{_LABEL})\b{_MARKUP})?\b([AB])\b(?i:\s+is\s+better)?{_MARKUP}")
_HIGHEST = 10


def _rating_problem(reply: JudgeReply) -> str | None:
    answer = answer_only(reply)
    return None if _rating(answer) is not None else answer.unread or "no rating from 1 to 10"


def _choice_problem(reply: JudgeReply) -> str | None:
    answer = answer_only(reply)
    return None if _first_wins(answer) is not None else answer.unread or "neither A nor B"


def _rating(raw: JudgeReply) -> float | None:
    """The rating: the whole reply, its last line, or what it labels so, in JSON as well. None if several differ."""
    reply = answer_only(raw)
    if weights := shares(reply, RATING_CHOICES):
        return sum(w * n for n, w in enumerate(weights, start=1))
    text = reply.text.strip()
    if (field := _of_json(text, ("rating", "score"))) is not None:
        return _in_range(str(field))
    lines = [line for line in text.splitlines() if line.strip("-*_# ")]
    whole = _RATED.fullmatch(text) or (_RATED.fullmatch(lines[-1]) if lines else None)
    found = [[group for group in match.groups() if group] for match in _LABELLED.finditer(text)]
    found += [[group for group in whole.groups() if group]] if whole else []
    values = {_in_range(*groups) for groups in found}
    return values.pop() if len(values) == 1 else None


def _in_range(number: str, of: str | None = None) -> float | None:
    """A number from 1 to 10, out of ten; None for others."""
    try:
        value = float(number)
    except ValueError:
        return None
    return value if 1 <= value <= _HIGHEST and of in (None, str(_HIGHEST)) else None


def _of_json(text: str, names: Sequence[str]) -> Any:
    """The only field of these names in a reply that is a JSON object; None if there is none."""
    fenced = re.fullmatch(r"```(?:json)?\s*(.*?)\s*```", text, re.DOTALL)
    try:
        value = parse_json(fenced[1] if fenced else text)
    except ValueError:
        return None
    fields = {str(name).lower(): x for name, x in value.items()} if isinstance(value, dict) else {}
    found = [fields[name] for name in names if name in fields and not isinstance(fields[name], bool)]
    return found[0] if len(found) == 1 else None


def _first_wins(raw: JudgeReply) -> float | None:
    """The probability that the first answer is better: from the log-probabilities of A and B, or else 0 or 1."""
    reply = answer_only(raw)
    if weights := shares(reply, ("A", "B")):
        return weights[0]
    text = reply.text.strip()
    if (found := _of_json(text, ("answer", "choice", "winner", "better"))) is not None:
        text = str(found)
    lines = [line for line in text.splitlines() if line.strip("-*_# ")]
    match = _CHOSEN.fullmatch(text) or (_CHOSEN.fullmatch(lines[-1]) if lines else None)
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
