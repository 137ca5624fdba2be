"""The recipe's sections on benchmarks and judges, and on rows whose answers come from files."""

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from harness.benchmark import Benchmark
from harness.components import BenchmarkField, JudgeField, RecipePath
from harness.errors import DataError, nearest, quoted
from harness.protocols import Judge
from harness.recipe.policy import Name
from harness.servers.prices import read_prices
from harness.types import RecipeSection
from harness.variables import Variables


class AnswerSampling(RecipeSection):
    """How checkpoints sample answers to a benchmark's questions. `temperature` None: as the benchmark prescribes."""

    max_new_tokens: int = Field(512, ge=1)
    temperature: float | None = Field(None, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)


class Evaluation(RecipeSection):
    """Benchmarks and their judge. `judges`: other judges for single benchmarks, by the benchmark's name."""

    judge: JudgeField
    benchmarks: list[BenchmarkField] = Field(min_length=1)
    judges: dict[str, JudgeField] = Field(default_factory=dict)
    answers: AnswerSampling = AnswerSampling()
    retries_invalid: int = Field(1, ge=0, le=20)
    """Retries for an unreadable reply, for judges whose replies vary from call to call."""
    prices: RecipePath | None = None
    """A price table (see `harness.servers.prices`) that takes precedence over the user's and the built-in one."""

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
