"""A reward model as a judge of two answers."""

import hashlib
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr

from harness.components import Component, RecipePath, RewardField, identity
from harness.errors import JudgeError, ModelError
from harness.protocols import Ready
from harness.protocols import RewardModel as Scores
from harness.types import Ask, Candidates, JudgeReply, JudgeRequest, Messages, prompt_id


class RewardModel(Component):
    """Says that the first of two answers is better with the Bradley-Terry probability (1952) of any of the project's
    reward models: sigmoid((score(first) - score(second)) / temperature). Which answer is shown first makes no
    difference, and the judge's prompt is not read.

    `reward`: the reward model; one that is trained (`trained`, `features`) needs `checkpoint`, the folder that its
    training has filled. It answers requests that show two answers and allow two replies, as AlpacaEval's annotators by
    log-probabilities make them; others raise JudgeError: what a score is worth as a rating nobody knows. An answer
    without a score is a failed reply. `batch_size` (requests scored together) changes speed and memory only.
    """

    unkeyed: ClassVar[frozenset[str]] = frozenset({"batch_size", "checkpoint"})
    reads_candidates: ClassVar[bool] = True

    reward: RewardField
    checkpoint: RecipePath | None = None
    temperature: float = Field(1.0, gt=0)
    batch_size: int = Field(256, ge=1)
    _scores: dict[tuple[str, str], float | None] = PrivateAttr(default_factory=dict)
    _fitted: str | None = PrivateAttr(None)

    def identity(self) -> dict[str, Any]:
        found = {"name": self.name, "reward": identity(self.reward), "temperature": self.temperature}
        return found if self.checkpoint is None else {**found, "fitted_sha256": self._fitted_hash(self.checkpoint)}

    def check(self) -> None:
        if (trained := _to_be_trained(self.reward)) is None:
            if self.checkpoint is not None:
                raise ModelError("judge 'reward_model': checkpoint is for a reward model that is trained; remove it")
        elif trained is not self.reward:
            raise ModelError(f"judge 'reward_model': '{trained}' can't be trained as a part of another; use it alone")
        elif self.checkpoint is None:
            raise ModelError(
                f"judge 'reward_model': '{identity(self.reward)['name']}' is trained: give checkpoint, the folder of "
                "a reward stage of a run that trained it"
            )
        elif not self.checkpoint.is_dir():
            raise ModelError(f"judge 'reward_model': checkpoint {self.checkpoint} is no folder")

    def reply(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        """One reply a request, in order."""
        self.check()
        shown = [_compared(request) for request in requests]
        rows = [(c.messages, text) for c in shown for text in c.answers]
        scores = self._score(rows)
        return [
            self._reply(request, first, second)
            for request, first, second in zip(requests, scores[::2], scores[1::2], strict=True)
        ]

    def _reply(self, request: JudgeRequest, first: float | None, second: float | None) -> JudgeReply:
        if first is None or second is None:
            which = "first" if first is None else "second"
            return JudgeReply(text="", price=0.0, error=f"the reward model gave the {which} answer no score")
        margin = (first - second) / self.temperature
        logprobs = {choice: _log_sigmoid(m) for choice, m in zip(request.choices, (margin, -margin), strict=True)}
        return JudgeReply(text=request.choices[0 if margin >= 0 else 1], logprobs=logprobs, price=0.0)

    def _score(self, rows: Sequence[tuple[Messages, str]]) -> list[float | None]:
        """Each answer is scored once in a process: a reference stands beside every row's answers."""
        folder = self.checkpoint or Path()
        if getattr(self.reward, "groupwise", False):
            ready = _ready(self.reward, folder)
            pairs = [self.reward.score(rows[i : i + 2], ready) for i in range(0, len(rows), 2)]
            return [score for pair in pairs for score in pair]
        keys = [(prompt_id(messages), text) for messages, text in rows]
        missing = {key: row for key, row in zip(keys, rows, strict=True) if key not in self._scores}
        if missing:
            scores = self.reward.score(list(missing.values()), _ready(self.reward, folder))
            self._scores.update(zip(missing, scores, strict=True))
        return [self._scores[key] for key in keys]

    def _fitted_hash(self, folder: Path) -> str:
        """SHA-256 of the names and contents of what training saved."""
        if self._fitted is None:
            digest = hashlib.sha256()
            for path in sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / "artifact.json"):
                digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
                digest.update(path.read_bytes())
            self._fitted = digest.hexdigest()
        return self._fitted


def _compared(request: JudgeRequest) -> Candidates:
    if request.candidates is None or len(request.choices) != 2:
        raise JudgeError(
            "judge 'reward_model' compares two answers of a benchmark, and was asked for something else: name another "
            "judge (evaluation.judges gives a benchmark its own)"
        )
    return request.candidates


def _log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x)) if x >= 0 else x - math.log1p(math.exp(x))


def _parts(reward: object) -> Sequence[Scores]:
    found: Sequence[Scores] = getattr(reward, "parts", ())
    return found


def _to_be_trained(reward: object) -> object | None:
    """The reward model itself, or the name of the part of it, that scores nothing before it is trained."""
    if getattr(reward, "is_trained", False):
        return reward
    part = next((p for p in _parts(reward) if _to_be_trained(p) is not None), None)
    return None if part is None else identity(part)["name"]


def _ready(reward: object, folder: Path) -> Ready:
    parts = tuple(partial(_scores_of, part, folder) for part in _parts(reward))
    return Ready(folder, lambda _: None, _no_judge, parts)


def _scores_of(reward: Scores, folder: Path, rows: Sequence[tuple[Messages, str]]) -> list[float | None]:
    return reward.score(rows, _ready(reward, folder))


def _no_judge(judge: object) -> Ask:
    raise JudgeError("judge 'reward_model': its reward model asks a judge; name that judge instead")
