"""HumanEval (arXiv 2107.03374): 164 Python functions to be completed, each with tests. No judge is asked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from harness import files
from harness.benchmark import ANY, Benchmark, Wanted
from harness.benchmarks.humaneval.programs import PROMPT, STOP, Problem, parse_problems
from harness.children.sandbox import Limits, Outcome, check_sandbox, run_programs
from harness.components import RecipePath
from harness.errors import DataError
from harness.figures import Figure, Pairing
from harness.types import Answer, Ask, Question, Verdict

FILE = "HumanEval.jsonl.gz"
SHA256 = "1d49078ba3e2b196b9344535bef34a43021f038fad9561d6ee7c53450609a6a2"
"""Of the file unpacked."""
URL = f"https://raw.githubusercontent.com/openai/human-eval/master/data/{FILE}"


class HumanEval(Benchmark):
    """The share of problems whose tests an answer's code passes (pass@1), greedily decoded.

    `allow_code: true`: must be given, since a model's code runs on this machine: as a process without network, secrets
    or other processes, with limits of time, memory and files (`harness.children.inside`). `chat`: the model is asked
    for the function; false: it continues the function's head, as in the paper. `cpu_seconds`: a program's limit.
    `limit`: that many problems, evenly spaced. `data_dir`: a folder with `HumanEval.jsonl.gz` (or .jsonl); else it is
    read from `$HARNESS_DATA/humaneval`, or fetched from OpenAI's repository, its SHA-256 checked.
    """

    title: ClassVar[str] = "HumanEval"
    judged: ClassVar[bool] = False
    figures: ClassVar[tuple[Figure, ...]] = (
        Figure(
            metric="humaneval.pass_at_1",
            group="HumanEval",
            title="pass@1",
            unit="%",
            pairing=Pairing(scale=100),
            limits=(0.0, 100.0),
            tax="coding",
        ),
    )
    unkeyed: ClassVar[frozenset[str]] = frozenset({"allow_code", "data_dir"})

    name: Literal["humaneval"] = "humaneval"
    allow_code: bool = False
    """Whether answers may be run, in a sandbox, which the benchmark needs."""
    chat: bool = True
    limit: int | None = Field(None, ge=1)
    cpu_seconds: int = Field(10, ge=1, le=600)
    max_new_tokens: int = Field(768, ge=16)
    """Tokens of the longest answer."""
    data_dir: RecipePath | None = None

    @model_validator(mode="after")
    def _is_allowed(self) -> "HumanEval":
        if not self.allow_code:
            raise ValueError("it runs a model's code, contained, on this machine: allow that with allow_code: true")
        return self

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "sha256": SHA256, "prompt": files.sha256(PROMPT.encode()) if self.chat else None}

    def question_identity(self) -> dict[str, Any]:
        return {key: value for key, value in self.identity().items() if key != "cpu_seconds"}

    def check(self) -> None:
        check_sandbox()
        if self._folder() is not None:
            self._read()

    def prepare(self) -> None:
        self._read()

    def load_questions(self) -> list[Question]:
        return [self._question(problem) for problem in self._problems()]

    def all_prompts(self) -> list[tuple[str, str]]:
        return [(problem.id, problem.prompt) for problem in self._read()]

    def verdicts(self, answers: Sequence[Answer], reference: Sequence[Answer], ask: Ask) -> list[Verdict]:
        """One per problem: 1 if its tests pass, 0 if not, for the reason in `reply`."""
        texts = {answer.question_id: answer.turns[0] for answer in answers if answer.turns}
        asked = [problem for problem in self._problems() if problem.id in texts]
        limits = Limits(cpu_seconds=self.cpu_seconds, seconds=4.0 * self.cpu_seconds)
        outcomes = run_programs([problem.program(texts[problem.id]) for problem in asked], limits)
        found = {problem.id: outcome for problem, outcome in zip(asked, outcomes, strict=True)}
        return [_verdict(problem, found.get(problem.id)) for problem in self._problems()]

    def recorded_answers(self, path: Path, wanted: Wanted = ANY) -> tuple[list[Answer], dict[str, int]]:
        """The first completion of each problem in the official format: rows of `task_id` and `completion`."""
        rows = files.json_lines(files.read_bytes(path), str(path))
        texts: dict[str, str] = {}
        for i, row in enumerate(rows, start=1):
            if not isinstance(row.get("task_id"), str) or not isinstance(row.get("completion"), str):
                raise DataError(f"{path}, row {i}: expected texts under task_id and completion")
            texts.setdefault(row["task_id"].replace("/", "-"), row["completion"])
        known = {problem.id for problem in self._problems()}
        answers = [
            Answer(question_id=key, turns=(text,), finish_reasons=(), tokens=None)
            for key, text in texts.items()
            if key in known
        ]
        counts = {"missing": len(known) - len(answers), "unknown": len(texts) - len(answers)}
        counts["further_samples"] = len(rows) - len(texts)
        return answers, {name: count for name, count in counts.items() if count}

    def _question(self, problem: Problem) -> Question:
        if self.chat:
            text = PROMPT.format(prompt=problem.prompt.strip("\n"))
            return Question(id=problem.id, turns=(text,), max_new_tokens=self.max_new_tokens)
        return Question(
            id=problem.id, turns=(problem.prompt,), plain=True, stop=STOP, max_new_tokens=self.max_new_tokens
        )

    def _problems(self) -> list[Problem]:
        return files.evenly_spaced(self._read(), self.limit)

    def _folder(self) -> Path | None:
        return files.local_folder(self.data_dir, self.name)

    def _read(self) -> list[Problem]:
        """All problems. Raises DataError."""
        folder = self._folder()
        if folder is None:
            how = f"download it elsewhere as humaneval/{FILE} and set HARNESS_DATA to the folder that holds humaneval/"
            return parse_problems(files.download(URL, SHA256, "humaneval", how), URL)
        paths = [path for path in (folder / FILE, folder / FILE.removesuffix(".gz")) if path.is_file()]
        if not paths:
            raise DataError(f"{folder} has no {FILE}; expected OpenAI's file, from {URL}")
        data = files.official(files.read_bytes(paths[0]), SHA256, str(paths[0]), "leave the benchmark out")
        return parse_problems(data, str(paths[0]))


def _verdict(problem: Problem, outcome: Outcome | None) -> Verdict:
    if outcome is None:
        return Verdict(question_id=problem.id, value=None, invalid="no answer")
    return Verdict(
        question_id=problem.id, value=float(outcome.passed), reply="passed" if outcome.passed else outcome.reason or ""
    )
