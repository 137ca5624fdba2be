"""The recipe's section on the model to train, and the names of its rows."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from harness.components import ModelReference
from harness.models.load import Dtype
from harness.models.load import identity as model_identity
from harness.models.processor import AutoDtype
from harness.types import RecipeSection


def _safe_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", value):
        raise ValueError("expected letters, digits, '.', '_' or '-', starting with a letter or digit, at most 80")
    return value


Name = Annotated[str, BeforeValidator(lambda v: _safe_name(v) if isinstance(v, str) else v)]
"""A name that is also used as a folder or file name."""


class Policy(RecipeSection):
    """The model to train. In its untrained state it is also the reference model of the preference losses."""

    model: ModelReference
    revision: str | None = None
    dtype: AutoDtype = Field("auto", validate_default=True)

    @field_validator("dtype")
    @classmethod
    def _not_float16(cls, value: Dtype) -> Dtype:
        if value == "float16":
            raise ValueError("small gradients are lost in float16; expected bfloat16 or float32")
        return value


def policy_identity(policy: Policy) -> dict[str, Any]:
    """The untrained policy's part of a stage key."""
    return {"dtype": policy.dtype, **model_identity(policy.model, policy.revision)}
