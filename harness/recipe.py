"""The recipe: what a run is, checked once and then passed around as objects. `recipe_file` reads it from YAML."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    field_validator,
    model_validator,
)

from harness.components import (
    BenchmarkField,
    GeneratorField,
    JudgeField,
    ModelReference,
    RecipePath,
    RewardField,
    SeedField,
)
from harness.models import Dtype
from harness.protocols import Loss
from harness.trl_loss import Engine, TrlLoss, parse_method_loss


class Section(BaseModel):
    """A part of the recipe: frozen, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


def _safe_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", value):
        raise ValueError("expected letters, digits, '.', '_' or '-', starting with a letter or digit, at most 80")
    return value


Name = Annotated[str, BeforeValidator(lambda v: _safe_name(v) if isinstance(v, str) else v)]
"""A name that becomes a folder or file name."""


def _installed(package: str, value: Any, remedy: str) -> Any:
    """`value`, if the package that it needs is there. Raises ValueError."""
    if find_spec(package) is None:
        raise ValueError(f"needs the package {package}, which is not installed: {remedy}")
    return value


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


class PromptGeneration(Section):
    """New prompts: the generator is shown `shots` seed prompts and writes one more like them."""

    generator: GeneratorField
    count: int = Field(ge=1)
    shots: int = Field(6, ge=1, le=32)
    temperature: float = Field(0.7, gt=0)
    top_p: float = Field(0.95, gt=0, le=1)
    max_new_tokens: int = Field(64, ge=4)
    max_similarity: float = Field(0.8, gt=0, le=1)
    """A new prompt whose similarity to any seed or accepted prompt is above this is dropped (0 none, 1 the same)."""
    max_attempts: int = Field(8, ge=1)
    """Rounds of generation before the stage gives up short of `count`."""


class ResponseGeneration(Section):
    """N responses a prompt. With `seed_prompts` (true: all of them; a number: the first so many), the seed's training
    prompts are ranked too: their chosen and rejected answers stand among the N, and the rest is sampled."""

    generator: GeneratorField
    n: int = Field(4, ge=2, le=64)
    temperature: float = Field(0.9, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_new_tokens: int = Field(256, ge=1)
    seed_prompts: bool | Annotated[int, Field(ge=1)] = True


class Data(Section):
    """The augmentation: seed pairs, new prompts, responses, and the reward model that ranks them."""

    seeds: list[SeedField] = Field(min_length=1)
    holdout: float = Field(0.2, gt=0, lt=1)
    prompts: PromptGeneration | None = None
    responses: ResponseGeneration
    reward: RewardField

    @model_validator(mode="after")
    def _some_prompts(self) -> "Data":
        if self.prompts is None and not self.responses.seed_prompts:
            raise ValueError("no prompts to rank: give `prompts`, or set responses.seed_prompts to true")
        return self


class Lora(Section):
    """LoRA adapters (2106.09685) on all linear layers but the head, unless `target_modules` says otherwise."""

    r: int = Field(16, ge=1)
    alpha: int | None = Field(None, ge=1)
    """Scaling numerator; 2 r where it is not given."""
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    bits: Literal[4, 8] | None = None
    """QLoRA (2305.14314): the frozen base in 4 bits (nf4, double quantisation) or 8, by bitsandbytes. The reference is
    that quantised base, and its checkpoints are evaluated on it."""

    @field_validator("bits")
    @classmethod
    def _can_quantise(cls, value: int | None) -> int | None:
        return value if value is None else _installed("bitsandbytes", value, "pip install 'preference-harness[qlora]'")


class Sft(Section):
    """Supervised fine-tuning on the best response of each training prompt, before the preference training. What isn't
    here (LoRA, schedule, lengths, ...) is as `training` says; `batch_size` counts prompts."""

    epochs: float = Field(1.0, gt=0)
    learning_rate: float = Field(2e-5, gt=0)
    batch_size: int = Field(8, ge=1)


class Training(Section):
    """How a method is trained. `batch_size` counts prompts an optimizer step (each has up to N responses)."""

    epochs: float = Field(1.0, gt=0)
    learning_rate: float = Field(1e-4, gt=0)
    batch_size: int = Field(8, ge=1)
    lora: Lora | None = Lora()
    warmup_ratio: float = Field(0.1, ge=0, lt=1)
    lr_scheduler: Literal["linear", "cosine", "constant_with_warmup"] = "linear"
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    max_prompt_length: int = Field(512, ge=8)
    max_length: int = Field(1024, ge=16)
    gradient_checkpointing: bool = False
    save_every: int | None = Field(None, ge=1)
    """Optimizer steps between checkpoints: a stopped run goes on from the last, and the artifact keeps them all."""
    all_responses: bool = False
    """Compute the responses that the loss doesn't look at too (as DPO on best and worst doesn't at those between), so
    that steps.jsonl shows them."""
    sft: Sft | None = None
    """Given: the method starts from a policy that was fine-tuned so, and is held to that one."""

    @field_validator("lora", mode="before")
    @classmethod
    def _false_is_none(cls, value: Any) -> Any:
        return None if value is False else Lora() if value is True else value

    @model_validator(mode="after")
    def _room_for_a_response(self) -> "Training":
        if self.max_prompt_length >= self.max_length:
            raise ValueError("max_length must be larger than max_prompt_length: it holds the prompt and the response")
        return self

    def of_sft(self, sft: Sft) -> "Training":
        """How the supervised fine-tuning before it is done."""
        return self.model_copy(update={**sft.model_dump(), "sft": None})


class Method(Section):
    """One row of the board: a loss, and what of `training` it overrides. With `engine: trl` the loss is one of TRL's,
    and TRL's DPOTrainer trains on pairs drawn from the same ranked data: `batch_size` then counts pairs."""

    id: Name
    engine: Engine = "harness"
    loss: Annotated[Loss | TrlLoss, PlainValidator(parse_method_loss)]
    training: dict[str, Any] = {}

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

    @field_validator("benchmarks")
    @classmethod
    def _each_once(cls, value: list[Any]) -> list[Any]:
        names = [b.name for b in value]
        if repeated := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"expected each benchmark once, as its name is that of its figures; repeated: {repeated}")
        return value


class Accelerate(Section):
    """`accelerate launch`: the processes that train one policy. `config`: an accelerate configuration in YAML (DDP,
    FSDP, DeepSpeed: see recipes/accelerate/); what is given here goes before what it says."""

    num_processes: int | None = Field(None, ge=1)
    config: RecipePath | None = None

    @field_validator("config")
    @classmethod
    def _there(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError(f"no such file: {value.name}; expected an accelerate configuration in YAML")
        return value


class Launch(Section):
    """How the processes of a training stage are started."""

    accelerate: Accelerate


def _reporter(value: str) -> str:
    return str(_installed(value, value, f"pip install {value}"))


Reporter = Annotated[Literal["tensorboard", "trackio", "wandb"], AfterValidator(_reporter)]
"""What may draw a training's curves as it goes."""


class Runtime(Section):
    """What can't change a result and is in no key."""

    micro_batch_size: int = Field(2, ge=1)
    """Prompts (each with its N responses) in one forward of training; gradients accumulate to `batch_size`."""
    score_batch_size: int = Field(16, ge=1)
    """Responses in one forward without gradients."""
    judge_concurrency: int = Field(8, ge=1)
    bounded_memory: bool = False
    """Train with one response's activations in memory at a time, for N large: exact, at about 4/3 of the time."""
    report_to: tuple[Reporter, ...] = ()
    """Draw the steps' metrics with these too; TensorBoard's files lie in the store, under logs/RECIPE/METHOD."""
    launch: Launch | None = None
    """Train in several processes."""

    @field_validator("report_to", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class Recipe(Section):
    """A whole run."""

    name: Name
    seed: int = Field(0, ge=0, lt=2**31)
    policy: Policy
    data: Data
    methods: list[Method] = Field(min_length=1)
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
        if self.runtime.bounded_memory and self.training.lora and self.training.lora.dropout:
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
