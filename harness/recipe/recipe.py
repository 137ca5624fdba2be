"""The recipe: the full description of a run, validated once. `harness.recipe.load` reads it from YAML."""

import re
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    PlainValidator,
    PrivateAttr,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from harness.components import RecipePath
from harness.figures import Margin
from harness.protocols import Loss
from harness.recipe.data import Data
from harness.recipe.evaluation import Evaluation, System
from harness.recipe.making.rounds import Rounds, RoundsField
from harness.recipe.policy import Name, Policy
from harness.recipe.training import Runtime, Training
from harness.recipe.trl_loss import Engine, TrlLoss, parse_method_loss
from harness.servers.adapting.continuing import Continuing
from harness.types import RecipeSection
from harness.variables import Filled

BASE = "base"
"""The id and method of the untrained policy's row."""
SFT = "sft"
"""The method of rows whose policy was only fine-tuned; their ids are `sft`, `sft-2` and so on."""

IN_PROCESS = ("hf", "vllm")
"""Generators that render chat templates themselves."""

Match = Literal["steps", "prompts", "tokens"]
"""The unit of a shared training budget: optimizer steps, prompts seen, or tokens processed by the policy."""


class Method(RecipeSection):
    """One row of the board, or one per training seed: a loss and overrides of `training`. With `engine: trl` the loss
    is one of TRL's, TRL's DPOTrainer trains on pairs from the same ranked data, and `batch_size` counts pairs."""

    id: Name
    """The row's name on boards."""
    engine: Engine = "harness"
    """Who trains: the harness, or TRL's DPOTrainer."""
    loss: Annotated[SerializeAsAny[Loss | TrlLoss], PlainValidator(parse_method_loss)]
    """The loss that it trains with: one of the harness's, or with `engine: trl` one of TRL's."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Overrides of the recipe's `training` for this method."""
    match: Match | None = None
    """Train for as many steps, prompts or tokens as `match_to` used, instead of for `epochs`."""
    match_to: Name | None = None
    """The id of the method whose budget is matched; None: the recipe's first method."""

    @property
    def label(self) -> str:
        """The loss's name on boards."""
        return self.loss.label if isinstance(self.loss, TrlLoss) else self.loss.name


class Gate(RecipeSection):
    """A check that decides the exit code of a run (see `harness.gate.check`). On `metric`, `row` must not be worse by
    more than `margin` than `baseline_row` of this run or the row in the file `baseline` (from `harness baseline
    promote`, or a board), and it must not be below `min`."""

    model_config = ConfigDict(populate_by_name=True)

    row: Name
    """The row that is tested."""
    metric: str = "alpaca_eval.win_rate"
    """A figure of one of the recipe's benchmarks, or one on the held-out pairs."""
    baseline: RecipePath | None = None
    """A file from `harness baseline promote`, or a board."""
    baseline_row: Name | None = None
    """The row to compare with: of this run, or of the baseline's board."""
    margin: Margin = None
    """The largest acceptable drop, in the figure's unit or as a share of the baseline's value (`10%`); None: as the
    figure declares."""
    anchor_margin: Margin = None
    """The largest acceptable drop against the anchor of a baseline; None: `margin`."""
    alpha: float = Field(0.05, gt=0, lt=0.5)
    """The one-sided level of the test."""
    minimum: float | None = Field(None, alias="min")
    """The least acceptable figure (`min` in a recipe), whatever a baseline has."""
    allow: bool = False
    """Let a row pass that a validity guard has flagged."""

    @model_validator(mode="after")
    def _compares(self) -> "Gate":
        if self.baseline is None and self.baseline_row is None and self.minimum is None:
            raise ValueError("nothing to compare with: give baseline (a file), baseline_row (a row of this run) or min")
        return self


class Question(RecipeSection):
    """What the run is for, named before its results are seen (see `harness.claims.primary`): one metric, and pairs of
    methods, or an axis of the sweep. `margin`: the difference up to which two methods count as equally good."""

    metric: str | None = None
    """The figure that decides; None: the first of the recipe's benchmarks."""
    comparisons: list[tuple[Name, Name]] | None = Field(None, min_length=1)
    """Pairs of method ids that are compared; None: those that follow from the recipe."""
    axis: str | None = None
    """An axis of the sweep, whose effect is asked about instead."""
    margin: float | None = Field(None, gt=0)


class Recipe(RecipeSection):
    """A whole run."""

    name: Name
    """What boards, folders and logs call the run."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Of everything random: data, samples, the order of training, and judging."""
    systems: list[System] = Field(default_factory=list)
    """Rows from files, next to or instead of the policy's. `policy` and `data` may be missing only if there are any."""
    policy: Policy | None = Field(None, validate_default=True)
    """The model that all methods train."""
    data: Data | None = Field(None, validate_default=True)
    """The pairs and prompts, and how they are augmented and ranked."""
    methods: list[Method] = Field(default_factory=list)
    """Without methods the run ends with the ranked dataset, and only the untrained policy is evaluated."""
    training: Training = Training()
    """How all methods are trained; a method's own `training` takes precedence."""
    rounds: RoundsField | None = None
    """More rounds of all trainings, on responses of the trained policies; None: one."""
    evaluation: Evaluation | None = None
    """The benchmarks and their judge."""
    runtime: Runtime = Runtime()
    """What can't change a result: batch sizes, engines, processes."""
    sweep: None = None
    """Alternatives for fields (`harness.recipe.sweep`); `load_study` expands them into recipes without a sweep."""
    gates: list[Gate] = Field(default_factory=list)
    """Checks at the end of a run, which decide its exit code."""
    primary: Question | None = None
    """The one question that the run is to answer, named before its results are seen."""
    _filled: Filled = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _one_template_for_the_policy(cls, fields: Any) -> Any:
        """Generators that sample from the policy's own model have its `chat_template_kwargs`, unless they have some."""
        policy = fields.get("policy") if isinstance(fields, dict) else None
        if not isinstance(policy, dict) or not isinstance(fields.get("data"), dict):
            return fields
        if not (values := policy.get("chat_template_kwargs")):
            return fields
        source = {name: policy.get(name) for name in ("model", "revision")}

        def given(part: Any) -> Any:
            if isinstance(part, list):
                return [given(one) for one in part]
            if not isinstance(part, dict):
                return part
            if part.get("name") in IN_PROCESS and all(part.get(name) == value for name, value in source.items()):
                return {"chat_template_kwargs": values} | part
            return {
                k: given(v) if k in ("prompts", "responses", "generator", "sources") else v for k, v in part.items()
            }

        return {**fields, "data": given(fields["data"])}

    @property
    def filled(self) -> Filled:
        """The texts with variables in its file, with what they became."""
        return self._filled

    @model_validator(mode="after")
    def _keep_what_is_written(self, info: ValidationInfo) -> "Recipe":
        self._filled = (info.context or {}).get("filled", {})
        return self

    @model_validator(mode="after")
    def _answers_are_the_policys(self) -> "Recipe":
        asked = {
            "evaluation.answers.generator": (self.evaluation.answers.generator if self.evaluation else None, "answers"),
            "training.reference": (self.training.reference, "log-probabilities"),
            "data.report.generator": (
                self.data.report.generator if self.data and self.data.report else None,
                "perplexities",
            ),
        }
        for field, (generator, what) in asked.items():
            engine = generator.engine if isinstance(generator, Continuing) else None
            if engine and self.policy and engine.engine.model not in (self.policy.model, None):
                raise ValueError(
                    f"{field}: engine '{engine.name}' serves {engine.engine.served_name}; {what} are "
                    "those of policy.model, which must be its model"
                )
        return self

    @field_validator("rounds")
    @classmethod
    def _one_is_none(cls, value: Rounds | None) -> Rounds | None:
        return None if value is None or value.count == 1 else value

    @property
    def round_count(self) -> int:
        """The rounds of each training."""
        return self.rounds.count if self.rounds else 1

    @field_validator("policy", "data")
    @classmethod
    def _required_without_systems(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and info.data.get("systems") == []:
            raise PydanticCustomError("missing", "Field required")
        if info.field_name == "data" and value is not None and info.data.get("policy", value) is None:
            raise ValueError("data is for training a policy, but `policy` is missing; give it, or remove data")
        return value

    @field_validator("methods")
    @classmethod
    def _policy_and_data_for_methods(cls, methods: list[Method], info: ValidationInfo) -> list[Method]:
        for name in ("policy", "data"):
            if methods and info.data.get(name, ()) is None:
                raise ValueError(f"methods need `{name}`, which is missing; give it, or remove methods")
        return methods

    @model_validator(mode="after")
    def _evaluation_for_systems(self) -> "Recipe":
        if self.systems and self.evaluation is None:
            raise ValueError("systems need `evaluation`, which is missing; give it, or remove systems")
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
                raise ValueError(f"'{method.id}' is reserved for rows that are only fine-tuned; rename the method")
            seen.add(method.id)
        return methods

    @model_validator(mode="after")
    def _no_dropout_in_two_passes(self) -> "Recipe":
        adapters = [self.training.model_dump()["lora"], *(method.training.get("lora") for method in self.methods)]
        if self.runtime.memory == "one_response" and any(isinstance(a, dict) and a.get("dropout") for a in adapters):
            raise ValueError(
                "runtime.memory: one_response runs each forward pass twice, and dropout makes them differ; "
                "use checkpointed, or set dropout to 0"
            )
        return self

    def training_of(self, method: Method) -> Training:
        """The recipe's training with the method's overrides. Raises pydantic's ValidationError."""
        merged = self.training.model_dump() | method.training
        if isinstance(method.training.get("lora"), dict) and self.training.lora is not None:
            merged["lora"] = self.training.lora.model_dump() | method.training["lora"]
        if isinstance(method.training.get("sft"), dict) and self.training.sft is not None:
            merged["sft"] = self.training.sft.model_dump() | method.training["sft"]
        if "reference" not in method.training:
            merged["reference"] = self.training.reference  # a component, which knows its engine
        return Training.model_validate(merged)
