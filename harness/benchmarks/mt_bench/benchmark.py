"""MT-bench: multi-turn questions in eight categories, each turn rated from 1 to 10 or compared (arXiv 2306.05685)."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from harness.benchmark import ANY, Benchmark, Examples, JudgedRow, Names, Wanted
from harness.benchmarks.mt_bench import files as mt_files
from harness.benchmarks.mt_bench.data import (
    OFFICIAL_SHA256,
    PROMPTS,
    QUESTIONS,
    REFERENCES,
    are_texts,
    builtin_file,
    official_file,
    parse_questions,
    parse_templates,
)
from harness.benchmarks.mt_bench.figures import PAIR_FIGURES, RATING_FIGURES
from harness.benchmarks.mt_bench.prompts import PAIR_TEMPLATES, SINGLE_TEMPLATES, MtQuestion, check_templates
from harness.benchmarks.mt_bench.verdicts import pair_verdicts, rating_verdicts, verdict_metrics
from harness.components import RecipePath
from harness.errors import DataError
from harness.figures import Figure
from harness.files import evenly_spaced, file_name, json_lines, local_folder, read_bytes, sha256
from harness.types import Answer, Ask, Metric, Question, Verdict

TEMPERATURES = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1} | dict.fromkeys(
    ("extraction", "math", "coding", "reasoning", "arena-hard-200"), 0.0
)
"""FastChat's `temperature_config`: sampling temperature of answers by category; 0.7 for other categories."""


class MtBench(Benchmark):
    """FastChat's questions, judge prompts, reference answers and rules.

    `questions`: `official` (80, of FastChat's repository at a pinned commit; SHA-256 checked), `builtin` (the package's
    own), or a JSONL file in FastChat's format (reference answers in `reference_answer/gpt-4.jsonl` beside it).
    Conversations of a file may have more than two turns: a later turn is judged by FastChat's two-turn prompt, extended
    to all turns. `references`: another file of reference answers (13 of FastChat's 30 are wrong, FastChat#3158;
    NVIDIA's corrected ones are in that thread); the identity has its hash. `judge_prompts`: `builtin`, `official`, or
    `auto`: builtin with builtin questions, official otherwise. `limit`: that many questions, evenly spaced. `samples`:
    answers per question, averaged; only categories sampled at a temperature above 0 get more than one.

    `mode: single`: the verdict on a turn is the rating in the judge's text, by FastChat's patterns; a rating that is
    missing or outside [1, 10] is not scored. A judge that gives probabilities of all ten ratings yields their
    expectation instead (less coarse than the most probable rating); `detail` says which was used. `mode: pairwise`:
    FastChat's `pair-v2` against row `reference`, in both orders: 1 won, 0 lost, 0.5 a tie or an inconsistent pair; with
    probabilities, the mean of the two orders.
    """

    needs: ClassVar[tuple[str, ...]] = ("fastchat",)
    title: ClassVar[str] = "MT-bench"
    has_turns: ClassVar[bool] = True
    figures: ClassVar[tuple[Figure, ...]] = RATING_FIGURES

    questions: Literal["builtin", "official"] | RecipePath = Field("official", union_mode="left_to_right")
    data_dir: RecipePath | None = None
    """A folder with FastChat's files; None: `$HARNESS_DATA/mt_bench`, else they are fetched."""
    limit: int | None = Field(None, ge=1)
    judge_prompts: Literal["auto", "builtin", "official"] = "auto"
    references: RecipePath | None = None
    samples: int = Field(1, ge=1, le=16)
    mode: Literal["single", "pairwise"] = "single"
    """How the judge is asked: to grade a `single` answer, or to compare two (`pairwise`)."""
    reference: str | None = Field(None, min_length=1)
    """With `mode: pairwise`, the row whose answers the others are compared with."""

    @model_validator(mode="after")
    def _pairs_have_a_reference(self) -> "MtBench":
        if self.mode == "pairwise" and self.reference is None:
            raise ValueError("mode: pairwise compares with a row; name it as reference, for example base")
        if self.mode == "single" and self.reference is not None:
            raise ValueError("reference is for mode: pairwise; ratings need no reference row")
        return self

    @classmethod
    def figures_of(cls, identity: Mapping[str, Any]) -> tuple[Figure, ...]:
        return PAIR_FIGURES if identity.get("mode") == "pairwise" else RATING_FIGURES

    @property
    def needs_row(self) -> str | None:
        """The row that answers are compared with; None for ratings."""
        return self.reference

    @property
    def compares(self) -> bool:
        return self.mode == "pairwise"

    @property
    def published_turns(self) -> int | None:
        # 80 questions of two turns, half of them with a temperature above 0, which alone are sampled several times.
        if self.questions != "official" or self.limit is not None:
            return None
        return 160 + 80 * (self.samples - 1)

    @property
    def requests_per_turn(self) -> int:
        return 2 if self.mode == "pairwise" else 1

    def identity(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "questions": {"sha256": self._hash(QUESTIONS)},
            "references_sha256": self._hash(REFERENCES),
            "judge_prompts_sha256": self._hash(PROMPTS),
            "limit": self.limit,
            "fschat": version("fschat"),
            **({"samples": self.samples, "samples_weigh": "a question"} if self.samples > 1 else {}),
            **({"mode": self.mode, "reference": self.reference} if self.reference else {}),
            **({"references": f"{self.references.name}, not FastChat's"} if self.references else {}),
        }

    def question_identity(self) -> dict[str, Any]:
        """The part of `identity()` that answers depend on."""
        return {k: v for k, v in self.identity().items() if k in {"name", "questions", "limit", "samples"}}

    def check(self) -> None:
        local = [name for name in OFFICIAL_SHA256 if not self._is_fetched(name)]
        if PROMPTS in local:
            self._templates()
        if QUESTIONS in local:
            self._questions()

    @classmethod
    def template_text(cls, identity: Mapping[str, Any]) -> str | None:
        shipped = builtin_file(PROMPTS)
        return shipped.decode() if sha256(shipped) == identity.get("judge_prompts_sha256") else None

    @classmethod
    def has_plain_means(cls) -> bool:
        return True

    def prepare(self) -> None:
        """Fetch questions, reference answers and judge prompts, unless they are present."""
        self._questions()
        self._templates()

    def load_questions(self) -> list[Question]:
        """All questions with all turns, at their category's temperature; each further sample of a question is a
        question of its own, with the id `id#2`, `id#3`, ..."""
        result = []
        for q in self._questions():
            temperature = TEMPERATURES.get(q.category, 0.7)
            for k in range(self.samples if temperature > 0 else 1):
                key = q.id if k == 0 else f"{q.id}#{k + 1}"
                result.append(Question(id=key, turns=q.turns, category=q.category, temperature=temperature, sample=k))
        return result

    def all_prompts(self) -> list[tuple[str, str]]:
        """Every turn of every question, whatever the limit, as `question id/turn`. Needs no reference answers."""
        rows = json_lines(self._read(QUESTIONS), f"questions {self.questions}")
        turns = [(row.get("question_id"), row.get("turns")) for row in rows]
        if not turns or not all(are_texts(texts) for _, texts in turns):
            raise DataError(f"questions {self.questions}: expected rows with a list of texts under turns")
        return [(f"{key}/{i}", text) for key, texts in turns for i, text in enumerate(texts or (), start=1)]

    def verdicts(self, answers: Sequence[Answer], reference: Sequence[Answer], ask: Ask) -> list[Verdict]:
        """One verdict per turn, by question and turn in order."""
        by_id = {question.id: question for question in self._questions()}
        questions = [(q.id, by_id[q.id.split("#")[0]]) for q in self.load_questions()]
        if self.mode == "single":
            return rating_verdicts(self._templates(), questions, answers, ask)
        return pair_verdicts(self._templates(), questions, answers, reference, ask)

    def metrics(
        self, answers: Sequence[Answer], reference: Sequence[Answer], verdicts: Sequence[Verdict]
    ) -> dict[str, Metric]:
        """`score` (all turns), `turn_1`, `turn_2`, and one metric per category; in mode pairwise `win_rate`, turns and
        categories in percent, and `wins`, `ties`, `losses`. Intervals resample questions, with all their turns and
        samples."""
        metrics = verdict_metrics(verdicts, pairwise=self.mode == "pairwise")
        return {f"mt_bench.{name}": metric for name, metric in metrics.items()}

    def recorded_names(self, path: Path) -> Names:
        return mt_files.read_names(read_bytes(path), str(path))

    def recorded_answers(self, path: Path, wanted: Wanted = ANY) -> tuple[list[Answer], dict[str, int]]:
        """A model's answers in FastChat's format (see `harness.benchmarks.mt_bench.files`)."""
        return mt_files.read_answers(read_bytes(path), str(path), self.load_questions(), wanted)

    def recorded_verdicts(
        self, path: Path, answers: Sequence[Answer], wanted: Wanted = ANY
    ) -> tuple[list[Verdict], dict[str, int], str]:
        """Judgments of single answers in FastChat's format. Raises DataError for `mode: pairwise`."""
        if self.mode == "pairwise":
            raise DataError(f"{path}: recorded judgments of pairs are not supported; expected mode: single")
        return mt_files.read_judgments(read_bytes(path), str(path), answers, self.load_questions(), wanted)

    def public_files(self, judge: str, rows: Sequence[JudgedRow]) -> dict[str, str]:
        """FastChat's layout: in the board's folder `python -m fastchat.llm_judge.show_result --judge-model JUDGE` reads
        `data/mt_bench/model_judgment/<judge>_single.jsonl` (with `--mode pairwise-baseline` `<judge>_pair.jsonl`);
        questions and answers are beside it. Of several samples, the answers' files hold the first."""
        folder = f"data/{self.name}"
        questions = [q for q in self.load_questions() if q.sample == 0]
        files = {f"{folder}/question.jsonl": mt_files.questions_text(questions)}
        first = {q.id for q in questions}
        for r in rows:
            answers = [a for a in r.answers if a.question_id in first]
            files[f"{folder}/model_answer/{file_name(r.row)}.jsonl"] = mt_files.answers_text(answers, r.row)
        if self.mode == "pairwise":
            texts = [mt_files.pairs_text(r.verdicts, r.row, str(self.reference), judge) for r in rows]
            return files | {f"{folder}/model_judgment/{file_name(judge)}_pair.jsonl": "".join(texts)}
        texts = [mt_files.judgments_text(r.verdicts, r.row, judge) for r in rows]
        return files | {f"{folder}/model_judgment/{file_name(judge)}_single.jsonl": "".join(texts)}

    @classmethod
    def examples(cls, folder: Path, rows: Sequence[str]) -> Examples:
        return mt_files.read_examples(folder, rows)

    @classmethod
    def notes(cls, judge: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
        """A note on ratings by a local judge, which come from its token probabilities."""
        if judge.get("name") != "local" or "mt_bench.score" not in metrics:
            return []
        return [
            "MT-bench ratings by a local judge are the expectation over its probabilities of the ten replies [[1]] to "
            "[[10]], given without a preceding explanation: FastChat's prompts, but not its rule of one parsed rating."
        ]

    def _source(self, name: str) -> Literal["builtin", "official"] | Path:
        if name == REFERENCES and self.references is not None:
            return self.references
        if name != PROMPTS:
            return self.questions
        if self.judge_prompts != "auto":
            return self.judge_prompts
        return "builtin" if self.questions == "builtin" else "official"

    def _is_fetched(self, name: str) -> bool:
        return self._source(name) == "official" and local_folder(self.data_dir, "mt_bench") is None

    def _hash(self, name: str) -> str:
        return OFFICIAL_SHA256[name] if self._source(name) == "official" else sha256(self._read(name))

    def _read(self, name: str) -> bytes:
        """One of the three files. Raises DataError."""
        source = self._source(name)
        if source == "builtin":
            return builtin_file(name)
        if source == "official":
            return official_file(name, local_folder(self.data_dir, "mt_bench"))
        if name == REFERENCES and self.references is None:
            beside = Path(source).parent / REFERENCES
            return read_bytes(beside) if beside.is_file() else b""
        if not Path(source).is_file():
            field, expected = ("references", "a") if name == REFERENCES else ("questions", "builtin, official, or a")
            raise DataError(f"{field}: no file {source}; expected {expected} JSONL file")
        return read_bytes(Path(source))

    def _questions(self) -> list[MtQuestion]:
        """The questions within the limit, with their reference answers. Raises DataError."""
        questions = parse_questions(self._read(QUESTIONS), self._read(REFERENCES), f"questions {self.questions}")
        return evenly_spaced(questions, self.limit)

    def _templates(self) -> dict[str, dict[str, Any]]:
        """The judge's prompt templates by FastChat's names. Raises DataError."""
        where = f"{self._source(PROMPTS)} judge prompts"
        templates = parse_templates(self._read(PROMPTS), where)
        check_templates(templates, where, SINGLE_TEMPLATES if self.mode == "single" else PAIR_TEMPLATES)
        return templates
