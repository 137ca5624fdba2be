"""Checkpoints: the policy that a training starts from, the folders that it writes, and how a row's model is loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from harness.engine.stage import Context, Stage
from harness.engine.store import Artifact
from harness.models.checkpoints.folder import is_adapter
from harness.models.load import Dtype, load_causal_lm, with_adapter
from harness.recipe.policy import Policy
from harness.recipe.training import Lora, Point, Training
from harness.types import Record

CHECKPOINT = "checkpoint"
"""Folder of the deployed policy in a training's artifact: a PEFT adapter, or a whole model in the recipe's dtype; with
its tokenizer. Answers, held-out figures and exports are of this one."""
TRAINED = "trained"
"""Folder, beside `CHECKPOINT`, of what was trained, in float32: an adapter or a whole model. It exists only where the
weights in `CHECKPOINT` were rounded to a half-precision dtype."""


POINTS = "at"
"""Folder, beside both, of the checkpoints on the way that are evaluated, each in a folder of its point's name with a
`CHECKPOINT`, and a `TRAINED` where there is one."""


def folder_at(artifact: Path, point: str | None) -> Path:
    """The folder, in a training's artifact, with the `CHECKPOINT` of a point; None: the last one."""
    return artifact if point is None else artifact / POINTS / point


def in_float32(artifact: Path) -> Path:
    """The folder, in a training's artifact, of what was trained, before any rounding."""
    return artifact / TRAINED if (artifact / TRAINED).is_dir() else artifact / CHECKPOINT


def starting_policy(policy: Policy, training: Training, sft: Artifact | None) -> Policy:
    """The model that a method's training starts from, which is also its reference: the recipe's policy, or what the
    `sft` stage trained. That is in float32, also as the base of adapters; whole models are trained in float32 in any
    case, and keep the recipe's dtype as that of the result."""
    if sft is None:
        return policy
    start = {"model": str(in_float32(sft.folder)), "revision": None}
    return policy.model_copy(update=start | ({"dtype": "float32"} if training.lora else {}))


class Start(NamedTuple):
    """What a training starts from: a policy, or with `adapter`, the folder of a PEFT adapter on it."""

    policy: Policy
    adapter: Path | None = None


def starting_point(policy: Policy, training: Training, sft: Artifact | None, previous: Artifact | None) -> Start:
    """`starting_policy` for the first of several rounds; for a later one, what the `previous` round has trained, before
    any rounding: its whole model, or its adapter on the policy that the first round started from. The adapter is
    trained further as it is, rather than merged and replaced by a new one: nothing is rounded, its rank stays, and an
    engine with the policy serves those of all rounds."""
    if previous is None:
        return Start(starting_policy(policy, training, sft))
    folder = in_float32(previous.folder)
    if is_adapter(folder):
        return Start(starting_policy(policy, training, sft), folder)
    return Start(policy.model_copy(update={"model": str(folder), "revision": None}))


def scoring_dtype(policy: Policy, training: Training, *, fine_tuned: bool) -> Dtype:
    """The dtype for computing the reference's log-probabilities for a training: that of the training, so that policy
    and reference agree before the first step. `fine_tuned`: whether it starts from the `sft` stage's model."""
    return policy.dtype if training.lora and not fine_tuned else "float32"


def scoring_bits(training: Training) -> Literal[4, 8] | None:
    """The bits of the quantised base that is trained; None if not quantised. Its reference uses the same base."""
    return training.lora.bits if training.lora else None


def deployed_adapter(training: Training) -> Lora | None:
    """The adapter that a training's `CHECKPOINT` holds; None if that is a whole model."""
    return None if training.merge else training.lora


class Weights(Record):
    """A policy by its names, so that another process can load it. `bits`: of a quantised base; `adapter`: the folder of
    a PEFT adapter on it."""

    model: str
    revision: str | None
    dtype: Dtype
    bits: Literal[4, 8] | None = None
    adapter: Path | None = None

    def load(self) -> Any:
        """The policy in evaluation mode, on the device."""
        model = load_causal_lm(self.model, self.revision, self.dtype, self.bits)
        return model if self.adapter is None else with_adapter(model, self.adapter)


@dataclass(frozen=True)
class RowModel:
    """The model behind a row: the recipe's policy, fine-tuned by the stage `sft` and trained by the stage `trained`, if
    any. `adapter`: what the checkpoint of `trained` holds; None: a whole model. `point`: which of the checkpoints of
    `trained`; None: the last one."""

    policy: Policy
    trained: Stage | None = None
    sft: Stage | None = None
    adapter: Lora | None = None
    point: Point | None = None

    @property
    def dtype(self) -> Dtype:
        """The dtype of the policy that answers. Adapters on a fine-tuned policy have a base in float32."""
        return "float32" if self.adapter and self.sft else self.policy.dtype

    @property
    def bits(self) -> Literal[4, 8] | None:
        """Of the quantised base that answers, on which the adapter was trained; None if it is not quantised."""
        return self.adapter.bits if self.adapter else None

    @property
    def inputs(self) -> dict[str, Stage]:
        """The inputs, by role, of a stage that loads this model."""
        stages = {"policy": self.trained, "sft": self.sft}
        return {role: stage for role, stage in stages.items() if stage}

    def load(self, ctx: Context) -> Any:
        """The deployed policy in the dtype that answers, from the inputs of the running stage."""
        return self.weights(ctx).load()

    def load_trained(self, ctx: Context) -> Any:
        """What was trained, in float32, before any rounding; from the inputs of the running stage."""
        return self.trained_weights(ctx).load()

    def weights(self, ctx: Context, dtype: Dtype | None = None) -> Weights:
        """The names of what `load` loads, in the dtype that answers or in another one."""
        return self._weights(ctx, CHECKPOINT, dtype or self.dtype)

    def trained_weights(self, ctx: Context) -> Weights:
        """The names of what `load_trained` loads."""
        folder = in_float32(self._artifact(ctx)).name if self.trained else CHECKPOINT
        return self._weights(ctx, folder, "float32")

    def reference_weights(self, ctx: Context, dtype: Dtype) -> Weights:
        """The names of what the training started from, before any round, in a dtype: the recipe's policy, or the one
        that `sft` has fine-tuned; of that the deployed one in half precision, and what was trained in float32."""
        name, revision = self.policy.model, self.policy.revision
        if sft := ctx.inputs.get("sft"):
            name, revision = str(in_float32(sft.folder) if dtype == "float32" else sft.folder / CHECKPOINT), None
        return Weights(model=name, revision=revision, dtype=dtype, bits=self.bits)

    def _weights(self, ctx: Context, name: str, dtype: Dtype) -> Weights:
        """An adapter is loaded on the policy that the recipe names, revision included, rather than on the base that its
        configuration names."""
        folder = self._artifact(ctx) / name if self.trained else None
        if folder is not None and not is_adapter(folder):
            return Weights(model=str(folder), revision=None, dtype=dtype)
        sft = ctx.inputs.get("sft")
        start, revision = (str(in_float32(sft.folder)), None) if sft else (self.policy.model, self.policy.revision)
        return Weights(model=start, revision=revision, dtype=dtype, bits=self.bits, adapter=folder)

    def _artifact(self, ctx: Context) -> Path:
        """The folder with the `CHECKPOINT` that is meant."""
        return folder_at(ctx.inputs["policy"].folder, self.point.name if self.point else None)

    @property
    def identity(self) -> dict[str, Any]:
        """The part of the keys of stages that load this model which their inputs don't tell."""
        return {} if self.point is None else {"point": self.point.name}
