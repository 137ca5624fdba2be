"""The recipe's sections on training: `training` and `runtime`."""

from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from harness.engine.resources import Resources
from harness.errors import nearest, quoted
from harness.recipe.launch import Launch
from harness.serving.engine import Engine
from harness.stage_kinds import STAGE_KINDS
from harness.types import RecipeSection


def _installed(package: str, value: Any, remedy: str) -> Any:
    """`value` itself. Raises ValueError if the package that it needs is not installed."""
    if find_spec(package) is None:
        raise ValueError(f"needs the package {package}, which is not installed: {remedy}")
    return value


class Lora(RecipeSection):
    """LoRA adapters (arXiv 2106.09685), by default on all linear layers except the head."""

    r: int = Field(16, ge=1)
    alpha: int | None = Field(None, ge=1)
    """The numerator of the scaling factor alpha / r; None: 2 r."""
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    bits: Literal[4, 8] | None = None
    """QLoRA (arXiv 2305.14314): quantise the frozen base to 4 bits (nf4, double quantisation) or 8 with bitsandbytes.
    The quantised base is also the reference model, and checkpoints are evaluated on it."""

    @field_validator("bits")
    @classmethod
    def _can_quantise(cls, value: int | None) -> int | None:
        return value if value is None else _installed("bitsandbytes", value, "pip install 'preference-harness[qlora]'")


class Sft(RecipeSection):
    """Supervised fine-tuning on the best response of each training prompt, before the preference training.
    Everything else (LoRA, schedule, lengths, ...) is as in `training`. `batch_size` counts prompts."""

    epochs: float = Field(1.0, gt=0)
    learning_rate: float = Field(2e-5, gt=0)
    batch_size: int = Field(8, ge=1)


TrainingSeed = Annotated[int, Field(ge=0, lt=2**31)]


class Training(RecipeSection):
    """How a method is trained. `batch_size` counts prompts per optimizer step, each with up to N responses."""

    epochs: float = Field(1.0, gt=0)
    seeds: Annotated[tuple[TrainingSeed, ...], Field(min_length=1)] | None = None
    """Train once with each seed, which changes the order of the data and the initialisation of adapters but not the
    data. None: train once with the recipe's seed."""
    learning_rate: float = Field(1e-4, gt=0)
    batch_size: int = Field(8, ge=1)
    lora: Lora | None = Lora()
    merge: bool = False
    """Deploy a whole model instead of an adapter: adapters are merged into the base (of QLoRA, the one that was not
    quantised) in float32 and rounded stochastically to the policy's dtype. Without adapters it changes nothing."""
    warmup_ratio: float = Field(0.1, ge=0, lt=1)
    lr_scheduler: Literal["linear", "cosine", "constant_with_warmup"] = "linear"
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    max_prompt_length: int = Field(512, ge=8)
    max_length: int = Field(1024, ge=16)
    gradient_checkpointing: bool = False
    save_every: int | None = Field(None, ge=1)
    """Optimizer steps between checkpoints. An interrupted run resumes from the last one; the artifact keeps all."""
    all_responses: bool = False
    """Also compute the responses that the loss ignores (DPO on best and worst ignores all between), so that steps.jsonl
    includes them."""
    sft: Sft | None = None
    """If set, the policy is fine-tuned first; preference training starts from that checkpoint and uses it as
    reference."""

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
            raise ValueError("max_length must be larger than max_prompt_length: it covers the prompt and the response")
        return self

    def of_sft(self, sft: Sft) -> "Training":
        """The settings of the supervised fine-tuning before this training. Its adapters are always merged."""
        return self.model_copy(update={**sft.model_dump(), "sft": None, "merge": False})


def _installed_tracker(value: str) -> str:
    return str(_installed(value, value, f"pip install {value}"))


Tracker = Annotated[Literal["tensorboard", "trackio", "wandb"], AfterValidator(_installed_tracker)]
"""Experiment trackers that can plot a training's curves while it runs."""


Memory = Literal["shared", "checkpointed", "one_response"]


class Runtime(RecipeSection):
    """Settings that can't change a result and are not part of any key."""

    micro_batch_size: int = Field(2, ge=1)
    """Prompts, each with its N responses, per forward pass of training; gradients accumulate to `batch_size`."""
    score_batch_size: int = Field(16, ge=1)
    """Responses per forward pass without gradients."""
    judge_concurrency: int = Field(8, ge=1)
    memory: Memory = "shared"
    """What training keeps in memory, for large N. `shared`: the activations of whole rows, each a prompt with all of
    its responses. `checkpointed`: of those, the inputs of layers; the rest is computed again in the backward pass, as
    by `training.gradient_checkpointing`. `one_response`: the activations of one response, with the prompt computed anew
    for each. The loss and the gradient are the same."""
    report_to: tuple[Tracker, ...] = ()
    """Also send the metrics of each step to these; TensorBoard's files are in the store, under logs/RECIPE/METHOD."""
    launch: Launch | None = None
    """Train in several processes."""
    engines: dict[str, Engine] = Field(default_factory=dict)
    """Servers that the run starts when a stage needs them, by the names that served components ask them under."""
    resources: dict[str, Resources] = Field(default_factory=dict)
    """The resources that each kind of stage needs on a node of a Ray cluster (`harness run --ray`). The number of
    processors is also its number of threads, with or without a cluster. Without an entry for the kind or for `default`:
    one processor, a GPU for stages that load a model if the cluster has any, and torch's own number of threads."""

    @model_validator(mode="before")
    @classmethod
    def _bounded_memory(cls, fields: Any) -> Any:
        """Reads the `bounded_memory` of earlier versions."""
        if not isinstance(fields, dict) or not isinstance(fields.get("bounded_memory"), bool) or "memory" in fields:
            return fields
        others = {name: value for name, value in fields.items() if name != "bounded_memory"}
        return others | ({"memory": "one_response"} if fields["bounded_memory"] else {})

    @field_validator("resources")
    @classmethod
    def _valid_kinds(cls, value: dict[str, Resources]) -> dict[str, Resources]:
        for kind in value:
            if kind not in (kinds := ("default", *STAGE_KINDS)):
                raise ValueError(f"unknown kind of stage {quoted(kind)}; {nearest(kind, kinds, 'expected one of')}")
        return value

    @field_validator("report_to", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value
