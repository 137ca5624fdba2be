"""How each kind of engine is started, where it says that it is ready, and whether it can be started at all."""

import os
import shutil
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from harness.children.start import run
from harness.errors import ModelError
from harness.models.load import local_path
from harness.serving.engine import NAMING, Engine, Option
from harness.serving.ports import HOST

QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""Engines tell their makers nothing about a run."""
ADAPTERS = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
"""vLLM takes adapters while it runs, on the address of this machine only."""
HEALTH = ("/health", "/v1/models")
"""Where to ask whether an engine is ready; the first that exists tells."""
DEVICES = "CUDA_VISIBLE_DEVICES"
_DEFAULTS: dict[str, dict[str, Option]] = {
    "vllm": {"uvicorn_log_level": "warning", "generation_config": "vllm"},
    "sglang": {"log_level_http": "warning", "sampling_defaults": "openai"},
}
"""No line for every call in the log; samples are drawn as the recipe says, not as the model's generation_config.json
does, with a top_k or a penalty for repetitions."""
CHECK_SECONDS = 30.0
_LOOK_FOR = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"


def command_of(engine: Engine, port: int) -> list[str]:
    """The words of the command that starts a replica. A built-in model is fetched on first use."""
    python = str(engine.python or sys.executable)
    model = local_path(engine.model or "")
    if engine.name == "command":
        return [_filled(word, {"model": model, "host": HOST, "port": str(port)}) for word in engine.command]
    if engine.name == "transformers":
        program = [_beside(python), "serve", model]
    elif engine.name == "sglang":
        program = [python, "-m", "sglang.launch_server", "--model-path", model]
    else:
        program = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", model]
    return [*program, "--host", HOST, "--port", str(port), *_options(_defaults(engine) | engine.options)]


def variables_of(engine: Engine, devices: Sequence[int]) -> dict[str, str]:
    """The environment variables that a replica gets besides this process's. `devices`: its GPUs, counted among those
    that this process may use. Raises ModelError if there aren't as many."""
    more = {**QUIET, **(ADAPTERS if engine.name == "vllm" else {})}
    if devices:
        allowed = [part.strip() for part in os.environ.get(DEVICES, "").split(",") if part.strip()]
        if allowed and max(devices) >= len(allowed):
            raise ModelError(
                f"engine {engine.name}: its replicas need {max(devices) + 1} GPUs, and {DEVICES} allows "
                f"{len(allowed)}: lower gpus or replicas"
            )
        more[DEVICES] = ",".join(allowed[device] if allowed else str(device) for device in devices)
    return more | engine.environment


def check(engine: Engine) -> None:
    """Check that its program and its package are installed, once for each. Raises ModelError."""
    if engine.model is not None and Path(engine.model).is_absolute() and not Path(engine.model).is_dir():
        raise ModelError(f"{engine.model}: no such folder; expected a hub id or the folder of a model")
    if engine.name == "command":
        if shutil.which(engine.command[0]) is None:
            raise ModelError(f"{engine.command[0]}: no such program; expected the first word of `command` to be one")
        return
    if problem := _problem(engine.name, str(engine.python or sys.executable)):
        raise ModelError(problem)


@cache
def _problem(package: str, python: str) -> str:
    """Why a Python can't start an engine; empty if it can."""
    advice = f"set `python` to the Python of an environment that has {package}"
    if not os.path.isfile(python):
        return f"{python}: no such file; {advice}"
    try:
        result = run([python, "-I", "-c", _LOOK_FOR, package], CHECK_SECONDS)
    except TimeoutError as error:
        return f"{error}; {advice}"
    if result.returncode == 1 and not result.stderr.strip():
        return f"{python} has no package {package}; {advice}"
    if result.returncode:
        return f"{python} is no Python that runs here; {advice}"
    if package == "transformers" and not os.path.isfile(_beside(python)):
        return f"{_beside(python)}: no such file; {advice}[serving]"
    return ""


def _beside(python: str) -> str:
    """The command of transformers in the environment of a Python."""
    return str(Path(python).parent / "transformers")


def _defaults(engine: Engine) -> dict[str, Option]:
    """Options that the recipe may override."""
    if engine.name not in NAMING:
        return {}
    named = any(name.replace("-", "_") == "served_model_name" for name in engine.options)
    name = {} if named else {"served_model_name": engine.served_name}
    return {**name, **_DEFAULTS[engine.name]}


def _filled(word: str, words: dict[str, str]) -> str:
    for name, value in words.items():
        word = word.replace("{" + name + "}", value)
    return word


def _options(options: dict[str, Option]) -> list[str]:
    words: list[str] = []
    for name, value in options.items():
        option = name.replace("_", "-").lstrip("-")
        if value is None:
            continue
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words += [f"--{option}", str(value)]
    return words
