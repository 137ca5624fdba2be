"""The recipe: everything a run does, validated once. `harness.recipe.load` reads it from YAML."""

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

from harness.benchmark import Benchmark
from harness.components import BenchmarkField, JudgeField, ModelReference, RecipePath
from harness.errors import DataError, nearest, quoted
from harness.models import load as models
from harness.models.load import Dtype
from harness.protocols import Judge, Loss
from harness.recipe.data import Data
from harness.recipe.training import Runtime, Training
from harness.recipe.trl_loss import Engine, TrlLoss, parse_method_loss
from harness.servers.prices import read_prices
from harness.types import RecipeSection


def _safe_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", value):
        raise ValueError("expected letters, digits, '.', '_' or '-', starting with a letter or digit, at most 80")
    return value


Name = Annotated[str, BeforeValidator(lambda v: _safe_name(v) if isinstance(v, str) else v)]
"""A name that becomes a folder or file name."""


class Policy(RecipeSection):
    """The model to train. Untrained, it is also the reference of the preference losses."""

    model: ModelReference
    revision: str | None = None
    dtype: Dtype = "bfloat16"

    @field_validator("dtype")
    @classmethod
    def _not_float16(cls, value: Dtype) -> Dtype:
        if value == "float16":
            raise ValueError("small gradients are lost in float16; expected bfloat16 or float32")
        return value


BASE = "base"
"""Id and method of the row of the untrained policy."""
SFT = "sft"
"""Method of rows of policies that are only fine-tuned; their ids are `sft`, `sft-2` and so on."""

Match = Literal["steps", "prompts", "tokens"]
"""The budget that two trainings may share: optimizer steps, prompts seen, or tokens put through the policy."""


class Method(RecipeSection):
    """One row of the board, or one per training seed: a loss, and its overrides of `training`. With `engine: trl` the
    loss is one of TRL's, and TRL's DPOTrainer trains on pairs from the same ranked data: `batch_size` then counts
    pairs."""

    id: Name
    engine: Engine = "harness"
    loss: Annotated[Loss | TrlLoss, PlainValidator(parse_method_loss)]
    training: dict[str, Any] = Field(default_factory=dict)
    match: Match | None = None
    """Train for as many of these as `match_to` used, instead of for `epochs`."""
    match_to: Name | None = None
    """The method whose budget is matched; None: the recipe's first."""

    @property
    def label(self) -> str:
        """The loss as boards name it."""
        return self.loss.label if isinstance(self.loss, TrlLoss) else self.loss.name


class AnswerSampling(RecipeSection):
    """How checkpoints answer a benchmark's questions. `temperature` None: what the benchmark prescribes."""

    max_new_tokens: int = Field(512, ge=1)
    temperature: float | None = Field(None, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)


class Evaluation(RecipeSection):
    """Benchmarks and their judge; `judges` overrides the judge of a benchmark, by the benchmark's name."""

    judge: JudgeField
    benchmarks: list[BenchmarkField] = Field(min_length=1)
    judges: dict[str, JudgeField] = Field(default_factory=dict)
    answers: AnswerSampling = AnswerSampling()
    retries_invalid: int = Field(1, ge=0, le=20)
    """How often an unreadable reply is requested again, of judges whose replies vary from call to call."""
    prices: RecipePath | None = None
    """A price table (see `harness.servers.prices`), consulted before the user's own and the one shipped here."""

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
            raise ValueError(f"expected each benchmark once, since figures are named after it; repeated: {repeated}")
        return value

    @field_validator("judges")
    @classmethod
    def _known_benchmarks(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        names = [b.name for b in info.data.get("benchmarks", [])]
        if unknown := sorted(value.keys() - names) if names else []:
            raise ValueError(f"no benchmark {quoted(unknown[0])} in evaluation; {nearest(unknown[0], names)}")
        if any(judge.recorded for judge in value.values()):
            raise ValueError("'replay' is for all benchmarks or none: give it as evaluation.judge")
        return value

    def judge_of(self, benchmark: Benchmark) -> Judge:
        """The judge of a benchmark."""
        return self.judges.get(benchmark.name, self.judge)


class System(RecipeSection):
    """A row whose answers come from files in the benchmarks' public formats, plain or .gz, one per benchmark. Its
    recorded `verdicts` are used if the judge is `replay`."""

    id: Name
    answers: dict[str, RecipePath] = Field(min_length=1)
    verdicts: dict[str, RecipePath] = Field(default_factory=dict)


class Gate(RecipeSection):
    """A check that decides the exit code of a run (see `harness.gate.check`): that on `metric`, `row` is not worse than
    `baseline_row` of this run, or the row in `baseline` (from `harness baseline promote`, or a board), by more than
    `margin`; and that it is not below `min`."""

    model_config = ConfigDict(populate_by_name=True)

    row: Name
    metric: str = "alpaca_eval.win_rate"
    """A figure declared by one of the recipe's benchmarks, or one on held-out pairs."""
    baseline: RecipePath | None = None
    baseline_row: Name | None = None
    margin: float | None = Field(None, ge=0)
    """How much worse is still acceptable, in the figure's unit; None: as the figure declares."""
    alpha: float = Field(0.05, gt=0, lt=0.5)
    minimum: float | None = Field(None, alias="min")

    @model_validator(mode="after")
    def _compares(self) -> "Gate":
        if self.baseline is None and self.baseline_row is None and self.minimum is None:
            raise ValueError("nothing to compare with: give baseline (a file), baseline_row (of this run) or min")
        return self


class Recipe(RecipeSection):
    """A whole run."""

    name: Name
    seed: int = Field(0, ge=0, lt=2**31)
    systems: list[System] = Field(default_factory=list)
    """Rows from files, beside those of the policy or alone: only then may `policy` and `data` be missing."""
    policy: Policy | None = Field(None, validate_default=True)
    data: Data | None = Field(None, validate_default=True)
    methods: list[Method] = Field(default_factory=list)
    """Without methods the recipe ends with its ranked dataset, and only the untrained policy is evaluated."""
    training: Training = Training()
    evaluation: Evaluation | None = None
    runtime: Runtime = Runtime()
    sweep: None = None
    """Alternatives for fields (`harness.recipe.sweep`): `load_study` makes a recipe without it of each."""
    gates: list[Gate] = Field(default_factory=list)

    @field_validator("policy", "data")
    @classmethod
    def _required_without_systems(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and info.data.get("systems") == []:
            raise PydanticCustomError("missing", "Field required")
        if info.field_name == "data" and value is not None and info.data.get("policy", value) is None:
            raise ValueError("data is for training a policy, and `policy` is missing; give it, or remove data")
        return value

    @field_validator("methods")
    @classmethod
    def _policy_and_data_for_methods(cls, methods: list[Method], info: ValidationInfo) -> list[Method]:
        for name in ("policy", "data"):
            if methods and info.data.get(name, ()) is None:
                raise ValueError(f"methods are trained, and `{name}` is missing; give it, or remove methods")
        return methods

    @model_validator(mode="after")
    def _evaluation_for_systems(self) -> "Recipe":
        if self.systems and self.evaluation is None:
            raise ValueError("systems are evaluated, and `evaluation` is missing; give it")
        return self

    @field_validator("methods")
    @classmethod
    def _distinct_ids(cls, methods: list[Method]) -> list[Method]:
        seen = {BASE}
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
    def _no_dropout_in_two_passes(self) -> "Recipe":
        adapters = [self.training.model_dump()["lora"], *(method.training.get("lora") for method in self.methods)]
        if self.runtime.bounded_memory and any(isinstance(a, dict) and a.get("dropout") for a in adapters):
            raise ValueError(
                "runtime.bounded_memory runs each forward pass twice, and dropout makes them differ; set dropout to 0"
            )
        return self

    def training_of(self, method: Method) -> Training:
        """The recipe's training with the method's overrides. Raises pydantic's ValidationError."""
        merged = self.training.model_dump() | method.training
        if isinstance(method.training.get("lora"), dict) and self.training.lora is not None:
            merged["lora"] = self.training.lora.model_dump() | method.training["lora"]
        if isinstance(method.training.get("sft"), dict) and self.training.sft is not None:
            merged["sft"] = self.training.sft.model_dump() | method.training["sft"]
        return Training.model_validate(merged)


def policy_identity(policy: Policy) -> dict[str, Any]:
    """The untrained policy's part of a stage key."""
    return {"dtype": policy.dtype, **models.identity(policy.model, policy.revision)}
