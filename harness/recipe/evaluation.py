"""The recipe's sections on benchmarks and judges, and on rows whose answers come from files."""

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from harness.benchmark import Benchmark
from harness.boards.gold.verdicts import read_verdicts
from harness.components import BenchmarkField, GeneratorField, JudgeField, RecipePath
from harness.errors import DataError, nearest, quoted
from harness.protocols import Generator, Judge
from harness.recipe.policy import Name
from harness.servers.adapting.continuing import Continuing
from harness.servers.prices import read_prices
from harness.serving.engine import Named
from harness.stats.ppi import FEWEST_LABELS
from harness.types import RecipeSection
from harness.variables import Variables


class AnswerSampling(RecipeSection):
    """How checkpoints sample answers to a benchmark's questions. `temperature` None: as the benchmark prescribes.
    `max_thinking_tokens`: tokens of a thought, at which it is closed, apart from the answer's `max_new_tokens`; None: a
    thought has its tokens from those."""

    max_new_tokens: int = Field(512, ge=1)
    max_thinking_tokens: int | None = Field(None, ge=0)
    temperature: float | None = Field(None, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    generator: GeneratorField | None = None
    """Ask an engine instead of decoding in process: `{name: openai, engine: NAME}`. The same tokens go in; sampled
    answers are others, and greedy ones may round differently."""

    @field_validator("generator")
    @classmethod
    def _takes_tokens(cls, value: Generator | None) -> Generator | None:
        if value is None:
            return value
        if not isinstance(value, Continuing) or value.engine is None:
            raise ValueError("expected {name: openai, engine: NAME}, an engine of runtime.engines")
        if value.engine.engine.name not in ("vllm", "command"):
            raise ValueError(f"answers need an engine that takes token ids: vllm, not {value.engine.engine.name}")
        return value

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
    """Verdicts that count as true, on a random part of the prompts. `judge`: a stronger judge, which is asked about
    `prompts` of each benchmark, the same for all rows; or `file`: verdicts in it, as `harness label` writes them."""

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


class Evaluation(RecipeSection):
    """Benchmarks and their judge. `judges`: other judges for single benchmarks, by the benchmark's name. `gold`:
    verdicts on a part of the prompts that correct the judge's."""

    judge: JudgeField
    benchmarks: list[BenchmarkField] = Field(min_length=1)
    judges: dict[str, JudgeField] = Field(default_factory=dict)
    answers: AnswerSampling = AnswerSampling()
    retries_invalid: int = Field(1, ge=0, le=20)
    """Retries for an unreadable reply, for judges whose replies vary from call to call."""
    prices: RecipePath | None = None
    """A price table (see `harness.servers.prices`) that takes precedence over the user's and the built-in one."""
    gold: Gold | None = None

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

    def judge_of(self, benchmark: Benchmark) -> Judge:
        """The judge of a benchmark."""
        return self.judges.get(benchmark.name, self.judge)


class RecordedFile(RecipeSection):
    """A file of recorded answers or verdicts, as its path alone or with the model and the judge that are meant, if it
    has several."""

    file: RecipePath
    model: str | None = Field(None, min_length=1)
    judge: str | None = Field(None, min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        return {"file": value} if isinstance(value, str | Path | Variables) else value


class System(RecipeSection):
    """A row whose answers come from files in the benchmarks' public formats, plain or .gz, one per benchmark.
    `verdicts`: files of recorded verdicts, for the judge `replay`."""

    id: Name
    answers: dict[str, RecordedFile] = Field(min_length=1)
    verdicts: dict[str, RecordedFile] = Field(default_factory=dict)

    @field_validator("answers")
    @classmethod
    def _answers_have_no_judge(cls, value: dict[str, RecordedFile]) -> dict[str, RecordedFile]:
        if any(recorded.judge for recorded in value.values()):
            raise ValueError("answers have no judge; name it at the verdicts")
        return value
