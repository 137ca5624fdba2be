"""The recipe's parts that say how a policy is trained: `training` and `runtime`."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from harness.components import RecipePath
from harness.engine.resources import Resources
from harness.errors import nearest, quoted
from harness.types import STAGE_KINDS, RecipeSection


def _installed(package: str, value: Any, remedy: str) -> Any:
    """`value`, if the package that it needs is there. Raises ValueError."""
    if find_spec(package) is None:
        raise ValueError(f"needs the package {package}, which is not installed: {remedy}")
    return value


class Lora(RecipeSection):
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


class Sft(RecipeSection):
    """Supervised fine-tuning on the best response of each training prompt, before the preference training. What isn't
    here (LoRA, schedule, lengths, ...) is as `training` says; `batch_size` counts prompts."""

    epochs: float = Field(1.0, gt=0)
    learning_rate: float = Field(2e-5, gt=0)
    batch_size: int = Field(8, ge=1)


TrainingSeed = Annotated[int, Field(ge=0, lt=2**31)]


class Training(RecipeSection):
    """How a method is trained. `batch_size` counts prompts an optimizer step (each has up to N responses)."""

    epochs: float = Field(1.0, gt=0)
    seeds: Annotated[tuple[TrainingSeed, ...], Field(min_length=1)] | None = None
    """Train once with each: another order of the data, another initialisation of adapters, the same data. None: once,
    with the recipe's seed."""
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

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if repeated := sorted({seed for seed in value or () if (value or ()).count(seed) > 1}):
            raise ValueError(f"expected each seed once; repeated: {', '.join(map(str, repeated))}")
        return value

    @model_validator(mode="after")
    def _room_for_a_response(self) -> "Training":
        if self.max_prompt_length >= self.max_length:
            raise ValueError("max_length must be larger than max_prompt_length: it holds the prompt and the response")
        return self

    def of_sft(self, sft: Sft) -> "Training":
        """How the supervised fine-tuning before it is done."""
        return self.model_copy(update={**sft.model_dump(), "sft": None})


class Accelerate(RecipeSection):
    """`accelerate launch`: the processes that train one policy. `config`: an accelerate configuration in YAML (DDP,
    FSDP, DeepSpeed: see recipes/accelerate/); what is given here goes before what it says."""

    num_processes: int | None = Field(None, ge=1)
    config: RecipePath | None = None

    @field_validator("config")
    @classmethod
    def _there(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError(f"no such file: {value.name}; expected an accelerate configuration in YAML")
        precision = re.search(r"^mixed_precision: *['\"]?(\w+)", value.read_text() if value else "", re.MULTILINE)
        if precision and precision[1].lower() not in ("no", "false"):
            raise ValueError(
                f"mixed_precision: {precision[1]} in {value and value.name} would change results; set it to "
                "'no': policy.dtype says what products are computed in"
            )
        return value


class Launch(RecipeSection):
    """How the processes of a training stage are started."""

    accelerate: Accelerate


def _reporter(value: str) -> str:
    return str(_installed(value, value, f"pip install {value}"))


Reporter = Annotated[Literal["tensorboard", "trackio", "wandb"], AfterValidator(_reporter)]
"""What may draw a training's curves as it goes."""


class Runtime(RecipeSection):
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
    resources: dict[str, Resources] = Field(default_factory=dict)
    """What each kind of stage needs of a node of a Ray cluster (`harness run --ray`); its processors are also the
    threads that it computes with, in process too. For what neither it nor `default` is given for: one processor, a GPU
    for stages that load a model where the cluster has any, and as many threads as torch likes."""

    @field_validator("resources")
    @classmethod
    def _of_known_kinds(cls, value: dict[str, Resources]) -> dict[str, Resources]:
        for kind in value:
            if kind not in (kinds := ("default", *STAGE_KINDS)):
                raise ValueError(
                    f"no kind of stage is called {quoted(kind)}; {nearest(kind, kinds, 'expected one of')}"
                )
        return value

    @field_validator("report_to", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value
