"""The recipe's section `runtime.launch`: one training in several processes, and what would stop it later."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from harness.components import RecipePath
from harness.errors import RecipeError, nearest
from harness.memo import once
from harness.outside import LARGEST_SETTINGS, read_text, reason_of
from harness.outside_yaml import parse_yaml
from harness.types import RecipeSection

SHARDED = ("FSDP", "DEEPSPEED")
"""accelerate's kinds of training whose processes each hold a part of the policy."""
ALONE = ("NO", "MULTI_CPU")
"""Those of which accelerate's launcher starts one process, whatever their number (MULTI_CPU is for mpirun)."""
KINDS = (*ALONE, "MULTI_GPU", *SHARDED)
"""Those that a training can be started as."""
TESTED = {
    **dict.fromkeys(ALONE, "Not run on a GPU: a launch of one process"),
    "MULTI_GPU": "Not run on a GPU: DDP, which two CPU processes are tested with",
    "FSDP": "Not run on a GPU: FSDP 2, which two CPU processes are tested with",
    "DEEPSPEED": "Not run at all: DeepSpeed",
}
"""What is known of accelerate's kinds of several processes."""


class Accelerate(RecipeSection):
    """`accelerate launch`: train one policy in several processes."""

    num_processes: int | None = Field(None, ge=1)
    """Processes of the training; None: as the configuration says."""
    config: RecipePath | None = None
    """An accelerate configuration in YAML (DDP, FSDP, DeepSpeed: see recipes/accelerate/), which the fields here
    override."""

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
        if "distributed_type" not in fields:
            raise ValueError(f"distributed_type is missing in {name}; expected one of {', '.join(KINDS)}")
        kind = _kind(fields)
        if kind not in KINDS:
            raise ValueError(f"distributed_type: {kind[:30]} in {name}; {nearest(kind, KINDS, 'expected one of')}")
        _refuse_options(fields, kind, name)
        return value

    @model_validator(mode="after")
    def _starts_them(self) -> Self:
        if self.config and self.kind in ALONE and self.processes > 1:
            raise ValueError(
                f"distributed_type: {self.kind} in {self.config.name} starts one process, and {self.processes} are "
                "wanted; expected MULTI_GPU, whose processes run on CPUs where there are no GPUs"
            )
        return self

    @property
    def fields(self) -> dict[str, Any]:
        """Those of the configuration."""
        path = self.config
        return once(("accelerate configuration", path), lambda: _fields(path)) if path else {}

    @property
    def processes(self) -> int:
        """How many processes are started."""
        of_file: int = self.fields.get("num_processes", 1)
        return self.num_processes or of_file

    @property
    def kind(self) -> str:
        """accelerate's name of how they share the policy: `MULTI_GPU`, `FSDP`, `DEEPSPEED`, ..."""
        return _kind(self.fields) if self.config else "MULTI_GPU"

    @property
    def tested(self) -> str:
        """What is known of such processes, for a plan."""
        return TESTED.get(self.kind, f"Not run at all: {self.kind}")

    @property
    def is_sharded(self) -> bool:
        """Whether each process of a training holds a part of the policy."""
        return self.kind in SHARDED

    def check(self) -> None:
        """Raises RecipeError if a package that the configuration needs is missing."""
        if self.kind == "DEEPSPEED" and find_spec("deepspeed") is None:
            name = self.config.name if self.config else "the configuration"
            raise RecipeError(f"{name} needs the package deepspeed, which is not installed: pip install deepspeed")


class _Option(NamedTuple):
    """An option of a configuration that the trainer honours with some values only. `missing`: what accelerate takes for
    a missing one."""

    section: str
    name: str
    missing: Any
    allowed: tuple[Any, ...]
    why: str


_FSDP, _DEEPSPEED = "fsdp_config", "deepspeed_config"
_ORDINARY = "so that checkpoints are ordinary ones"
_OPTIONS = {
    "FSDP": (
        _Option(_FSDP, "fsdp_version", 1, (2,), ""),
        _Option(_FSDP, "fsdp_state_dict_type", "SHARDED_STATE_DICT", ("FULL_STATE_DICT",), _ORDINARY),
        _Option(_FSDP, "fsdp_offload_params", False, (False,), "scoring keeps weights on the GPU"),
        _Option(_FSDP, "fsdp_activation_checkpointing", False, (False,), "training.gradient_checkpointing says that"),
    ),
    "DEEPSPEED": (
        _Option("", "deepspeed_config_file", None, (None,), "give its fields in deepspeed_config"),
        _Option(_DEEPSPEED, "deepspeed_config_file", None, (None,), "give its fields in deepspeed_config"),
        _Option(_DEEPSPEED, "zero_stage", 2, (1, 2, 3), ""),
        _Option(_DEEPSPEED, "zero3_init_flag", False, (False,), "models are tried out whole before they are sharded"),
        _Option(_DEEPSPEED, "gradient_accumulation_steps", "auto", ("auto",), "training.batch_size decides it"),
        _Option(_DEEPSPEED, "gradient_clipping", "auto", ("auto",), "training.max_grad_norm decides it"),
    ),
}
_ZERO3 = (_Option(_DEEPSPEED, "zero3_save_16bit_model", False, (True,), _ORDINARY),)
_EVERYWHERE = (
    _Option("", "fp8_config", {}, ({}, None), "policy.dtype decides the precision"),
    _Option("", "parallelism_config", {}, ({}, None), "policies are shared by data alone"),
    _Option("dynamo_config", "dynamo_backend", "NO", ("NO", "no"), "compiled products round otherwise"),
)


def _kind(fields: dict[str, Any]) -> str:
    """accelerate's name of a kind of training. YAML reads a NO without quotes as false."""
    return str(fields["distributed_type"] or "NO").upper()


def _refuse_options(fields: dict[str, Any], kind: str, name: str) -> None:
    """Raises ValueError for an option that the trainer can't honour."""
    for section in (_FSDP, _DEEPSPEED, "dynamo_config"):
        if not isinstance(fields.get(section, {}), dict):
            raise ValueError(f"{section}: {str(fields[section])[:20]} in {name}; expected fields")
    options = [*_EVERYWHERE, *_OPTIONS.get(kind, ())]
    if kind == "DEEPSPEED" and fields.get(_DEEPSPEED, {}).get("zero_stage") == 3:
        options += _ZERO3
    for option in options:
        given = fields.get(option.section, {}) if option.section else fields
        value = given.get(option.name, option.missing)
        if not any(str(value).lower() == str(one).lower() for one in option.allowed):
            said = f"{option.name}: {str(value)[:30]}" + ("" if option.name in given else " (the default)")
            where = f" in its {option.section}" if option.section else ""
            expected = " or ".join("none" if one is None else str(one) for one in option.allowed if one != {})
            why = f": {option.why}" if option.why else ""
            raise ValueError(f"{said} in {name}; expected {expected}{where}{why}")


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
    # A null is accelerate's default, but a kind of training is NO then.
    return {name: value for name, value in fields.items() if value is not None or name == "distributed_type"}


class Launch(RecipeSection):
    """How the processes of a training stage are started."""

    accelerate: Accelerate
