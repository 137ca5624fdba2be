"""MT-bench: multi-turn questions in eight categories, each turn rated from 1 to 10 or compared (arXiv 2306.05685)."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from harness import datafiles, mt_data, mt_files, mt_verdicts
from harness.components import Component, RecipePath
from harness.errors import DataError
from harness.mt_data import OFFICIAL_SHA256, PROMPTS, QUESTIONS, REFERENCES
from harness.mt_prompts import PAIR, SINGLE, Item, check_templates
from harness.protocols import Judged
from harness.types import Answer, Ask, Metric, Question, Verdict

TEMPERATURES = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1} | dict.fromkeys(
    ("extraction", "math", "coding", "reasoning", "arena-hard-200"), 0.0
)
"""FastChat's `temperature_config`: how answers are sampled, by category. A category that isn't there: 0.7."""


class MtBench(Component):
    """FastChat's questions, judge prompts, reference answers and rules.

    `questions`: `official` (80; read from `data_dir`, from `$HARNESS_DATA/mt_bench`, or fetched from FastChat's
    repository at a pinned commit; SHA-256 checked), `builtin` (the package's own), or a JSONL file in FastChat's format
    (reference answers in `reference_answer/gpt-4.jsonl` beside it). Conversations of a file may have any number of
    turns: a turn after the second is judged by FastChat's two-turn prompt with the further turns in it. `references`:
    another file of reference answers (13 of FastChat's 30 are wrong, FastChat#3158; NVIDIA's corrected ones are in that
    thread); the identity has its hash. `judge_prompts`: `builtin`, `official`, or `auto`: builtin with builtin
    questions, official otherwise. `limit`: that many questions, evenly spaced. `samples`: answers a question, averaged;
    only categories that are sampled at a temperature get more than one.

    `mode: single`: the verdict on a turn is the rating in the judge's text, by FastChat's patterns; one that is missing
    or outside [1, 10] is not scored. A judge that answers with probabilities of all ten ratings gives their expectation
    instead (less coarse than the most probable rating); `detail` says which it was. `mode: pairwise`: FastChat's
    `pair-v2` against row `reference`, in both orders: 1 won, 0 lost, 0.5 a tie, which an inconsistent pair is too; by
    probabilities, the mean of the two orders.
    """

    model_config = ConfigDict(populate_by_name=True)

    # `questions` in a recipe; here it would hide the method of that name.
    question_set: Literal["builtin", "official"] | RecipePath = Field(
        "official", alias="questions", union_mode="left_to_right"
    )
    data_dir: RecipePath | None = None
    limit: int | None = Field(None, ge=1)
    judge_prompts: Literal["auto", "builtin", "official"] = "auto"
    references: RecipePath | None = None
    samples: int = Field(1, ge=1, le=16)
    mode: Literal["single", "pairwise"] = "single"
    reference: str | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _pairs_have_a_reference(self) -> "MtBench":
        if self.mode == "pairwise" and self.reference is None:
            raise ValueError("mode: pairwise compares with a row; name it as reference, base for example")
        if self.mode == "single" and self.reference is not None:
            raise ValueError("reference is for mode: pairwise; ratings compare with nothing")
        return self

    @property
    def needs_row(self) -> str | None:
        """The row whose answers are compared with; None for ratings."""
        return self.reference

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
            self._items()

    def prepare(self) -> None:
        """Fetch questions, reference answers and judge prompts, where they are not here yet."""
        self._items()
        self._templates()

    def questions(self) -> list[Question]:
        """All turns of every question, at its category's temperature; each sample is a question of its own, `id#2` and
        on."""
        found = []
        for item in self._items():
            temperature = TEMPERATURES.get(item.category, 0.7)
            for k in range(self.samples if temperature > 0 else 1):
                key = item.id if k == 0 else f"{item.id}#{k + 1}"
                found.append(
                    Question(id=key, turns=item.turns, category=item.category, temperature=temperature, sample=k)
                )
        return found

    def all_prompts(self) -> list[tuple[str, str]]:
        """Every turn of every question, whatever the limit, as `question id/turn`. Needs no reference answers."""
        rows = datafiles.json_lines(self._read(QUESTIONS), f"questions {self.question_set}")
        turns = [(row.get("question_id"), row.get("turns")) for row in rows]
        if not turns or not all(mt_data.are_texts(texts) for _, texts in turns):
            raise DataError(f"questions {self.question_set}: expected rows with a list of texts under turns")
        return [(f"{key}/{i}", text) for key, texts in turns for i, text in enumerate(texts or (), start=1)]

    def verdicts(self, answers: Sequence[Answer], reference: Sequence[Answer], ask: Ask) -> list[Verdict]:
        """One verdict a turn of every question, first turn first, in the questions' order."""
        items = {item.id: item for item in self._items()}
        asked = [(q.id, items[q.id.split("#")[0]]) for q in self.questions()]
        if self.mode == "single":
            return mt_verdicts.ratings(self._templates(), asked, answers, ask)
        return mt_verdicts.comparisons(self._templates(), asked, answers, reference, ask)

    def metrics(
        self, answers: Sequence[Answer], reference: Sequence[Answer], verdicts: Sequence[Verdict]
    ) -> dict[str, Metric]:
        """`score` (all turns), `turn_1`, `turn_2`, and one figure a category; for pairs `win_rate` in percent, `wins`,
        `ties`, `losses`, and the same parts in percent. Turns and samples of a question go together in intervals."""
        found = mt_verdicts.figures(verdicts, pairwise=self.mode == "pairwise")
        return {f"mt_bench.{name}": metric for name, metric in found.items()}

    def recorded_answers(self, path: Path) -> tuple[list[Answer], dict[str, int]]:
        """A model's answers in FastChat's format (see `harness.mt_files`)."""
        return mt_files.read_answers(datafiles.read_bytes(path), str(path), self.questions())

    def recorded_verdicts(self, path: Path, answers: Sequence[Answer]) -> tuple[list[Verdict], dict[str, int], str]:
        """Judgments on them in FastChat's format: of single answers. Raises DataError for `mode: pairwise`."""
        if self.mode == "pairwise":
            raise DataError(f"{path}: recorded judgments of pairs are not read; expected mode: single")
        return mt_files.read_judgments(datafiles.read_bytes(path), str(path), answers, self.questions())

    def public_files(self, judge: str, rows: Sequence[Judged]) -> dict[str, str]:
        """FastChat's layout: in the board's folder `python -m fastchat.llm_judge.show_result --judge-model JUDGE` reads
        `data/mt_bench/model_judgment/<judge>_single.jsonl` (with `--mode pairwise-baseline` `<judge>_pair.jsonl`);
        questions and answers are beside it. Of several samples the answers have the first."""
        folder = f"data/{self.name}"
        questions = [q for q in self.questions() if q.sample == 0]
        files = {f"{folder}/question.jsonl": mt_files.questions_text(questions)}
        first = {q.id for q in questions}
        for r in rows:
            own = [a for a in r.answers if a.question_id in first]
            files[f"{folder}/model_answer/{datafiles.file_name(r.row)}.jsonl"] = mt_files.answers_text(own, r.row)
        if self.mode == "pairwise":
            texts = [mt_files.pairs_text(r.verdicts, r.row, str(self.reference), judge) for r in rows]
            return files | {f"{folder}/model_judgment/{datafiles.file_name(judge)}_pair.jsonl": "".join(texts)}
        texts = [mt_files.judgments_text(r.verdicts, r.row, judge) for r in rows]
        return files | {f"{folder}/model_judgment/{datafiles.file_name(judge)}_single.jsonl": "".join(texts)}

    def _source(self, name: str) -> Literal["builtin", "official"] | Path:
        if name == REFERENCES and self.references is not None:
            return self.references
        if name != PROMPTS:
            return self.question_set
        if self.judge_prompts != "auto":
            return self.judge_prompts
        return "builtin" if self.question_set == "builtin" else "official"

    def _is_fetched(self, name: str) -> bool:
        return self._source(name) == "official" and datafiles.local_folder(self.data_dir, "mt_bench") is None

    def _hash(self, name: str) -> str:
        return OFFICIAL_SHA256[name] if self._source(name) == "official" else datafiles.sha256(self._read(name))

    def _read(self, name: str) -> bytes:
        """One of the three files. Raises DataError."""
        source = self._source(name)
        if source == "builtin":
            return mt_data.builtin(name)
        if source == "official":
            return mt_data.official(name, datafiles.local_folder(self.data_dir, "mt_bench"))
        if name == REFERENCES and self.references is None:
            beside = Path(source).parent / REFERENCES
            return datafiles.read_bytes(beside) if beside.is_file() else b""
        if not Path(source).is_file():
            what, known = ("references", "a") if name == REFERENCES else ("questions", "builtin, official, or a")
            raise DataError(f"{what}: no file {source}; expected {known} JSONL file")
        return datafiles.read_bytes(Path(source))

    def _items(self) -> list[Item]:
        """The questions, as limited, with their reference answers. Raises DataError."""
        found = mt_data.items(self._read(QUESTIONS), self._read(REFERENCES), f"questions {self.question_set}")
        return datafiles.evenly_spaced(found, self.limit)

    def _templates(self) -> dict[str, dict[str, Any]]:
        """The judge's prompt templates by FastChat's names. Raises DataError."""
        where = f"{self._source(PROMPTS)} judge prompts"
        found = mt_data.templates(self._read(PROMPTS), where)
        check_templates(found, where, SINGLE if self.mode == "single" else PAIR)
        return found
