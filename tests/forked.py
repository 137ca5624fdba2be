"""The command line in processes that do not import torch and its like anew: each is forked from one that has, as
Python's own `forkserver` does it. Otherwise it is a process like any other: with its own environment, folder, output,
signals and exit code. Importing is most of what a run on a tiny model takes."""

import atexit
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from harness.children.start import in_environment

ROOT = Path(__file__).parents[1]
LOADED = [
    *("torch", "transformers.trainer", "transformers.models.llama.modeling_llama", "peft", "accelerate", "datasets"),
    *("trl.trainer.dpo_trainer", "scipy.stats", "pydantic", "typer", "rich.console", "yaml"),
]
"""Nothing of the harness itself: what it does when it is imported is done in the command's environment."""
READ_ON_IMPORT = {"TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"}
"""What the command line sets before it imports these."""
_processes = multiprocessing.get_context("forkserver")


def call(function: Callable[..., None], *arguments: Any) -> int:
    """The exit code of a process that calls a function."""
    _processes.set_forkserver_preload(LOADED)
    with in_environment(READ_ON_IMPORT):
        forkserver.ensure_running()
    process = _processes.Process(target=function, args=arguments)
    process.start()
    process.join(300)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"{function.__name__}{arguments} has not ended after 300 s")
    return process.exitcode


def harness(*arguments: str, home: Path, cwd: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """A command with `home` as its cache folder, run in `cwd` to its end."""
    variables = {**os.environ, "HARNESS_HOME": str(home), "PYTHONPATH": str(ROOT), **variables}
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / name for name in ("stdout", "stderr")]
        code = call(_run, arguments, cwd, variables, outputs)
        return subprocess.CompletedProcess(arguments, code, *(path.read_text() for path in outputs))


def _run(arguments: Sequence[str], cwd: Path, variables: dict[str, str], outputs: Sequence[Path]) -> None:
    for number, path in enumerate(outputs, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(cwd)
    os.environ |= variables
    sys.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in variables
    sys.path[:0] = [entry for entry in variables["PYTHONPATH"].split(os.pathsep) if entry not in sys.path]
    sys.argv = ["harness", *arguments]
    from harness.cli.start import main

    try:
        main()
    finally:
        atexit._run_exitfuncs()
