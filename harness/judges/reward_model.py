"""A reward model as a judge of two answers."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr

from harness import outside
from harness.components import RecipePath, RewardField, identity, ready_alone
from harness.errors import JudgeError, ModelError
from harness.files import FITTED, fitted_pairs
from harness.protocols import Judge, RewardModel
from harness.types import Ask, Candidates, JudgeReply, JudgeRequest, Messages, prompt_id

CERTAIN = 1000.0
"""A margin, in nats, at which the other answer has no probability left in double precision."""


class RewardModelJudge(Judge):
    """Compares two answers with any of the project's reward models. The first is better with the Bradley-Terry
    probability (1952) sigmoid((score(first) - score(second)) / temperature); at temperature 0 the higher score wins,
    and equal scores are a tie. The order of the answers makes no difference, and the judge's prompt is not read.

    A reward model that is trained (`trained`, `features`) needs `checkpoint`, the folder written by its training. It
    answers requests to compare two answers, like those of AlpacaEval's log-probability annotators and of MT-bench's
    `mode: pairwise`; others raise JudgeError, since a score can't be translated into a rating. If an answer gets no
    score, the reply is a failed one.
    """

    unkeyed: ClassVar[frozenset[str]] = frozenset({"batch_size", "checkpoint"})
    reads_candidates: ClassVar[bool] = True

    reward: RewardField
    """The reward model."""
    checkpoint: RecipePath | None = None
    """Of a reward model that is trained, the folder that its training wrote."""
    temperature: float = Field(1.0, ge=0)
    """By which differences of scores are divided."""
    batch_size: int = Field(256, ge=1)
    """Requests that are scored together (speed and memory only)."""
    _scores: dict[tuple[str, str], float | None] = PrivateAttr(default_factory=dict)
    _fitted: str | None = PrivateAttr(None)

    def identity(self) -> dict[str, Any]:
        fields = {"name": self.name, "reward": identity(self.reward), "temperature": self.temperature}
        return fields if self.checkpoint is None else {**fields, "fitted_sha256": self._fitted_hash(self.checkpoint)}

    def fitted_on(self) -> frozenset[str]:
        return super().fitted_on() | (frozenset() if self.checkpoint is None else fitted_pairs(self.checkpoint))

    @property
    def requests_at_once(self) -> int:
        return self.batch_size

    @property
    def rule(self) -> str | None:
        return self.reward.rule

    def check(self) -> None:
        if (trained := _to_be_trained(self.reward)) is None:
            if self.checkpoint is not None:
                raise ModelError("judge 'reward_model': checkpoint is for a reward model that is trained; remove it")
        elif trained is not self.reward:
            raise ModelError(f"judge 'reward_model': '{trained}' can't be trained as a part of another; use it alone")
        elif self.checkpoint is None:
            raise ModelError(
                f"judge 'reward_model': '{identity(self.reward)['name']}' must be trained first: set checkpoint "
                "to the folder of the reward stage of a run that trained it"
            )
        elif not self.checkpoint.is_dir():
            raise ModelError(f"judge 'reward_model': checkpoint {self.checkpoint} is not a folder")

    def reply(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        """One reply per request, in order."""
        self.check()
        candidates = [_two_answers(request) for request in requests]
        rows = [
            row
            for c in candidates
            for row in zip((c.messages, c.second_messages or c.messages), c.answers, strict=True)
        ]
        scores = self._score(rows)
        return [
            self._reply(request, first, second)
            for request, first, second in zip(requests, scores[::2], scores[1::2], strict=True)
        ]

    def _reply(self, request: JudgeRequest, first: float | None, second: float | None) -> JudgeReply:
        if first is None or second is None:
            which = "first" if first is None else "second"
            return JudgeReply(text="", price=0.0, error=f"the reward model gave the {which} answer no score")
        certain = CERTAIN * ((first > second) - (first < second))
        margin = (first - second) / self.temperature if self.temperature else certain
        a, b, *neither = request.choices
        logprobs = {a: _log_sigmoid(margin), b: _log_sigmoid(-margin), **dict.fromkeys(neither, -CERTAIN)}
        winner = a if margin > 0 else b if margin < 0 else [a, *neither][-1]
        return JudgeReply(text=winner, logprobs=logprobs, price=0.0)

    def _score(self, rows: Sequence[tuple[Messages, str]]) -> list[float | None]:
        """Scores, each computed once per process: the reference's answers recur with every row."""
        folder = self.checkpoint or Path()
        if self.reward.groupwise:
            ready = ready_alone(self.reward, folder, _no_judge)
            pairs = [self.reward.score(rows[i : i + 2], ready) for i in range(0, len(rows), 2)]
            return [score for pair in pairs for score in pair]
        keys = [(prompt_id(messages), text) for messages, text in rows]
        missing = {key: row for key, row in zip(keys, rows, strict=True) if key not in self._scores}
        if missing:
            scores = self.reward.score(list(missing.values()), ready_alone(self.reward, folder, _no_judge))
            self._scores.update(zip(missing, scores, strict=True))
        return [self._scores[key] for key in keys]

    def _fitted_hash(self, folder: Path) -> str:
        """SHA-256 of the names and contents of the files that training saved."""
        if self._fitted is None:
            digest = hashlib.sha256()
            others = (folder / "artifact.json", folder / FITTED)
            for path in sorted(p for p in folder.rglob("*") if p.is_file() and p not in others):
                digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
                with outside.open_file(path, inside=folder) as file:
                    while piece := file.read(1 << 20):
                        digest.update(piece)
            self._fitted = digest.hexdigest()
        return self._fitted


def _two_answers(request: JudgeRequest) -> Candidates:
    if request.candidates is None:
        raise JudgeError(
            "judge 'reward_model' only compares two answers, but was asked for something else: use another judge "
            "(evaluation.judges gives a benchmark its own)"
        )
    return request.candidates


def _log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x)) if x >= 0 else x - math.log1p(math.exp(x))


def _to_be_trained(reward: RewardModel) -> RewardModel | str | None:
    """The reward model itself, or the name of its part, if that must be trained before it can score; otherwise None."""
    if reward.is_trained:
        return reward
    part = next((p for p in reward.parts if _to_be_trained(p) is not None), None)
    return None if part is None else part.name


def _no_judge(judge: Judge) -> Ask:
    raise JudgeError("judge 'reward_model': its reward model asks a judge; use that judge instead")
