"""The recipe: what a run is, checked once and then passed around as objects. `recipe_file` reads it from YAML."""

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from harness.components import BenchmarkField, JudgeField, ModelReference, RecipePath
from harness.errors import DataError, RecipeError, nearest, quoted
from harness.models import Dtype
from harness.protocols import Benchmark, Judge, Loss
from harness.recipe_data import Data, PromptGeneration, ResponseGeneration
from harness.recipe_metrics import GateMetric
from harness.recipe_training import Accelerate, Lora, Runtime, Section, Sft, Training
from harness.spending import read_prices
from harness.trl_loss import Engine, TrlLoss, parse_method_loss

__all__ = [
    "Accelerate",
    "AnswerSampling",
    "Data",
    "Evaluation",
    "Lora",
    "Match",
    "Method",
    "Policy",
    "PromptGeneration",
    "Recipe",
    "ResponseGeneration",
    "Runtime",
    "Section",
    "Sft",
    "Training",
]


def _safe_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", value):
        raise ValueError("expected letters, digits, '.', '_' or '-', starting with a letter or digit, at most 80")
    return value


Name = Annotated[str, BeforeValidator(lambda v: _safe_name(v) if isinstance(v, str) else v)]
"""A name that becomes a folder or file name."""


class Policy(Section):
    """The model that is trained, and the reference that it is held to."""

    model: ModelReference
    revision: str | None = None
    dtype: Dtype = "bfloat16"

    @field_validator("dtype")
    @classmethod
    def _trainable(cls, value: Dtype) -> Dtype:
        if value == "float16":
            raise ValueError("small gradients are lost in float16; expected bfloat16 or float32")
        return value


Match = Literal["steps", "prompts", "tokens"]
"""What two trainings may have in common: optimizer steps, prompts seen, or tokens put through the policy."""


class Method(Section):
    """One row of the board (with training seeds, one a seed): a loss, and what of `training` it overrides. With
    `engine: trl` the loss is one of TRL's, and TRL's DPOTrainer trains on pairs drawn from the same ranked data:
    `batch_size` then counts pairs."""

    id: Name
    engine: Engine = "harness"
    loss: Annotated[Loss | TrlLoss, PlainValidator(parse_method_loss)]
    training: dict[str, Any] = Field(default_factory=dict)
    match: Match | None = None
    """Train for as many of these as `match_to` did, instead of for `epochs`."""
    match_to: Name | None = None
    """The method to be matched; None: the recipe's first."""

    @property
    def label(self) -> str:
        """What trained the row, as a board names it."""
        return self.loss.label if isinstance(self.loss, TrlLoss) else self.loss.name  # type: ignore[attr-defined]


class AnswerSampling(Section):
    """How checkpoints answer a benchmark's questions. `temperature` None: the benchmark's own rule."""

    max_new_tokens: int = Field(512, ge=1)
    temperature: float | None = Field(None, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)


class Evaluation(Section):
    """Benchmarks, and the judge that they ask; `judges` gives a benchmark, by its name, one of its own."""

    judge: JudgeField
    benchmarks: list[BenchmarkField] = Field(min_length=1)
    judges: dict[str, JudgeField] = Field(default_factory=dict)
    answers: AnswerSampling = AnswerSampling()
    retries_invalid: int = Field(1, ge=0, le=20)
    """How often a reply that can't be read is asked for anew. A judge in process would reply the same: it is not."""
    prices: RecipePath | None = None
    """A price table (see `harness.spending`), which goes before the user's own and the shipped one."""

    @field_validator("prices")
    @classmethod
    def _can_be_read(cls, value: Any) -> Any:
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
            raise ValueError(f"expected each benchmark once, as its name is that of its figures; repeated: {repeated}")
        return value

    @field_validator("judges")
    @classmethod
    def _of_benchmarks(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        names = [b.name for b in info.data.get("benchmarks", [])]
        if unknown := sorted(value.keys() - names) if names else []:
            raise ValueError(f"no benchmark {quoted(unknown[0])} in evaluation; {nearest(unknown[0], names)}")
        if any(getattr(judge, "recorded", False) for judge in value.values()):
            raise ValueError("'replay' is for all benchmarks or none: give it as evaluation.judge")
        return value

    def judge_of(self, benchmark: Benchmark) -> Judge:
        """Who judges a benchmark."""
        return self.judges.get(benchmark.name, self.judge)  # type: ignore[attr-defined]


class System(Section):
    """A row whose answers come from files in the benchmarks' public formats, plain or .gz, one a benchmark. Its
    recorded `verdicts` are used where the judge is `replay`."""

    id: Name
    answers: dict[str, RecipePath] = Field(min_length=1)
    verdicts: dict[str, RecipePath] = Field(default_factory=dict)


class Gate(Section):
    """A check that decides the exit code of a run (see `harness.gate`): of `metric`, that `row` is not worse by more
    than `margin` than `baseline_row` of this run, or than the row in `baseline` (what `harness baseline promote` wrote,
    or a board); and that it is not below `min`."""

    model_config = ConfigDict(populate_by_name=True)

    row: Name
    metric: GateMetric = "alpaca_eval.win_rate"
    baseline: RecipePath | None = None
    baseline_row: Name | None = None
    margin: float = Field(2.0, ge=0)
    alpha: float = Field(0.05, gt=0, lt=0.5)
    minimum: float | None = Field(None, alias="min")

    @model_validator(mode="after")
    def _compares(self) -> "Gate":
        if self.baseline is None and self.baseline_row is None and self.minimum is None:
            raise ValueError("nothing to compare with: give baseline (a file), baseline_row (of this run) or min")
        return self


class Recipe(Section):
    """A whole run."""

    model_config = ConfigDict(populate_by_name=True)

    name: Name
    seed: int = Field(0, ge=0, lt=2**31)
    systems: list[System] = Field(default_factory=list)
    """Rows from files, beside those of the policy, or alone: then there are no `policy` and no `data`."""
    # `policy` and `data` in a recipe; here the properties of that name say that they are there.
    given_policy: Policy | None = Field(None, alias="policy", validate_default=True)
    given_data: Data | None = Field(None, alias="data", validate_default=True)
    methods: list[Method] = Field(default_factory=list)
    """Without any the recipe ends with its ranked dataset, and the untrained policy is the only row of its own."""
    training: Training = Training()
    evaluation: Evaluation | None = None
    runtime: Runtime = Runtime()
    sweep: None = None
    """Alternatives for fields (`harness.recipe_sweep`): `recipe_file.load_study` makes a recipe without it of each."""
    gates: list[Gate] = Field(default_factory=list)

    @property
    def policy(self) -> Policy:
        """The policy. Raises RecipeError where the recipe has only rows from files."""
        if self.given_policy is None:
            raise RecipeError(f"recipe {self.name}: policy is missing; it has only rows from files")
        return self.given_policy

    @property
    def data(self) -> Data:
        """The data. Raises RecipeError where the recipe has none."""
        if self.given_data is None:
            raise RecipeError(f"recipe {self.name}: data is missing; it trains nothing")
        return self.given_data

    @field_validator("given_policy", "given_data")
    @classmethod
    def _needed_without_systems(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and info.data.get("systems") == []:
            raise PydanticCustomError("missing", "Field required")
        if info.field_name == "given_data" and value is not None and info.data.get("given_policy", value) is None:
            raise ValueError("there is no `policy` that it is for; give it, or remove data")
        return value

    @field_validator("methods")
    @classmethod
    def _trained_on_something(cls, methods: list[Method], info: ValidationInfo) -> list[Method]:
        for name in ("policy", "data"):
            if methods and info.data.get(f"given_{name}", ()) is None:
                raise ValueError(f"methods are trained, and `{name}` is missing; give it, or remove methods")
        return methods

    @model_validator(mode="after")
    def _systems_are_judged(self) -> "Recipe":
        if self.systems and self.evaluation is None:
            raise ValueError("systems are there to be evaluated, and `evaluation` is missing; give it")
        return self

    @field_validator("methods")
    @classmethod
    def _distinct_ids(cls, methods: list[Method]) -> list[Method]:
        seen = {"base"}
        for method in methods:
            if method.id in seen:
                raise ValueError(
                    f"method ids must differ, and 'base' is the untrained policy's; repeated: '{method.id}'"
                )
            if re.fullmatch(r"sft(-\d+)?", method.id):
                raise ValueError(f"'{method.id}' names a row of a policy that is only fine-tuned; rename the method")
            seen.add(method.id)
        return methods

    @model_validator(mode="after")
    def _exact_in_two_passes(self) -> "Recipe":
        adapters = [self.training.model_dump()["lora"], *(method.training.get("lora") for method in self.methods)]
        if self.runtime.bounded_memory and any(isinstance(a, dict) and a.get("dropout") for a in adapters):
            raise ValueError("runtime.bounded_memory runs each forward twice, which dropout makes unequal; set it to 0")
        return self

    def training_of(self, method: Method) -> Training:
        """The recipe's training with the method's overrides. Raises pydantic's ValidationError."""
        merged = self.training.model_dump() | method.training
        if isinstance(method.training.get("lora"), dict) and self.training.lora is not None:
            merged["lora"] = self.training.lora.model_dump() | method.training["lora"]
        if isinstance(method.training.get("sft"), dict) and self.training.sft is not None:
            merged["sft"] = self.training.sft.model_dump() | method.training["sft"]
        return Training.model_validate(merged)
