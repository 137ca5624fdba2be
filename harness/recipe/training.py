"""The recipe's sections on training: `training` and `runtime`."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from harness.engine.resources import Resources
from harness.errors import installation, is_installed, nearest, quoted
from harness.models.demand.loads import Scoring
from harness.recipe.launch import Launch
from harness.servers.adapting.continuing import OfEngine
from harness.serving.engine import Engine
from harness.stage_kinds import STAGE_KINDS
from harness.types import RecipeSection


def _installed(package: str, value: Any) -> Any:
    """`value` itself. Raises ValueError if the package that it needs is not installed."""
    if not is_installed(package):
        raise ValueError(f"needs the package {package}, which is not installed: {installation(package)}")
    return value


class Lora(RecipeSection):
    """LoRA adapters (arXiv 2106.09685), by default on all linear layers except the head."""

    r: int = Field(16, ge=1)
    """The rank of the adapters."""
    alpha: int | None = Field(None, ge=1)
    """The numerator of the scaling factor alpha / r; None: 2 r."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """On the input of the adapters, in training."""
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    """Names of the layers that get adapters, or `all-linear`: all but the head."""
    bits: Literal[4, 8] | None = None
    """QLoRA (arXiv 2305.14314): quantise the frozen base to 4 bits (nf4, double quantisation) or 8 with bitsandbytes.
    The quantised base is also the reference model, and checkpoints are evaluated on it."""

    @field_validator("bits")
    @classmethod
    def _can_quantise(cls, value: int | None) -> int | None:
        return value if value is None else _installed("bitsandbytes", value)


class Sft(RecipeSection):
    """Supervised fine-tuning on the best response of each training prompt, before the preference training.
    Everything else (LoRA, schedule, lengths, ...) is as in `training`."""

    epochs: float = Field(1.0, gt=0)
    """Passes over the chosen answers."""
    learning_rate: float = Field(2e-5, gt=0)
    """The largest, after warm-up."""
    batch_size: int = Field(8, ge=1)
    """Prompts per optimizer step."""


TrainingSeed = Annotated[int, Field(ge=0, lt=2**31)]


class Training(RecipeSection):
    """How a method is trained."""

    epochs: float = Field(1.0, gt=0)
    """Passes over the training prompts; may be a fraction."""
    seeds: Annotated[tuple[TrainingSeed, ...], Field(min_length=1)] | None = None
    """Train once with each seed, which changes the order of the data and the initialisation of adapters but not the
    data. None: train once with the recipe's seed."""
    learning_rate: float = Field(1e-4, gt=0)
    """The largest, after warm-up."""
    batch_size: int = Field(8, ge=1)
    """Prompts per optimizer step, each with up to N responses."""
    lora: Lora | None = Lora()
    """Adapters that are trained instead of the whole model; `false`: the whole model."""
    merge: bool = False
    """Deploy a whole model instead of an adapter: adapters are merged into the base (of QLoRA, the one that was not
    quantised) in float32 and rounded stochastically to the policy's dtype. Without adapters it changes nothing."""
    warmup_ratio: float = Field(0.1, ge=0, lt=1)
    """The share of optimizer steps over which the learning rate rises."""
    lr_scheduler: Literal["linear", "cosine", "constant_with_warmup"] = "linear"
    """How the learning rate goes on after warm-up."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's."""
    max_grad_norm: float = Field(1.0, gt=0)
    """The norm to which gradients are clipped."""
    max_prompt_length: int = Field(512, ge=8)
    """Tokens of the longest prompt; what is beyond them is cut."""
    max_length: int = Field(1024, ge=16)
    """Tokens of prompt and response together."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, more time."""
    save_every: int | None = Field(None, ge=1)
    """Optimizer steps between checkpoints. An interrupted run resumes from the last one; the artifact keeps all."""
    all_responses: bool = False
    """Also compute the responses that the loss ignores (DPO on best and worst ignores all between), so that steps.jsonl
    includes them."""
    sft: Sft | None = None
    """If set, the policy is fine-tuned first; preference training starts from that checkpoint and uses it as
    reference."""
    reference: OfEngine | None = None
    """Ask an engine for the reference's log-probabilities, `{name: openai, engine: NAME}`, instead of computing them as
    training computes the policy's. They round otherwise, so that training doesn't begin with a reward of exactly 0.
    TRL's trainers don't read them."""

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
        return self.model_copy(update={**sft.model_dump(), "sft": None, "merge": False, "reference": None})


class Point(RecipeSection):
    """A checkpoint on the way of a training: after a share of its optimizer steps, or after so many of them."""

    share: float | None = Field(None, gt=0, lt=1)
    steps: int | None = Field(None, ge=1)

    @property
    def name(self) -> str:
        """`0.25`, `step-100`: in the ids of its row, and its folder."""
        return f"step-{self.steps}" if self.share is None else f"{self.share:g}"

    def step_of(self, total: int) -> int:
        """The step after which it is written, of `total` ones: at least the first, at most the last."""
        step = self.steps or 0 if self.share is None else round(self.share * total)
        return min(max(1, step), total)


def _installed_tracker(value: str) -> str:
    return str(_installed(value, value))


Tracker = Annotated[Literal["tensorboard", "trackio", "wandb", "mlflow"], AfterValidator(_installed_tracker)]
"""Experiment trackers: each training is a run of theirs (`harness.trackers`)."""


Memory = Literal["shared", "checkpointed", "one_response"]


class Runtime(RecipeSection):
    """Settings that can't change a result and are not part of any key."""

    micro_batch_size: int = Field(2, ge=1)
    """Prompts, each with its N responses, per forward pass of training; gradients accumulate to `batch_size`."""
    score_batch_size: int = Field(16, ge=1)
    """Responses per forward pass without gradients."""
    judge_concurrency: int = Field(8, ge=1)
    """Calls of a judge at a time."""
    memory: Memory = "shared"
    """What training keeps in memory, for large N. `shared`: the activations of whole rows, each a prompt with all of
    its responses. `checkpointed`: of those, the inputs of layers; the rest is computed again in the backward pass, as
    by `training.gradient_checkpointing`. `one_response`: the activations of one response, with the prompt computed anew
    for each. The loss and the gradient are the same."""
    report_to: tuple[Tracker, ...] = ()
    """Also send the metrics of each step to these, and the board's figures at the end. Files are in the store's `logs`
    where the tracker is not told otherwise; TensorBoard's in logs/RECIPE/ROW-KEY."""
    launch: Launch | None = None
    """Train in several processes."""
    engines: dict[str, Engine] = Field(default_factory=dict)
    """Servers that the run starts when a stage needs them, by the names that served components ask them under."""
    resources: dict[str, Resources] = Field(default_factory=dict)
    """The resources that each kind of stage needs on a node of a Ray cluster (`harness run --ray`). The number of
    processors is also its number of threads, with or without a cluster. Without an entry for the kind or for `default`:
    one processor, a GPU for stages that load a model if the cluster has any, and torch's own number of threads."""

    def scoring(self, model: str, tokens: float, row: int, dtype: str) -> Scoring:
        """The load of passes of the policy without gradients, on rows of up to `row` tokens."""
        launch = self.launch.accelerate if self.launch else None
        shares = (launch.processes, launch.kind == "FSDP") if launch else (1, False)
        return Scoring(model, tokens, row, self.score_batch_size, dtype, *shares)

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
