"""The base of everything that a recipe or a settings file fills in: frozen, strict about fields, finite numbers."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidatorFunctionWrapHandler, field_validator
from pydantic_core import PydanticCustomError


class Settings(BaseModel):
    """A frozen group of options that rejects unknown fields. `true` is no number: YAML reads `yes` and `on` as true."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    @field_validator("*", mode="wrap")
    @classmethod
    def _no_flag_as_number(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        checked = handler(value)
        if _became_a_number(value, checked):
            raise PydanticCustomError("flag_as_number", "expected a number, not true or false")
        return checked


def _became_a_number(value: Any, checked: Any) -> bool:
    """Whether `true` or `false` in a value, or in a list or mapping of plain values, became 1 or 0."""
    if isinstance(value, bool):
        return isinstance(checked, int | float) and not isinstance(checked, bool)
    if isinstance(value, Mapping) and isinstance(checked, Mapping):
        return any(key in checked and _became_a_number(part, checked[key]) for key, part in value.items())
    if isinstance(value, list | tuple) and isinstance(checked, list | tuple) and len(value) == len(checked):
        return any(map(_became_a_number, value, checked))
    return False
