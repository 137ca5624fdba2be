"""The recipe: what a run is, checked once and then passed around as objects. `recipe_file` reads it from YAML."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainValidator, field_validator, model_validator

from harness.components import BenchmarkField, JudgeField, ModelReference, RecipePath
from harness.errors import DataError
from harness.models import Dtype
from harness.protocols import Loss
from harness.recipe_data import Data, PromptGeneration, ResponseGeneration
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


def _empty(value: Any) -> tuple[()]:
    if value not in (None, [], {}, ()):
        raise ValueError("not supported yet; remove it")
    return ()


NotYet = Annotated[tuple[()], BeforeValidator(_empty)]
"""A part of the recipe's format that this version can't run: it may be there, but must be empty."""


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
    """Benchmarks, and the judge that they ask."""

    judge: JudgeField
    benchmarks: list[BenchmarkField] = Field(min_length=1)
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


class Recipe(Section):
    """A whole run."""

    name: Name
    seed: int = Field(0, ge=0, lt=2**31)
    policy: Policy
    data: Data
    methods: list[Method] = Field(default_factory=list)
    """Without any the recipe ends with its ranked dataset, and the untrained policy is the only row."""
    training: Training = Training()
    evaluation: Evaluation | None = None
    runtime: Runtime = Runtime()
    systems: NotYet = ()
    sweep: NotYet = ()
    gates: NotYet = ()

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
