"""The recipe's sections on benchmarks and judges, and on rows whose answers come from files."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from harness.benchmark import Benchmark
from harness.boards.gold.verdicts import read_verdicts
from harness.components import BenchmarkField, JudgeField, RecipePath, RewardField
from harness.errors import DataError, RecipeError, nearest, quoted
from harness.protocols import Judge
from harness.recipe.policy import Name
from harness.recipe.training import Point
from harness.servers.adapting.continuing import Continuing, OfEngine
from harness.servers.prices import read_prices
from harness.serving.engine import Named
from harness.stats.ppi import FEWEST_LABELS
from harness.types import RecipeSection
from harness.variables import Variables


class AnswerSampling(RecipeSection):
    """How checkpoints sample answers to a benchmark's questions. `temperature` None: as the benchmark prescribes.
    `max_new_tokens`: tokens of an answer, at which it is cut. `max_thinking_tokens`: tokens of a thought, at which it
    is closed, apart from the answer's; None: a thought has its tokens from `max_new_tokens`."""

    max_new_tokens: int = Field(512, ge=1)
    max_thinking_tokens: int | None = Field(None, ge=0)
    temperature: float | None = Field(None, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus sampling: the share of probability that tokens are drawn from."""
    generator: OfEngine | None = None
    """Ask an engine instead of decoding in process: `{name: openai, engine: NAME}`. The same tokens go in; sampled
    answers are others, and greedy ones may round differently."""

    @model_validator(mode="after")
    def _has_one_budget(self) -> "AnswerSampling":
        if self.generator is not None and self.max_thinking_tokens is not None:
            raise ValueError("max_thinking_tokens needs answers in process: leave it out, or generator")
        return self

    @property
    def most_tokens(self) -> int:
        """Tokens of the longest answer with its thought."""
        return self.max_new_tokens + (self.max_thinking_tokens or 0)

    def identity(self) -> dict[str, Any]:
        """Its part of a stage key."""
        unset = {"max_thinking_tokens"} if self.max_thinking_tokens is None else set()
        engine = self.engine
        served = {"served_by": engine.engine.name} if engine else {}
        return self.model_dump(mode="json", exclude={"generator", *unset}) | served

    @property
    def parallel_requests(self) -> int:
        """Answers that are written at a time."""
        return self.generator.parallel_requests if self.generator else 1

    @property
    def engine(self) -> Named | None:
        """The engine that is asked; None: answers are decoded in process."""
        return self.generator.engine if isinstance(self.generator, Continuing) else None


class Gold(RecipeSection):
    """Verdicts that count as true, on a random part of the prompts. `judge`: a stronger judge, which is asked.
    `prompts`: about how many of each benchmark, the same for all rows. `file`: instead of a judge, a file of verdicts,
    as `harness label` writes them."""

    judge: JudgeField | None = None
    prompts: int = Field(80, ge=FEWEST_LABELS)
    file: RecipePath | None = None

    @field_validator("file")
    @classmethod
    def _readable(cls, value: Any) -> Any:
        try:
            if value is not None:
                read_verdicts(value)
        except DataError as error:
            raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _one_source(self) -> "Gold":
        if (self.judge is None) == (self.file is None):
            raise ValueError("expected either a judge or a file of gold verdicts")
        if self.judge is not None and self.judge.recorded:
            raise ValueError("'replay' has no verdicts of its own to give here; give a file, or another judge")
        if self.file is not None and "prompts" in self.model_fields_set:
            raise ValueError("prompts is for a judge: a file holds the prompts that were drawn")
        return self


MOST_POINTS = 50
"""Checkpoints of one training. Each is answered and judged like a row."""


class Checkpoints(RecipeSection):
    """Which checkpoints of each training are evaluated besides the last one. A list is `at`. `at`: shares of the
    training's optimizer steps; 1.0 is the last one, which is the training's own row. `every`: a number of steps."""

    at: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    every: int | None = Field(None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _list_of_shares(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple | dict | Checkpoints):
            raise ValueError("expected shares of the training, such as [0.25, 0.5, 1.0], or {every: STEPS}")
        return {"at": value} if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _one_way(self) -> "Checkpoints":
        if bool(self.at) == (self.every is not None):
            raise ValueError("expected shares of the training, such as [0.25, 0.5, 1.0], or {every: STEPS}")
        names = [Point(share=share).name for share in self.at if share < 1]
        if len(set(names)) < len(self.at) - self.at.count(1.0) or self.at.count(1.0) > 1:
            raise ValueError("expected each share once, and shares that differ in their first six digits")
        if len(self.at) > MOST_POINTS:
            raise ValueError(f"expected at most {MOST_POINTS} checkpoints; got {len(self.at)}")
        return self

    def points(self, steps: int) -> tuple[Point, ...]:
        """The checkpoints before the last one, in order. `steps`: those of the training, as far as a plan knows. Raises
        ValueError for too many."""
        if self.every is None:
            return tuple(Point(share=share) for share in sorted(self.at) if share < 1)
        if (steps - 1) // self.every > MOST_POINTS:
            raise ValueError(
                f"every {self.every} of {steps} steps would be {(steps - 1) // self.every} checkpoints; expected at "
                f"most {MOST_POINTS}: give a larger number of steps"
            )
        return tuple(Point(steps=step) for step in range(self.every, steps, self.every))


CHECKPOINT_AXIS = "checkpoint"
"""What `Select.over` calls the checkpoints of a training."""


class Select(RecipeSection):
    """Which of each method's candidates is reported: boards say how many it had. `metric`: the figure whose mean over
    training seeds decides. `prompts`: the share of the benchmark's prompts, drawn at random, on which it decides;
    boards report on the others. `over`: what is chosen: `checkpoint`, and names of the sweep's axes, such as
    `learning_rate`."""

    metric: str
    prompts: float = Field(0.2, gt=0, lt=1)
    over: tuple[str, ...] = Field((CHECKPOINT_AXIS,), min_length=1)


class Evaluation(RecipeSection):
    """Benchmarks and their judge, which only those that compute their figures from the answers can do without.
    `judges`: other judges for single benchmarks, by the benchmark's name. `gold`: verdicts on a part of the prompts
    that correct the judge's. `gold_reward`: a reward that counts as the truth, by which all rows' answers are scored
    beside the reward model that made the data; no training sees it. `kl`: measure how far training has moved each
    policy from where it started, along its own answers."""

    judge: JudgeField | None = None
    """Who compares or grades answers."""
    benchmarks: list[BenchmarkField] = Field(default_factory=list, min_length=1)
    """What answers are measured on; none: `checkpoints` are measured on held-out pairs alone."""
    judges: dict[str, JudgeField] = Field(default_factory=dict)
    answers: AnswerSampling = AnswerSampling()
    """How checkpoints answer."""
    retries_invalid: int = Field(1, ge=0, le=20)
    """Retries for an unreadable reply, for judges whose replies vary from call to call."""
    prices: RecipePath | None = None
    """A price table (see `harness.servers.prices`) that takes precedence over the user's and the built-in one."""
    gold: Gold | None = None
    gold_reward: RewardField | None = None
    kl: bool = False
    """Measure KL(policy || policy before training) along each trained row's own answers."""
    checkpoints: Checkpoints | None = None
    select: Select | None = None

    @field_validator("prices")
    @classmethod
    def _readable(cls, value: Any) -> Any:
        try:
            if value is not None:
                read_prices(value)
        except DataError as error:
            raise ValueError(str(error)) from None
        return value

    @field_validator("benchmarks")
    @classmethod
    def _each_once(cls, value: list[Any]) -> list[Any]:
        names = [b.name for b in value]
        if repeated := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"expected each benchmark once, because figures are named after it; repeated: {repeated}")
        return value

    @field_validator("judges")
    @classmethod
    def _known_benchmarks(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        names = [b.name for b in info.data.get("benchmarks", [])]
        if unknown := sorted(value.keys() - names) if names else []:
            raise ValueError(f"no benchmark {quoted(unknown[0])} in evaluation; {nearest(unknown[0], names)}")
        if any(judge.recorded for judge in value.values()):
            raise ValueError("'replay' applies to all benchmarks or none: set it as evaluation.judge")
        return value

    @model_validator(mode="after")
    def _measures_something(self) -> "Evaluation":
        if not self.benchmarks and (self.checkpoints is None or self.model_fields_set != {"checkpoints"}):
            raise ValueError(
                "benchmarks: expected at least one, such as {name: alpaca_eval}; only checkpoints can do without, "
                "which are then measured on held-out pairs"
            )
        return self

    @model_validator(mode="after")
    def _judged_by_somebody(self) -> "Evaluation":
        unjudged = [b.name for b in self.judged if self.judge is None and b.name not in self.judges]
        if unjudged:
            raise ValueError(f"{unjudged[0]} needs a judge: give judge: {{name: ...}}")
        if strange := sorted(self.judges.keys() & {b.name for b in self.benchmarks if not b.judged}):
            raise ValueError(f"judges.{strange[0]}: this benchmark computes its figures without a judge; leave it out")
        return self

    @model_validator(mode="after")
    def _can_choose(self) -> "Evaluation":
        """What is chosen by is a mean over the prompts of a benchmark here, and better in one direction."""
        if self.select is None:
            return self
        metric = self.select.metric
        figures = [f for b in self.benchmarks for f in b.figures_of(b.model_dump(mode="json"))]
        able = [
            f.metric for f in figures if f.pairing and f.pairing.kind != "resamples" and f.higher_is_better is not None
        ]
        if metric not in able:
            raise ValueError(
                f"select.metric: can't choose by {quoted(metric)}; {nearest(metric, able, 'expected one of')}"
            )
        if CHECKPOINT_AXIS in self.select.over and self.checkpoints is None:
            raise ValueError("select.over: checkpoint needs checkpoints, such as checkpoints: [0.25, 0.5, 1.0]")
        if self.gold is not None:
            raise ValueError("select: gold verdicts are about all prompts of a benchmark; leave out gold, or select")
        return self

    @property
    def judged(self) -> list[Benchmark]:
        """The benchmarks on which a judge is asked."""
        return [benchmark for benchmark in self.benchmarks if benchmark.judged]

    @property
    def is_replay(self) -> bool:
        """Whether the judge only replays recorded verdicts."""
        return self.judge is not None and self.judge.recorded

    def judge_of(self, benchmark: Benchmark) -> Judge:
        """The judge of a benchmark that has one."""
        judge = self.judges.get(benchmark.name, self.judge)
        if judge is None:
            raise RecipeError(f"evaluation.judge: {benchmark.name} has no judge")
        return judge


class RecordedFile(RecipeSection):
    """A file of recorded answers or verdicts, as its path alone or with the model and the judge that are meant, if it
    has several."""

    file: RecipePath
    """The file, plain or .gz."""
    model: str | None = Field(None, min_length=1)
    """Whose answers are meant, in a file with several models'."""
    judge: str | None = Field(None, min_length=1)
    """Whose verdicts are meant, in a file with several judges'."""

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        return {"file": value} if isinstance(value, str | Path | Variables) else value


class System(RecipeSection):
    """A row whose answers come from files in the benchmarks' public formats, plain or .gz, one per benchmark.
    `verdicts`: files of recorded verdicts, for the judge `replay`."""

    id: Name
    """The row's name on boards."""
    answers: dict[str, RecordedFile] = Field(min_length=1)
    """A file of answers for each benchmark, by its name."""
    verdicts: dict[str, RecordedFile] = Field(default_factory=dict)

    @field_validator("answers")
    @classmethod
    def _answers_have_no_judge(cls, value: dict[str, RecordedFile]) -> dict[str, RecordedFile]:
        if any(recorded.judge for recorded in value.values()):
            raise ValueError("answers have no judge; name it at the verdicts")
        return value
