"""An engine: a server of a model, as `runtime.engines` of a recipe describes it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from harness.components import ModelReference, RecipePath
from harness.errors import nearest, quoted
from harness.models.builtin.fetch import BUILTIN
from harness.models.checkpoints import hub
from harness.models.checkpoints.folder import CONFIG, read_object
from harness.models.load import identity as model_identity
from harness.printable import is_secret
from harness.settings import Settings

Kind = Literal["vllm", "sglang", "transformers", "command"]
Option = str | int | float | bool | None
MOST_REPLICAS = 64
NAMING = ("vllm", "sglang")
"""Kinds that serve a model under any name."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TAKEN = {"host": "its host", "port": "its port", "model": "`model`", "model_path": "`model`"}
_LORA = {"enable_lora", "max_lora_rank"}
_REPLACED = {"dtype", "revision", "served_model_name", *_LORA}
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values of vLLM's max_lora_rank."""
_OF_WEIGHTS = ("revision", "quantization")
"""Options that decide which weights answer."""


class Engine(Settings):
    """A server with an OpenAI-compatible endpoint, which a stage that needs it starts on this machine.

    `name`: `vllm`, `sglang` or `transformers` (its `serve`), or `command`: any program. `model`: a hub id, a folder or
    a built-in name. `python`: the Python of the environment that has the engine; None: this one. `options`: more of its
    options, as `{max_model_len: 4096}`; true is an option alone, false the same after `--no-`. `environment`: more
    variables, none of which may hold a secret. `gpus`: of each replica, by CUDA_VISIBLE_DEVICES; 0: what the machine
    has. `replicas`: how many servers share the calls. `seconds`: for a start, in which weights may be downloaded.
    `restarts`: of a replica that dies or hangs; `silence`: seconds without an answer after which it hangs.
    """

    name: Kind = "vllm"
    model: ModelReference | None = Field(None, min_length=1)
    python: RecipePath | None = None
    command: tuple[str, ...] = ()
    """The words of the program that `name: command` starts, with {model}, {host} and {port} in them."""
    options: dict[str, Option] = Field(default_factory=dict)
    environment: dict[str, str] = Field(default_factory=dict)
    gpus: int = Field(0, ge=0, le=64)
    replicas: int = Field(1, ge=1, le=MOST_REPLICAS)
    seconds: float = Field(900, gt=0)
    restarts: int = Field(2, ge=0, le=100)
    silence: float = Field(60, gt=0)

    @field_validator("environment")
    @classmethod
    def _holds_no_secret(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f"expected names of environment variables, got {name[:40]!r}")
            if is_secret(name):
                raise ValueError(f"{name} may hold a secret, and recipes are published: set it in the environment")
        return value

    @field_validator("options")
    @classmethod
    def _are_the_users(cls, value: dict[str, Option]) -> dict[str, Option]:
        for name in value:
            plain = _plain(name)
            if plain in _TAKEN:
                raise ValueError(f"{name} can't be set here: the harness sets {_TAKEN[plain]}")
            if is_secret(plain):
                raise ValueError(f"{name} may hold a secret, and recipes are published: leave it out")
        return value

    @model_validator(mode="after")
    def _says_what_to_start(self) -> "Engine":
        if self.name == "command" and not self.command:
            raise ValueError("name: command needs `command`, a list of words with {port} in it")
        if self.name != "command" and self.command:
            raise ValueError(f"`command` is for name: command; remove it, or name: {self.name}")
        if self.name != "command" and self.model is None:
            raise ValueError(f"{self.name} needs `model`: a hub id, or a folder")
        if self.command and not any("{port}" in word for word in self.command):
            raise ValueError("expected {port} in `command`: the harness chooses the port")
        return self

    @property
    def served_name(self) -> str | None:
        """The name under which it serves its model; None: only who asks it knows."""
        for name, value in self.options.items():
            if _plain(name) == "served_model_name" and isinstance(value, str):
                return value
        if self.model is not None and self.name in NAMING and Path(self.model).is_absolute():
            return Path(self.model).name
        return self.model

    def of(self, model: str, revision: str | None, dtype: str, rank: int | None = None) -> "Engine":
        """The same program with another model. `rank`: of the largest adapter on it that it will be given, which vLLM
        calls LoRA; None: none."""
        options = {name: value for name, value in self.options.items() if _plain(name) not in _REPLACED}
        options |= {"dtype": dtype, **({"revision": revision} if revision else {})}
        if rank is not None:
            options |= {"enable_lora": True, "max_lora_rank": next((r for r in LORA_RANKS if r >= rank), rank)}
        return self.model_copy(update={"model": model, "options": options})

    def serves(self, other: "Engine") -> bool:
        """Whether a server of this engine is one of the other, too: that it takes adapters besides, or that it is told
        the dtype which the other finds in the model's configuration, makes no difference to who asks for the model."""
        if self == other:
            return True
        if self.name != "vllm" or other.options.get("enable_lora"):
            return False
        mine, theirs = ({_plain(n): v for n, v in e.options.items() if _plain(n) not in _LORA} for e in (self, other))
        if theirs.get("dtype", "auto") == "auto" and mine.get("dtype") == "bfloat16" == _saved_dtype(self):
            mine, theirs = ({n: v for n, v in options.items() if n != "dtype"} for options in (mine, theirs))
        return self.model_copy(update={"options": mine}) == other.model_copy(update={"options": theirs})

    @property
    def window(self) -> int | None:
        """The most tokens of a prompt and its answer, if the recipe limits them."""
        given = next((value for name, value in self.options.items() if _plain(name) == "max_model_len"), None)
        return given if type(given) is int else None

    def weights(self) -> dict[str, Any]:
        """What its model's name doesn't say about who answers: part of the identity of what asks it. Empty for a hub
        id, as for a server elsewhere."""
        local = self.model is not None and Path(self.model).is_absolute()
        options = {name: self.options[name] for name in _OF_WEIGHTS if self.options.get(name) is not None}
        return options | ({"weights": model_identity(self.model)} if local and self.model else {})


def _plain(option: str) -> str:
    return option.lstrip("-").replace("-", "_")


def _saved_dtype(engine: Engine) -> str | None:
    """The dtype that its model's configuration names; None if it names none, or isn't on this machine."""
    model, revision = engine.model or "", str(engine.options.get("revision") or "") or None
    if model in BUILTIN:
        return "bfloat16"
    config = Path(model) / CONFIG if Path(model).is_absolute() else hub.cached_configuration(model, revision)
    fields = read_object(config, config.parent) if config and config.exists() else {}
    named = fields.get("dtype") or fields.get("torch_dtype")
    return named if isinstance(named, str) else None


class Named(NamedTuple):
    """An engine with its name in the recipe."""

    name: str
    engine: Engine


def _resolved(value: Any, info: ValidationInfo) -> Named | None:
    if value is None or isinstance(value, Named):
        return value
    if not isinstance(value, str):
        raise ValueError("expected the name of an engine in runtime.engines")
    engines: Mapping[str, Engine] = (info.context or {}).get("engines", {})
    if value not in engines:
        expected = nearest(value, engines, "engines") if engines else "describe it in runtime.engines"
        raise ValueError(f"no engine {quoted(value)} in runtime.engines; {expected}")
    return Named(value, engines[value])


_NAME_OR_NONE = {"anyOf": [{"type": "string"}, {"type": "null"}]}


def _name(value: Named | None) -> str | None:
    return None if value is None else value.name


EngineField = Annotated[Named | None, PlainValidator(_resolved), PlainSerializer(_name), WithJsonSchema(_NAME_OR_NONE)]
"""An engine by its name in the recipe. The validation context's `engines` has them; see `engines_in`."""


def engines_in(fields: Any, context: Mapping[str, Any]) -> dict[str, Engine]:
    """The engines in a recipe's fields, before they are checked. One with a mistake, which is reported elsewhere, is a
    stand-in."""
    runtime = fields.get("runtime") if isinstance(fields, dict) else None
    described = runtime.get("engines") if isinstance(runtime, dict) else None
    engines: dict[str, Engine] = {}
    for name, value in described.items() if isinstance(described, dict) else ():
        try:
            engines[str(name)] = Engine.model_validate(value, context=dict(context))
        except ValidationError:
            engines[str(name)] = Engine.model_construct(model=str(name))
    return engines
