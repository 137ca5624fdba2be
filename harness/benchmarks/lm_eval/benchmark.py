"""Tasks of EleutherAI's lm-eval (GitHub EleutherAI/lm-evaluation-harness) as one benchmark without a judge."""

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from harness.benchmark import Benchmark
from harness.benchmarks.lm_eval.replay import Result, build_requests, item_id, questions_of, results_of
from harness.benchmarks.lm_eval.tasks import (
    Measure,
    TaskData,
    check_installed,
    load_task,
    measures,
    task_config,
)
from harness.components import RecipePath
from harness.errors import DataError, nearest, quoted
from harness.figures import Figure, Pairing
from harness.files import local_folder
from harness.memo import once
from harness.settings import Settings
from harness.types import Answer, Ask, Question, Verdict


class Task(Settings):
    """One task. `num_fewshot`: worked examples before an item; None: as the task has it. `measure`: a filter or a
    metric of the task, by which the task is compared; None: the task's first."""

    task: str = Field(min_length=1, pattern=r"^[^/#:\s]+$")
    """Its name in lm-evaluation-harness."""
    num_fewshot: int | None = Field(None, ge=0, le=64)
    measure: str | None = None


class LmEval(Benchmark):
    """lm-eval's prompts, filters and metrics on a row's own answers; choices by their log-likelihoods.

    `tasks`: names, or `{task: gsm8k, num_fewshot: 5, measure: flexible-extract}`. `limit`: that many items of each, the
    first ones, as `lm_eval --limit` has it. `chat`: prompts are rendered by the policy's chat template, worked examples
    as turns (`--apply_chat_template --fewshot_as_multiturn`); false: they are texts to continue, as lm-eval's own
    default.

    Figures are percentages of items: every metric of a task that is a mean over its items with values from 0 to 1;
    others, such as perplexities, are left out.
    """

    needs: ClassVar[tuple[str, ...]] = ("lm_eval",)
    title: ClassVar[str] = "lm-eval"
    judged: ClassVar[bool] = False

    name: Literal["lm_eval"] = "lm_eval"
    tasks: tuple[Task, ...] = Field(min_length=1)
    limit: int | None = Field(None, ge=1)
    chat: bool = True
    data_dir: RecipePath | None = None
    """A folder with `TASK/SPLIT.jsonl` (also .jsonl.gz, .parquet); None: from the hub."""
    revisions: dict[str, str] = Field(default_factory=dict)
    """The commit on the hub of each task's data, by the task's name."""

    @field_validator("tasks", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        listed = value if isinstance(value, list | tuple) else [value]
        return [{"task": one} if isinstance(one, str) else one for one in listed]

    @field_validator("tasks")
    @classmethod
    def _each_once(cls, value: tuple[Task, ...]) -> tuple[Task, ...]:
        names = [one.task for one in value]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"expected each task once, because figures are named after it; repeated: {repeated}")
        return value

    @field_validator("revisions")
    @classmethod
    def _commits(cls, value: dict[str, str]) -> dict[str, str]:
        if wrong := [name for name, commit in value.items() if not re.fullmatch(r"[0-9a-f]{40}", commit)]:
            raise ValueError(f"{wrong[0]}: expected a commit of 40 hex digits, since branches and tags move")
        return value

    @classmethod
    def figures_of(cls, identity: Mapping[str, Any]) -> tuple[Figure, ...]:
        """One per measure; a task's chosen measure is named after the task and stands on the board. `identity`: or the
        fields of a recipe."""
        listed = identity.get("measures")
        if listed is None:
            tasks = tuple(Task.model_validate(task) for task in identity.get("tasks", ()))
            listed = [[*measure, measure == main] for measure, main in _measures(tasks)]
        found = []
        for turn, (task, metric, chosen, higher, main) in enumerate(listed, start=1):
            detail = metric if chosen == "none" else f"{metric}, {chosen}"
            found.append(
                Figure(
                    metric=f"lm_eval.{task}" if main else f"lm_eval.{task}:{metric}:{chosen}",
                    group=cls.title,
                    title=task if main else f"{task} ({detail})",
                    unit="%",
                    higher_is_better=bool(higher),
                    pairing=Pairing(scale=100, turn=turn),
                    limits=(0.0, 100.0),
                    place="board" if main else "details",
                    note=f"lm-eval {task}: {detail}." if main else None,
                    tax=task if main else None,
                )
            )
        return tuple(found)

    def identity(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "tasks": [self._task_identity(task) for task in self.tasks],
            "limit": self.limit,
            "chat": self.chat,
            "measures": [[*measure, measure == main] for measure, main in _measures(self.tasks)],
            "lm_eval": version("lm_eval"),
        }

    def _task_identity(self, task: Task) -> dict[str, Any]:
        metadata = task_config(task.task).get("metadata")
        given = {"num_fewshot": task.num_fewshot} if task.num_fewshot is not None else {}
        data = self._data(task.task).identity()
        return {"task": task.task, "version": (metadata or {}).get("version"), "data": data, **given}

    def question_identity(self) -> dict[str, Any]:
        """Without the measures, which don't change what is asked."""
        return {key: value for key, value in self.identity().items() if key != "measures"}

    def check(self) -> None:
        check_installed()
        if strange := sorted(self.revisions.keys() - {task.task for task in self.tasks}):
            names = [task.task for task in self.tasks]
            raise DataError(f"lm_eval: revisions: no task {quoted(strange[0])}; {nearest(strange[0], names)}")
        for task in self.tasks:
            task_config(task.task)
            self._data(task.task)
        _measures(self.tasks)

    def prepare(self) -> None:
        self.load_questions()

    def load_questions(self) -> list[Question]:
        return [q for task, instances in self._loaded() for q in questions_of(task, instances)]

    def all_prompts(self) -> list[tuple[str, str]]:
        """The text of every item, whatever the limit, without worked examples."""
        prompts = []
        for task, _ in self._loaded():
            for i, doc in enumerate(task.eval_docs):
                text = task.doc_to_text(doc)
                if isinstance(text, str):  # else the item's texts are its choices, which complete one another
                    prompts.append((item_id(task.task_name, i), text))
        return prompts

    def verdicts(self, answers: Sequence[Answer], reference: Sequence[Answer], ask: Ask) -> list[Verdict]:
        """One per item and measure, whose number is the verdict's turn."""
        by_id = {answer.question_id: answer for answer in answers}
        found = []
        for task, instances in self._loaded():
            name = task.task_name
            values = {(r.item, r.metric, r.filter): r for r in results_of(task, by_id, self.limit, self.chat)}
            items = [item_id(name, doc) for doc in dict.fromkeys(instance.doc_id for instance in instances)]
            for turn, (measure, _) in enumerate(_measures(self.tasks), start=1):
                if measure.task == name:
                    keys = [(item, measure.metric, measure.filter) for item in items]
                    found += [_verdict(key[0], turn, measure, values.get(key)) for key in keys]
        return found

    def _data(self, task: str) -> TaskData:
        """Raises DataError for a task whose data is neither in a folder nor pinned."""
        folder = local_folder(self.data_dir, self.name)
        if folder is not None and (self.data_dir is not None or (folder / task).is_dir()):
            if not (folder / task).is_dir():
                raise DataError(f"lm_eval: no folder {folder / task}; expected {task}/SPLIT.jsonl in data_dir")
            return TaskData(folder / task, None)
        if task not in self.revisions:
            where = task_config(task).get("dataset_path")
            raise DataError(
                f"lm_eval: task {task}: pin its data, {where} on the hub, with revisions: {{{task}: COMMIT}}, or give "
                f"data_dir with {task}/SPLIT.jsonl"
            )
        return TaskData(None, self.revisions[task])

    def _loaded(self) -> list[tuple[Any, list[Any]]]:
        """lm-eval's tasks with their instances."""
        return once(("lm_eval loaded", id(self)), lambda: (self, self._load()))[1]

    def _load(self) -> list[tuple[Any, list[Any]]]:
        check_installed()
        loaded = [load_task(task.task, self._data(task.task), task.num_fewshot) for task in self.tasks]
        return [(task, build_requests(task, self.limit, self.chat)) for task in loaded]


def _measures(tasks: Sequence[Task]) -> list[tuple[Measure, Measure]]:
    """(a measure, the one that its task is compared by), task by task. Raises DataError."""
    if tasks:
        check_installed()
    found = []
    for task in tasks:
        own = measures(task.task, task_config(task.task))
        chosen = [m for m in own if task.measure in (None, m.metric, m.filter, f"{m.metric},{m.filter}")]
        if not chosen:
            known = [name for m in own for name in (m.metric, m.filter)]
            reason = f"no measure {quoted(task.measure or '')}; {nearest(task.measure or '', known)}"
            raise DataError(f"lm_eval: task {task.task}: {reason}")
        found += [(measure, chosen[0]) for measure in own]
    return found


def _verdict(item: str, turn: int, measure: Measure, result: Result | None) -> Verdict:
    number: float | None = None
    invalid: str | None = "no answer"
    reply = ""
    if result is not None:
        is_share = isinstance(result.value, int | float) and 0 <= result.value <= 1
        number, invalid = (float(result.value), None) if is_share else (None, f"{result.value!r:.60} is no share")
        reply = f"{measure.metric} ({measure.filter}): {result.taken}; expected {result.target}"
    return Verdict(question_id=item, turn=turn, category=measure.task, value=number, invalid=invalid, reply=reply)
