"""The recipe's section `runtime.launch`: one training in several processes, and what would stop it later."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from harness.components import RecipePath
from harness.errors import RecipeError
from harness.outside import LARGEST_SETTINGS, read_text, reason_of
from harness.outside_yaml import parse_yaml
from harness.types import RecipeSection

SHARDED = ("FSDP", "DEEPSPEED")
"""accelerate's kinds of training whose processes each hold a part of the policy."""


class Accelerate(RecipeSection):
    """`accelerate launch`: train one policy in several processes. `config`: an accelerate configuration in YAML (DDP,
    FSDP, DeepSpeed: see recipes/accelerate/), which the fields here override."""

    num_processes: int | None = Field(None, ge=1)
    config: RecipePath | None = None

    @field_validator("config")
    @classmethod
    def _usable(cls, value: Path | None) -> Path | None:
        if value is None:
            return None
        fields, name = _fields(value), value.name
        precision = str(fields.get("mixed_precision", "no"))[:20]
        if precision.lower() not in ("no", "false"):
            raise ValueError(
                f"mixed_precision: {precision} in {name} would change results; set it to 'no', because "
                "policy.dtype decides the precision"
            )
        for field in ("num_machines", "num_processes"):
            count = fields.get(field, 1)
            if not isinstance(count, int) or isinstance(count, bool) or count < 1:
                raise ValueError(f"{field}: {str(count)[:20]} in {name}; expected a whole number from 1")
        if fields.get("num_machines", 1) > 1:
            raise ValueError(
                f"num_machines: {fields['num_machines']} in {name}; expected 1: a policy is trained on one"
            )
        if str(fields.get("distributed_type", "")).upper() == "FSDP":
            options = fields.get("fsdp_config")
            version = options.get("fsdp_version", 1) if isinstance(options, dict) else 1
            if str(version) != "2":
                raise ValueError(f"fsdp_version: {str(version)[:20]} in {name}; expected 2 in its fsdp_config")
        return value

    @property
    def fields(self) -> dict[str, Any]:
        """Those of the configuration."""
        return _fields(self.config) if self.config else {}

    @property
    def processes(self) -> int:
        """How many processes are started."""
        of_file: int = self.fields.get("num_processes", 1)
        return self.num_processes or of_file

    @property
    def kind(self) -> str:
        """accelerate's name of how they share the policy: `MULTI_GPU`, `FSDP`, `DEEPSPEED`, ..."""
        name = self.fields.get("distributed_type", "NO") if self.config else "MULTI_GPU"
        return str(name).upper()

    def check(self) -> None:
        """Raises RecipeError if a package that the configuration needs is missing."""
        if self.kind == "DEEPSPEED" and find_spec("deepspeed") is None:
            name = self.config.name if self.config else "the configuration"
            raise RecipeError(f"{name} needs the package deepspeed, which is not installed: pip install deepspeed")


def _fields(path: Path) -> dict[str, Any]:
    """An accelerate configuration. Raises ValueError."""
    if not path.exists():
        raise ValueError(f"no such file: {path.name}; expected an accelerate configuration in YAML")
    try:
        fields = parse_yaml(read_text(path, LARGEST_SETTINGS), any_keys=True)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.name} can't be read ({reason_of(error)}); expected YAML") from None
    if not isinstance(fields, dict):
        raise ValueError(f"{path.name} is no accelerate configuration; expected fields such as num_processes")
    return fields


class Launch(RecipeSection):
    """How the processes of a training stage are started."""

    accelerate: Accelerate
