"""The losses of TRL's DPOTrainer in a recipe: `engine: trl`, `loss: {name: sigmoid, beta: 0.1}`.

TRL is not imported here, so that recipes are checked quickly. A test compares the names below with the installed TRL.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from harness.components import modules, parse_loss
from harness.data.pairings import PairSelection
from harness.errors import nearest, quoted

Engine = Literal["harness", "trl"]
"""The trainer of a method: the harness's with the harness's losses, or TRL's DPOTrainer with TRL's."""

TRL_LOSSES = (
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
)
"""The `loss_type`s of TRL 1.16's DPOConfig."""

SMOOTHED = frozenset({"exo_pair", "robust", "aot", "aot_unpaired"})
"""The losses that use `label_smoothing`."""

WHOLE_BATCH = frozenset({"aot", "aot_unpaired", "sft"})
"""Losses that are not a mean over pairs: they sort the pairs of a forward pass, or average over its tokens."""


class TrlLoss(BaseModel):
    """One of TRL's losses, or the sum of several weighted by `loss_weights` (default: 1 each), on pairs of responses
    with different scores."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    name: tuple[str, ...] = Field(min_length=1)
    """One of TRL's losses, or a list of several, which are added."""
    beta: float = Field(0.1, gt=0)
    """TRL's `beta`."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """TRL's: the assumed probability that a pair's order is wrong."""
    pairs: PairSelection = "best_worst"
    """Which pairs of a prompt's responses TRL trains on."""
    loss_weights: tuple[float, ...] | None = None
    """Of several losses, one for each; None: 1 each."""

    @field_validator("name", mode="before")
    @classmethod
    def _valid_names(cls, value: Any) -> Any:
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) for n in names):
            raise ValueError("expected the name of one of TRL's losses, or a list of such names")
        for name in names:
            if name not in TRL_LOSSES:
                raise ValueError(_unknown_loss(name))
        return names

    @model_validator(mode="after")
    def _consistent(self) -> "TrlLoss":
        if self.loss_weights is not None and len(self.loss_weights) != len(self.name):
            raise ValueError(
                f"{len(self.loss_weights)} loss_weights for {len(self.name)} losses; give one per loss, or none"
            )
        smoothed = SMOOTHED & set(self.name)
        if "exo_pair" in smoothed and not self.label_smoothing:
            raise ValueError("exo_pair needs a label_smoothing above 0 (its paper's is 0.001)")
        if self.label_smoothing and not smoothed:
            users = ", ".join(sorted(SMOOTHED))
            raise ValueError(f"label_smoothing has no effect on {self.label}; remove it (it is for {users})")
        return self

    @property
    def label(self) -> str:
        """The loss's name on boards: `trl:sigmoid` or `trl:sigmoid+sft`."""
        return f"trl:{'+'.join(self.name)}"

    def pairs_of(self, n: int) -> int:
        """The pairs of a prompt with `n` responses, none of them tied."""
        counts = {"best_worst": 1, "best_rest": n - 1, "adjacent": n - 1, "all_pairs": n * (n - 1) // 2}
        return counts[self.pairs]

    @property
    def sees_whole_batch(self) -> bool:
        """Whether the number of pairs per forward pass changes the result."""
        return bool(WHOLE_BATCH & set(self.name))


def _unknown_loss(name: str) -> str:
    if name in modules("loss"):
        return f"'{name}' is a loss of the harness; remove engine: trl, or choose one of TRL's: {', '.join(TRL_LOSSES)}"
    return f"unknown TRL loss {quoted(name)}; {nearest(name, TRL_LOSSES)}"


def parse_method_loss(value: Any, info: ValidationInfo) -> Any:
    """A method's loss, depending on the `engine` before it. A pydantic validator; raises as `components.build` does."""
    engine = info.data.get("engine")
    if engine is None or isinstance(value, TrlLoss):
        return value  # an invalid engine is reported already, and the valid losses depend on it
    if engine == "trl":
        try:
            return TrlLoss.model_validate(value)
        except ValidationError as error:
            context = {"kind": "loss", "component": "trl", "model": TrlLoss, "inner": error.errors()}
            raise PydanticCustomError("component_fields", "TRL's loss has wrong fields", context) from None
    name = value.get("name") if isinstance(value, Mapping) else None
    if name in TRL_LOSSES and name not in modules("loss"):
        message = f"'{name}' is a loss of TRL; add engine: trl to the method, or choose one of the harness's: "
        message += ", ".join(sorted(modules("loss")))
        raise PydanticCustomError("component_name", "{message}", {"message": message})
    return parse_loss(value, info)
