"""lm-eval's tasks: their configurations, their data from files or from the hub at a commit, and what they measure."""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from harness.errors import DataError, nearest, need, quoted
from harness.files import json_lines, read_bytes, sha256

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
"""Of the files in a task's folder, one per split."""
KINDS = ("generate_until", "loglikelihood", "multiple_choice")
"""The requests that are supported: not perplexities of whole texts."""


class Measure(NamedTuple):
    """One figure of a task: a metric of lm-eval's, after one of the task's filters."""

    task: str
    metric: str
    filter: str
    higher_is_better: bool


def check_installed() -> None:
    """Raise MissingPackage unless lm-eval is installed."""
    need("benchmark 'lm_eval'", ("lm_eval",))


@cache
def task_config(name: str) -> Mapping[str, Any]:
    """A task's configuration, as lm-eval's file has it with what it includes. Raises DataError."""
    with _quiet():
        import lm_eval.tasks
        from lm_eval.tasks._yaml_loader import (
            load_yaml,  # the manager reads all 14,000 files, which takes half a minute
        )

        names = _names(Path(lm_eval.tasks.__file__).parent)
        if name not in names:
            raise DataError(f"lm_eval has no task {quoted(name)}; {nearest(name, names)}")
        if problem := _unfit(name, load_yaml(names[name], resolve_func=False)):  # before its code is imported
            raise DataError(problem)
        try:
            config: dict[str, Any] = load_yaml(names[name])
        except Exception as error:  # whatever a task's code raises when it is imported
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise DataError(f"lm_eval: task {name} needs what is not on this machine ({reason})") from error
    return config


@cache
def _names(folder: Path) -> dict[str, Path]:
    """The files of all tasks and groups by their names."""
    named = re.compile(rb"^[\"']?(?:task|group)[\"']?:[ \t]*[\"']?([^\"'\s\[{#]+)[\"']?\s*$", re.MULTILINE)
    found = ((path, named.search(read_bytes(path))) for path in sorted(folder.rglob("*.yaml")))
    return {match[1].decode(): path for path, match in found if match}


def _unfit(name: str, config: Mapping[str, Any]) -> str | None:
    """Why a task can't be asked here."""
    if "group" in config or isinstance(config.get("task"), list):
        return f"lm_eval: {name} is a group of tasks; name the tasks of it"
    if "class" in config:
        return f"lm_eval: task {name} is a program of its own, which is not supported; name another task"
    if config.get("unsafe_code"):
        return f"lm_eval: task {name} runs a model's code without a sandbox; use {{name: humaneval, allow_code: true}}"
    if config.get("doc_to_image") or config.get("doc_to_audio"):
        return f"lm_eval: task {name} shows images or plays sounds, and the policy reads text; name another task"
    if (kind := config.get("output_type", "generate_until")) not in KINDS:
        return f"lm_eval: task {name} asks for {kind}; supported are {', '.join(KINDS)}"
    return None


class TaskData(NamedTuple):
    """Where a task's rows are from: a folder with a file per split, or the hub at a commit."""

    folder: Path | None
    revision: str | None

    def identity(self) -> dict[str, Any]:
        """By content. Raises DataError."""
        if self.folder is None:
            return {"revision": self.revision}
        return {split: sha256(read_bytes(path)) for split, path in sorted(_files(self.folder).items())}


def _files(folder: Path) -> dict[str, Path]:
    """The files of a task's folder by split."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        for suffix in SUFFIXES:
            if path.name.endswith(suffix):
                found.setdefault(path.name.removesuffix(suffix), path)
    return found


def load_task(name: str, data: TaskData, num_fewshot: int | None) -> Any:
    """lm-eval's task, with its rows. Raises DataError."""
    config = dict(task_config(name))
    if num_fewshot is not None:
        config["num_fewshot"] = num_fewshot
    if data.folder is None:
        config["dataset_kwargs"] = {**(config.get("dataset_kwargs") or {}), "revision": data.revision}
    else:
        splits = _splits(name, config, data.folder)
        config["custom_dataset"] = lambda **_: splits
    with _quiet():
        from lm_eval.api.task import ConfigurableTask

        try:
            task = ConfigurableTask(config=config)
        except Exception as error:  # whatever a task's code, datasets or the hub raises
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise DataError(
                f"lm_eval: task {name} can't be loaded ({reason}); {_advice(name, data, config)}"
            ) from error
        task.set_fewshot_seed(1234)  # lm-eval's default, so that the worked examples are the same
    return task


def _advice(name: str, data: TaskData, config: Mapping[str, Any]) -> str:
    where = f"{config.get('dataset_path')} {config.get('dataset_name') or ''}".strip()
    if data.folder is not None:
        return f"expected the rows of {where} in {data.folder}"
    return f"it is fetched from {where} on the hub; offline, give data_dir with {name}/SPLIT.jsonl"


def _splits(name: str, config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The splits in a task's folder. Raises DataError where one that it needs is missing."""
    from datasets import Dataset

    needed: list[Any] = [config.get("test_split") or config.get("validation_split")]
    shots = config.get("fewshot_config") or {}
    if config.get("num_fewshot") and not shots.get("samples"):
        needed.append(config.get("fewshot_split") or config.get("training_split") or config.get("validation_split"))
    files = _files(folder)
    if missing := [split for split in needed if split and split not in files]:
        raise DataError(f"lm_eval: no file {folder / missing[0]}.jsonl: task {name} needs the split {missing[0]!r}")
    read = {}
    for split, path in files.items():
        if path.name.endswith(".parquet"):
            read[split] = Dataset.from_parquet(str(path), keep_in_memory=True)
        else:
            read[split] = Dataset.from_list(json_lines(read_bytes(path), str(path)))
    for key in ("training_split", "validation_split", "test_split"):
        named = str(config.get(key) or "")
        if named and named not in read:  # the task names it, and doesn't need it here
            read[named] = Dataset.from_list([])
    return read


def measures(name: str, config: Mapping[str, Any]) -> list[Measure]:
    """What a task measures as a mean over its items, in lm-eval's order. Raises DataError for a task without any."""
    listed = config.get("metric_list")
    with _quiet():
        from lm_eval.api.metrics import mean
        from lm_eval.api.registry import (
            DEFAULT_METRIC_REGISTRY,
            get_metric_aggregation,
            is_higher_better,
        )
    if not listed:
        listed = [{"metric": m} for m in DEFAULT_METRIC_REGISTRY[config.get("output_type", "generate_until")]]
    filters = [str(one["name"]) for one in config.get("filter_list") or [{"name": "none"}]]
    found = []
    for one in listed:
        metric = one["metric"] if isinstance(one["metric"], str) else one["metric"].__name__
        if metric == "bypass":
            continue
        aggregation = one["aggregation"] if "aggregation" in one else get_metric_aggregation(metric)
        if aggregation in ("mean", mean):
            better = one["higher_is_better"] if "higher_is_better" in one else is_higher_better(metric)
            found += [Measure(name, metric, chosen, bool(better)) for chosen in filters]
    if not found:
        raise DataError(f"lm_eval: task {name} has no metric that is a mean over its items; name another task")
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Without lm-eval's warnings, which are about its own commands."""
    logger = logging.getLogger("lm_eval")
    level, logger_level = logging.ERROR, logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(logger_level)


@contextmanager
def without_bars() -> Iterator[None]:
    """Without lm-eval's progress bars and warnings: the harness has its own."""
    import lm_eval.api.task as task_module

    with _quiet(), patch.object(task_module, "tqdm", lambda items, **_: items):
        yield
