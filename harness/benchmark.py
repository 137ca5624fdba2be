"""The base class of benchmarks: what a benchmark must define, and all that boards, gates and reports use of it."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from harness.errors import DataError, nearest, quoted
from harness.figures import Figure
from harness.files import file_name, json_text, read_json_list
from harness.protocols import Component
from harness.stats.intervals import mean_metric
from harness.types import Answer, Ask, Metric, Question, Verdict


class JudgedRow(NamedTuple):
    """A board's row on one benchmark: its id, its answers, the reference's answers (if the reference is a row), and the
    verdicts."""

    row: str
    answers: Sequence[Answer]
    reference: Sequence[Answer]
    verdicts: Sequence[Verdict]


class Names(NamedTuple):
    """Whose answers or verdicts a file of recorded ones holds."""

    models: tuple[str, ...] = ()
    judges: tuple[str, ...] = ()

    @classmethod
    def among(cls, models: Iterable[Any], judges: Iterable[Any]) -> "Names":
        """The names in a file's rows, each once; None where a row has none."""
        return cls(*(tuple(dict.fromkeys(str(n) for n in names if n is not None)) for names in (models, judges)))


class Wanted(NamedTuple):
    """Whose answers or verdicts in a file are meant. `model`, `judge`: as the recipe says. `known_as`: names that the
    model may have in the file, if the recipe doesn't say."""

    model: str | None = None
    judge: str | None = None
    known_as: tuple[str, ...] = ()

    def model_of(self, models: Iterable[str], where: str) -> str | None:
        """The model that is meant; None if that can't be told. Raises DataError."""
        return _one_of("model", dict.fromkeys(models), self.model, self.known_as, where)

    def judge_of(self, judges: Iterable[str], where: str) -> str | None:
        """The judge that is meant; None if that can't be told. Raises DataError."""
        return _one_of("judge", dict.fromkeys(judges), self.judge, (), where)


ANY = Wanted()


def _one_of(kind: str, names: Iterable[str], named: str | None, known_as: Sequence[str], where: str) -> str | None:
    """The name that the recipe gives, else the first known one that is there, else the only one."""
    names = list(names)
    if named is not None and named not in names:
        raise DataError(f"{where}: no {kind} {quoted(named)} in it; {nearest(named, names)}")
    likely = [name for name in ([named] if named is not None else known_as) if name in names]
    return likely[0] if likely else names[0] if len(names) == 1 else None


def ambiguous(what: str, kind: str, names: Iterable[str], where: str) -> DataError:
    """The error about a file with `what` of several models or judges (`kind`), of which none is meant."""
    found = sorted(set(names))
    listed = ", ".join(found[:10]) or "none"
    how = f"; name one in the recipe, as {{file: {Path(where).name}, {kind}: {found[0]}}}" if found else ""
    return DataError(f"{where}: {what} expected, found {listed}{how}")


class ExamplePrompt(NamedTuple):
    """A prompt in a page's browser of answers. `reference`: (name, text) of the answer that it is compared with."""

    category: str
    turns: tuple[str, ...]
    reference: tuple[str, str] | None = None


class ExampleAnswer(NamedTuple):
    """A row's answer to a prompt. Each list has one item per turn: the text, the verdict's value, the judge's reply,
    and why it was not scored."""

    turns: list[str]
    values: list[float | None]
    replies: list[str]
    unscored: list[str | None]


class Examples(NamedTuple):
    """Prompts by id, and answers by row and prompt id."""

    prompts: dict[str, ExamplePrompt]
    answers: dict[str, dict[str, ExampleAnswer]]


class Published(NamedTuple):
    """Rows of a public leaderboard: metrics by row. `provenance`: for the board's rows. `judge`: who gave the verdicts.
    `comparable`: whether rows with a given benchmark identity and the same judge belong to the same table."""

    rows: dict[str, dict[str, Metric]]
    provenance: dict[str, Any]
    judge: str
    comparable: Callable[[Mapping[str, Any]], bool]


class CalibratedBy(NamedTuple):
    """What a judge is calibrated with. `annotator`: the official one. `asked`: how it is asked, where that is not as
    usual. `figure`: the metric that the official judge's value can be predicted of, since prompts and reference are the
    official ones; None otherwise."""

    annotator: str
    asked: dict[str, Any]
    figure: str | None


class Benchmark(Component):
    """A set of questions, the judge prompts about their answers, and the metrics computed from the judge's replies; or,
    without a judge (`judged`), from the answers.

    `figures` declares what it measures; boards, comparisons, gates, effects and charts use nothing else. Outcomes are
    the verdicts' values by question (`id/turn` where a verdict has a turn; `id#2` for a question's second sample).
    """

    title: ClassVar[str] = ""
    """Its name on boards."""
    judged: ClassVar[bool] = True
    """A judge is asked. False: `verdicts` computes values from the answers alone, and its `ask` must not be called."""
    has_turns: ClassVar[bool] = False
    """Its questions have turns after the first."""
    figures: ClassVar[tuple[Figure, ...]] = ()

    @classmethod
    def figures_of(cls, identity: Mapping[str, Any]) -> tuple[Figure, ...]:
        """The figures of a benchmark with this identity: `figures`, unless its options change their meaning."""
        return cls.figures

    @classmethod
    def has_plain_means(cls) -> bool:
        """Whether the counts, standard errors and intervals of its declared means and shares are those that the default
        `metrics` computes: then readers of a board check them against its outcomes. Values are always checked."""
        return cls.metrics is Benchmark.metrics and cls is not Benchmark

    @property
    def needs_row(self) -> str | None:
        """The row whose answers `verdicts` and `metrics` need as reference, or None."""
        return None

    @property
    def compares(self) -> bool:
        """Whether a judge names the better of two answers: reward models can judge that too."""
        return False

    @property
    def published_turns(self) -> int | None:
        """How many turns its questions have, if that is known without their files; for plans without a network."""
        return None

    @property
    def requests_per_turn(self) -> int:
        """How often a judge is asked about one turn of an answer; for plans and progress bars."""
        return 1

    @property
    def calibrated_by(self) -> CalibratedBy | None:
        """What judges are calibrated with; None: there is no calibration for it."""
        return None

    @classmethod
    def template_text(cls, identity: Mapping[str, Any]) -> str | None:
        """The text of the templates by which a benchmark with this identity asks judges; None where it is not among the
        files that are installed."""
        return None

    def prepare(self) -> None:
        """Fetch and check all files that a run needs. Raises DataError."""

    @abstractmethod
    def load_questions(self) -> list[Question]:
        """The questions to answer, in order. Raises DataError."""

    def all_prompts(self) -> list[tuple[str, str]]:
        """(id, text) of every prompt of the whole set, even if only a part is asked: none of them may be trained on."""
        return [(f"{q.id}/{i}", text) for q in self.load_questions() for i, text in enumerate(q.turns, start=1)]

    def question_identity(self) -> dict[str, Any]:
        """The identity of the questions, as JSON-able data: the part of `identity()` that answers depend on."""
        return self.identity()

    @abstractmethod
    def verdicts(self, answers: Sequence[Answer], reference: Sequence[Answer], ask: Ask) -> list[Verdict]:
        """The verdicts on `answers`, one per question or turn. `reference`: the reference row's answers, if the
        benchmark compares with one."""

    def metrics(
        self, answers: Sequence[Answer], reference: Sequence[Answer], verdicts: Sequence[Verdict]
    ) -> dict[str, Metric]:
        """Metrics by name (`<benchmark>.<figure>`), with intervals. By default: for each declared figure that is a mean
        over prompts, the mean of its values, with prompts resampled."""
        outcomes = {v.key: v.value for v in verdicts}
        result = {}
        for figure in self.figures_of(self.identity()):
            if figure.pairing is not None and figure.pairing.kind != "resamples":
                values = figure.pairing.values(outcomes)
                prompts = [key.split("/")[0] for key in values]
                result[figure.metric] = mean_metric(list(values.values()), groups=prompts, limits=figure.limits)
        return result

    def reference_texts(self, reference: Sequence[Answer]) -> dict[str, str]:
        """The texts that answers are compared with, by question; empty where they are not compared."""
        return {}

    def recorded_names(self, path: Path) -> Names:
        """The models and judges in a file of recorded answers or verdicts; none if files hold only one of each."""
        return Names()

    def recorded_answers(self, path: Path, wanted: Wanted = ANY) -> tuple[list[Answer], dict[str, int]]:
        """(a model's answers from a file in the benchmark's public format, counts of irregularities in it). `wanted` is
        given if `recorded_names` has names. Raises DataError."""
        raise DataError(f"{path}: benchmark '{self.name}' reads no recorded answers; remove the system's answers to it")

    def recorded_verdicts(
        self, path: Path, answers: Sequence[Answer], wanted: Wanted = ANY
    ) -> tuple[list[Verdict], dict[str, int], str]:
        """(verdicts on `answers` from a file in the public format, one per question or turn; counts of irregularities
        in it; who gave the verdicts). `wanted` is given if `recorded_names` has names. Raises DataError."""
        raise DataError(f"{path}: benchmark '{self.name}' reads no recorded verdicts; remove the system's verdicts")

    def published(self) -> Published | None:
        """The rows of a public leaderboard that the recipe asks for; None if it asks for none."""
        return None

    def public_files(self, judge: str, rows: Sequence[JudgedRow]) -> dict[str, str]:
        """Answers and verdicts of all rows in the public formats: text by path in a board's folder, laid out as the
        benchmark's own tools expect. `judge`: its name. By default: one file per row, as `examples` reads it."""
        questions = {q.id: q for q in self.load_questions()}
        files = {}
        for row in rows:
            lines = [
                {
                    "id": answer.question_id,
                    "category": questions[answer.question_id].category if answer.question_id in questions else None,
                    "prompt": list(questions[answer.question_id].turns) if answer.question_id in questions else [],
                    "answer": list(answer.turns) or ["\n".join(f"log p = {x:.4f}" for x, _ in answer.likelihoods)],
                    "verdicts": [
                        v.model_dump(mode="json") for v in row.verdicts if v.question_id == answer.question_id
                    ],
                    "judge": judge,
                }
                for answer in row.answers
            ]
            files[f"data/{self.name}/{file_name(row.row)}.json"] = json_text(lines)
        return files

    @classmethod
    def examples(cls, folder: Path, rows: Sequence[str]) -> Examples:
        """The content of the files that `public_files` wrote into `folder`, for the page. Raises DataError."""
        prompts: dict[str, ExamplePrompt] = {}
        answers: dict[str, dict[str, ExampleAnswer]] = {}
        for row in rows:
            path = folder / f"{file_name(row)}.json"
            for line in read_json_list(path) if path.is_file() else []:
                key, turns = str(line["id"]), list(line["answer"])
                prompts.setdefault(key, ExamplePrompt(str(line["category"] or folder.name), tuple(line["prompt"])))
                example = ExampleAnswer(turns, [None] * len(turns), [""] * len(turns), [None] * len(turns))
                for verdict in (Verdict.model_validate(v) for v in line["verdicts"]):
                    turn = (verdict.turn or 1) - 1
                    if not cls.judged and turns:  # one answer, measured in several ways: the first has the value
                        said = [text for text in (example.replies[0], verdict.reply) if text]
                        if not example.replies[0]:
                            example.values[0], example.unscored[0] = verdict.value, verdict.invalid
                        example.replies[0] = "\n".join(said)
                    elif turn < len(turns):
                        example.values[turn], example.replies[turn] = verdict.value, verdict.reply
                        example.unscored[turn] = verdict.invalid
                answers.setdefault(row, {})[key] = example
        return Examples(prompts, answers)

    @classmethod
    def notes(cls, judge: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
        """Notes that a reader of the figures `metrics` needs; `judge`: the judge's identity."""
        return []
