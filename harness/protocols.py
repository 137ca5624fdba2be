"""The seams: what a component of each kind must do. One small protocol a kind.

Every component is also a `harness.components.Component`: a frozen pydantic model whose fields are what a recipe may
give it, with `identity()` (what its results depend on) and `check()` (a cheap look before anything heavy loads).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from harness.types import (
    Advance,
    Answer,
    Ask,
    Completion,
    JudgeReply,
    JudgeRequest,
    Messages,
    Metric,
    PreferencePair,
    Question,
    Sampling,
    Verdict,
)

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


class Seed(Protocol):
    """A seed preference set.

    Each pair's `source` is the set's name. `licence` is the data's, as it is usually written (None: not known) and
    `home` says where it is published (None: nowhere): the card of a dataset made from it names both.
    """

    @property
    def licence(self) -> str | None: ...

    @property
    def home(self) -> str | None: ...

    @property
    def quick(self) -> bool:
        """Whether `pairs` answers in a moment: nothing to download and no large file. Only then does validating a
        recipe read all rows."""
        ...

    def pairs(self) -> list[PreferencePair]:
        """All rows, in file order. Raises DataError naming the line of a row that can't be read."""
        ...

    def left_out(self) -> dict[str, int]:
        """How many rows `pairs` left out, by reason."""
        ...


class SampleRequest(NamedTuple):
    """Samples that are wanted of one prompt. A prompt is a conversation, whose last message is continued where it is
    the assistant's, or a text that is continued as it stands (for base models). `samples`: which ones, counted from 0;
    sample k has a random stream of its own, whatever else is asked for with it."""

    prompt: Messages | str
    sampling: Sampling
    samples: tuple[int, ...]


class Sampled(NamedTuple):
    """A finished sample: the place of its request, which of its samples it is, and the text."""

    request: int
    sample: int
    completion: Completion


Arrived = Callable[[Sequence[Sampled]], None]
"""Takes samples as they are finished. It may be called from several threads; a batch that was computed together is
handed over in one call."""


class Generator(Protocol):
    """Samples responses to prompts."""

    def generate(self, requests: Sequence[SampleRequest], *, seed: int, arrived: Arrived) -> None:
        """Hand every wanted sample to `arrived`, once. Same arguments and same machine: same texts, where the generator
        is in process. Raises ModelError, or JudgeError for a server that refuses; what arrived until then counts."""
        ...


Keep = Callable[[Sequence[tuple[int, float | None]]], None]
"""Takes scores as they are had: the places of their rows, and what they are. One call, one batch."""

ScoreRows = Callable[[Sequence[tuple[Messages, str]]], list[float | None]]
"""Scores (prompt, response) rows, in order; None where one could not be scored."""


@dataclass(frozen=True)
class Ready:
    """What a reward model scores with: the folder that its `fit` has filled, a scorer for each of its `parts`, how to
    ask a judge (what was answered before is not asked again), and where scores may be put as they are had, so that a
    run that is killed loses no more than a batch of them; all are returned in the end either way."""

    folder: "Path"
    advance: Advance
    ask: "Callable[[Judge], Ask]"
    parts: tuple[ScoreRows, ...] = ()
    keep: Keep = lambda rows: None


class RewardModel(Protocol):
    """Scores responses; higher is better. Only differences between responses to one prompt mean anything.

    A reward model that is made from others has them in `parts` (a property; where there is none, there are no parts):
    each is made ready, admitted and journaled by itself. One whose score depends on what stands beside a response
    says so with `groupwise = True`: it is then given all responses of a prompt in one call, one after the other.
    """

    def fit(self, pairs: Sequence[PreferencePair], folder: "Path", *, seed: int, advance: Advance) -> dict[str, Any]:
        """Train on the seed's training pairs and save into `folder`; what it reports goes into the artifact. A reward
        model that needs no training saves nothing and reports {}."""
        ...

    def score(self, rows: Sequence[tuple[Messages, str]], ready: Ready) -> list[float | None]:
        """One score a (prompt, response), in order; None where it could not be scored."""
        ...


class RankedLogps(NamedTuple):
    """What every loss is a function of; all [B, N] (B prompts, N responses, padded on the right).

    logps: summed response log-probabilities under the policy, float32, with gradient (natural log).
    ref_logps: the same under the reference. scores: reward-model scores. lengths: response tokens, end token included.
    mask: True where a response is real. Padded places hold zeros. draws: uniform numbers in [0, 1), new every epoch and
    the same for the same (seed, epoch, example): what a loss that samples pairs does so by, so that it stays a pure
    function.
    """

    logps: "Tensor"
    ref_logps: "Tensor"
    scores: "Tensor"
    lengths: "Tensor"
    mask: "Tensor"
    draws: "Tensor | None" = None


class Loss(Protocol):
    """A preference loss over ranked responses: a pure function."""

    def __call__(self, batch: RankedLogps) -> "tuple[Tensor, Tensor]":
        """(losses [B], valid [B] bool): a prompt without a strict preference is not valid, its loss is 0 and it is
        left out of the batch's mean. What is valid depends on scores and mask alone."""
        ...


class Judge(Protocol):
    """Replies to judge prompts: just another sampler.

    A judge with `resamples = True` may reply otherwise when it is asked the same again. One with `takes_tab = True` is
    given one request a call and a `harness.spending.Tab`, which it tells of every call that it makes to a server.
    """

    def reply(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        """One reply a request, in order. `batch` says how many requests are worth giving at once."""
        ...


class Judged(NamedTuple):
    """A row of a board on one benchmark: its id, its answers, the reference's (where that is a row), the verdicts."""

    row: str
    answers: Sequence[Answer]
    reference: Sequence[Answer]
    verdicts: Sequence[Verdict]


class Benchmark(Protocol):
    """A set of questions, how a judge is asked about the answers, and what is made of its replies."""

    def prepare(self) -> None:
        """Fetch and check all files that will be needed. Raises DataError."""
        ...

    def questions(self) -> list[Question]:
        """The questions to answer, in order."""
        ...

    def all_prompts(self) -> list[tuple[str, str]]:
        """(id, text) of every prompt of the whole set, whatever part of it is asked: what must not be trained on."""
        ...

    def question_identity(self) -> dict[str, Any]:
        """What the questions are, as JSON-able data: the part of `identity()` that answers depend on."""
        ...

    def verdicts(self, answers: Sequence[Answer], reference: Sequence[Answer], ask: Ask) -> list[Verdict]:
        """The judge's verdicts on `answers`, one a question (or one a turn); `reference` has the reference's answers,
        where the benchmark compares against one."""
        ...

    def metrics(
        self, answers: Sequence[Answer], reference: Sequence[Answer], verdicts: Sequence[Verdict]
    ) -> dict[str, Metric]:
        """Figures by name (`<benchmark>.<metric>`), with intervals."""
        ...

    def recorded_answers(self, path: "Path") -> tuple[list[Answer], dict[str, int]]:
        """(a model's answers from a file in the benchmark's public format, counts of what is odd about it). Raises
        DataError."""
        ...

    def recorded_verdicts(self, path: "Path", answers: Sequence[Answer]) -> tuple[list[Verdict], dict[str, int], str]:
        """(verdicts on `answers` from a file in the public format, one a question or turn; counts of what is odd about
        it; who gave them). Raises DataError."""
        ...

    def public_files(self, judge: str, rows: Sequence[Judged]) -> dict[str, str]:
        """Answers and verdicts of all rows in the public formats: text by path in a board's folder, laid out as the
        benchmark's own tools look for them. `judge`: its name."""
        ...
