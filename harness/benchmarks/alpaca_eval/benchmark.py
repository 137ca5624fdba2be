"""AlpacaEval 2: pairwise win rate against a reference, raw and length-controlled (arXiv 2404.04475)."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, model_validator

from harness.benchmark import ANY, Benchmark, CalibratedBy, Examples, JudgedRow, Names, Published, Wanted
from harness.benchmarks.alpaca_eval import files as alpaca_files
from harness.benchmarks.alpaca_eval import public_leaderboard
from harness.benchmarks.alpaca_eval.annotator import Asking
from harness.benchmarks.alpaca_eval.data import (
    GET_GAMED,
    HUB_REVISION,
    OFFICIAL_SHA256,
    Instruction,
    first_reference_file,
    parse_instructions,
    read_prompts,
    reference_outputs,
)
from harness.benchmarks.alpaca_eval.evaluators import load_annotator, template_of
from harness.benchmarks.alpaca_eval.figures import FIGURES, figures_by
from harness.benchmarks.alpaca_eval.files import texts_by_question
from harness.benchmarks.alpaca_eval.gamed import gamed_identity, official_gamed
from harness.benchmarks.alpaca_eval.judged import check_asking, source_metrics, source_notes, verdicts_on
from harness.benchmarks.alpaca_eval.length_control import GLM, lc_win_rate, official_lc_win_rate
from harness.benchmarks.alpaca_eval.unpenalised import lc_unpenalised
from harness.benchmarks.alpaca_eval.win_rates import by_construction, length_metrics, win_rates
from harness.components import ModelReference, RecipePath
from harness.errors import DataError
from harness.figures import Figure
from harness.files import evenly_spaced, local_folder, read_bytes, sha256
from harness.types import Answer, Ask, Metric, Question, Verdict

FIRST_REFERENCE = "text_davinci_003"
"""The name of AlpacaEval 1's reference."""


class AlpacaEval(Benchmark):
    """AlpacaEval by the `alpaca_eval` package's own annotator, parser and metrics (see
    `harness.benchmarks.alpaca_eval.annotator`).

    `prompts`: `official` (805 instructions with GPT-4 Turbo's outputs; CC-BY-NC-4.0, its SHA-256 is checked), `builtin`
    (the package's own small set), or a JSON file (or .json.gz) in the public format (`instruction, output, generator,
    dataset`). `data_dir`: a folder with the official files; None: `$HARNESS_DATA/alpaca_eval`, else they are fetched at
    a pinned revision. `reference`: `file` (the outputs in the prompts' file; for the official prompts, AlpacaEval 2's
    reference and the default), the id of a row, whose answers are then the reference (otherwise the default is `base`,
    the untrained policy), or `text_davinci_003`, AlpacaEval 1's (`alpaca_eval.json` from the same place; its hash is
    not published). `limit`: that many instructions, evenly spaced. `annotator`: the name of one of the package's
    evaluators, or the folder of a user's own. `orders`: the package shows each pair in one order, drawn from a seed;
    `both` asks in both orders and averages. `samples`: replies per prompt, averaged: without log-probabilities, their
    share estimates the preference. `temperature`: None: the annotator's, which must be above 0 for samples. A pair that
    lacks one of its verdicts is not scored. `without_logprobs`: how to treat a reply without log-probabilities if the
    annotator reads them: `text` takes a reply that is one of its tokens as certain, so that the rate is not weighted;
    `stated` asks for a probability instead, by a schema of the reply, with the same prompt; `refuse` does not score it.
    `from_text`, `from_samples`, `from_stated` count such verdicts. `public_rows`: names of rows of the public
    leaderboard (it ships in the package) to show on the board, marked as public.

    Figures: win rates in percent; `avg_length` in characters; `lc_win_rate` by the package's official GLM if prompts
    and reference are official, else by its `length_controlled_minimal` (see
    `harness.benchmarks.alpaca_eval.length_control`), and then `lc_unpenalised` too, the same without a penalty; both
    with a bootstrap error; `lc_standard_error` is the package's, the spread of the GLM's probabilities over prompts.
    `df_gamed`: the file that the official GLM needs; None: the official one, from the data folder or the hub; with
    another the figures are not official. `length_control`: `auto`, or `minimal`, which needs no such file.
    """

    needs: ClassVar[tuple[str, ...]] = ("alpaca_eval",)
    title: ClassVar[str] = "AlpacaEval"
    figures: ClassVar[tuple[Figure, ...]] = FIGURES

    prompts: Literal["builtin", "official"] | RecipePath = Field("official", union_mode="left_to_right")
    data_dir: RecipePath | None = None
    reference: str | None = Field(None, min_length=1)
    length_control: Literal["auto", "minimal"] = "auto"
    df_gamed: RecipePath | None = None
    limit: int | None = Field(None, ge=1)
    annotator: ModelReference = "weighted_alpaca_eval_gpt4_turbo"
    orders: Literal["seeded", "both"] = "seeded"
    samples: int = Field(1, ge=1, le=16)
    temperature: float | None = Field(None, ge=0, le=2)
    without_logprobs: Literal["text", "stated", "refuse"] = "text"
    public_rows: list[str] = Field(default_factory=list)
    _read: tuple[bytes, list[Instruction]] | None = PrivateAttr(None)
    """The content of the prompts' file and its instructions, as last read."""

    @model_validator(mode="after")
    def _gamed_is_of_the_official_set(self) -> "AlpacaEval":
        if self.df_gamed is not None and not self._is_official_lc:
            needed = "the official prompts against the reference in their file, by length_control: auto"
            raise ValueError(f"df_gamed is for {needed}")
        return self

    @model_validator(mode="after")
    def _public_rows_are_of_the_official_set(self) -> "AlpacaEval":
        if self.public_rows and not (self._has_official_reference and self.limit is None):
            raise ValueError("public_rows are about all official prompts against GPT-4 Turbo's outputs; remove them")
        return self

    @classmethod
    def figures_of(cls, identity: Mapping[str, Any]) -> tuple[Figure, ...]:
        return figures_by(identity)

    @property
    def needs_row(self) -> str | None:
        """The row whose answers `verdicts` and `metrics` need as reference; None if the reference is in a file."""
        reference = self.reference or ("file" if self.prompts == "official" else "base")
        return None if reference in ("file", FIRST_REFERENCE) else reference

    @property
    def compares(self) -> bool:
        """Whether the judge names the better of two answers by one of two replies."""
        return len(load_annotator(self.annotator).choices) == 2

    @property
    def published_turns(self) -> int | None:
        return min(self.limit or 805, 805) if self.prompts == "official" else None

    @property
    def requests_per_turn(self) -> int:
        return self.samples * (2 if self.orders == "both" else 1)

    @property
    def _asking(self) -> Asking:
        return Asking(self.without_logprobs, self.temperature, self.samples)

    @property
    def calibrated_by(self) -> CalibratedBy | None:
        is_second = self._has_official_reference and self.annotator == "weighted_alpaca_eval_gpt4_turbo"
        return CalibratedBy(self.annotator, self._asking.changes(), "alpaca_eval.win_rate" if is_second else None)

    @property
    def _has_official_reference(self) -> bool:
        return self.prompts == "official" and self.needs_row is None and self.reference != FIRST_REFERENCE

    @property
    def _is_official_lc(self) -> bool:
        return self._has_official_reference and self.length_control == "auto"

    @property
    def _folder(self) -> Path | None:
        """The folder of the benchmark's files, if there is one."""
        return local_folder(self.data_dir, "alpaca_eval")

    def identity(self) -> dict[str, Any]:
        annotator = load_annotator(self.annotator)
        return {
            "name": self.name,
            "questions": {"sha256": OFFICIAL_SHA256 if self.prompts == "official" else sha256(self._data())},
            "limit": self.limit,
            "reference": self.needs_row or self._file_reference(),
            "annotator": annotator.name,
            "annotator_sha256": sha256(json.dumps(annotator.config, sort_keys=True).encode()),
            "template_sha256": sha256(annotator.template.encode()),
            **({"orders": self.orders} if self.orders != "seeded" else {}),
            **({"samples": self.samples} if self.samples > 1 else {}),
            **({"temperature": self.temperature} if self.temperature is not None else {}),
            **({"without_logprobs": self.without_logprobs} if self.without_logprobs != "text" else {}),
            **(gamed_identity(self.df_gamed) if self._is_official_lc else {"lc_glm": GLM}),
            "alpaca_eval": version("alpaca_eval"),
        }

    def question_identity(self) -> dict[str, Any]:
        return {key: value for key, value in self.identity().items() if key in {"name", "questions", "limit"}}

    def check(self) -> None:
        check_asking(load_annotator(self.annotator), self._asking)
        public_leaderboard.check_names(self.public_rows)
        if self.prompts != "official" or self._folder is not None:
            self._instructions()
        if self.df_gamed is not None and not self.df_gamed.is_file():
            raise DataError(f"df_gamed: no file {self.df_gamed}; {GET_GAMED}")

    @classmethod
    def template_text(cls, identity: Mapping[str, Any]) -> str | None:
        return template_of(identity)

    @classmethod
    def has_plain_means(cls) -> bool:
        return True

    def prepare(self) -> None:
        """Fetch the instructions, and the file for the length-controlled rate, unless they are present."""
        self._instructions()
        if self._is_official_lc:
            self._gamed()

    def load_questions(self) -> list[Question]:
        return [Question(id=item.id, turns=(item.instruction,)) for item in self._instructions()]

    def all_prompts(self) -> list[tuple[str, str]]:
        """Every instruction, whatever the limit."""
        return [(item.id, item.instruction) for item in self._all_instructions()]

    def verdicts(self, answers: Sequence[Answer], reference: Sequence[Answer], ask: Ask) -> list[Verdict]:
        """One verdict per question, in order; the value is the package's preference in [1, 2] (2: won)."""
        outputs, references = texts_by_question(answers), self.reference_texts(reference)
        asked = load_annotator(self.annotator), self._asking, self.orders
        return verdicts_on(self._instructions(), outputs, references, ask, *asked)

    def metrics(
        self, answers: Sequence[Answer], reference: Sequence[Answer], verdicts: Sequence[Verdict]
    ) -> dict[str, Metric]:
        outputs, references = texts_by_question(answers), self.reference_texts(reference)
        metrics = win_rates([v.value for v in verdicts])
        both = [v.question_id for v in verdicts if v.question_id in outputs and v.question_id in references]
        if both and all(outputs[i] == references[i] for i in both):
            metrics |= by_construction(metrics, with_unpenalised=not self._is_official_lc)
        else:
            metrics |= self._length_controlled(verdicts, references, outputs)
        metrics |= source_metrics(verdicts)
        metrics |= length_metrics([outputs[v.question_id] for v in verdicts if v.question_id in outputs], answers)
        return {f"alpaca_eval.{name}": metric for name, metric in metrics.items()}

    def _length_controlled(
        self, verdicts: Sequence[Verdict], references: Mapping[str, str], outputs: Mapping[str, str]
    ) -> dict[str, Metric]:
        ids, preferences = [v.question_id for v in verdicts], [v.value for v in verdicts]
        theirs, ours = ([len(texts[i]) if i in texts else None for i in ids] for texts in (references, outputs))
        if not self._is_official_lc:
            fits = {"lc_win_rate": lc_win_rate, "lc_unpenalised": lc_unpenalised}
            return {name: fit(theirs, ours, preferences) for name, fit in fits.items()}
        indices = {item.id: index for index, item in enumerate(self._all_instructions())}
        places = [indices[i] for i in ids]
        rate, spread = official_lc_win_rate(places, theirs, ours, preferences, self._gamed())
        return ({} if spread is None else {"lc_standard_error": Metric(value=spread, n=rate.n)}) | {"lc_win_rate": rate}

    def _file_reference(self) -> Any:
        """The identity of a reference from a file. AlpacaEval 1's has no published hash: a local file is hashed."""
        if self.reference != FIRST_REFERENCE:
            return "file"
        if self._folder is None:
            return {"name": FIRST_REFERENCE, "revision": HUB_REVISION}
        return {"name": FIRST_REFERENCE, "sha256": sha256(read_bytes(first_reference_file(self._folder)))}

    def _gamed(self) -> Path:
        """The file that the official length-controlled rate needs. Raises DataError."""
        return self.df_gamed or official_gamed(self._folder)

    def recorded_names(self, path: Path) -> Names:
        return alpaca_files.read_names(read_bytes(path), str(path))

    def recorded_answers(self, path: Path, wanted: Wanted = ANY) -> tuple[list[Answer], dict[str, int]]:
        """A model's outputs in the public format (see `harness.benchmarks.alpaca_eval.files`)."""
        return alpaca_files.read_outputs(read_bytes(path), str(path), [i.id for i in self._instructions()], wanted)

    def recorded_verdicts(
        self, path: Path, answers: Sequence[Answer], wanted: Wanted = ANY
    ) -> tuple[list[Verdict], dict[str, int], str]:
        """Verdicts on them in the package's annotation format."""
        items = self._instructions()
        about = [item.id for item in items], wanted, self.needs_row or self._reference_name(items)
        return alpaca_files.read_annotations(read_bytes(path), str(path), answers, *about)

    def public_files(self, judge: str, rows: Sequence[JudgedRow]) -> dict[str, str]:
        """`data/alpaca_eval/<row>/model_outputs.json` and `annotations.json`, in the package's formats."""
        items = self._instructions()
        against = self.reference_texts, self.needs_row or self._reference_name(items)
        questions = [{"id": i.id, "instruction": i.instruction, "dataset": i.dataset} for i in items]
        return alpaca_files.public_files(f"data/{self.name}", questions, rows, *against, judge)

    @classmethod
    def examples(cls, folder: Path, rows: Sequence[str]) -> Examples:
        return alpaca_files.read_examples(folder, rows)

    @classmethod
    def notes(cls, judge: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
        return source_notes(metrics)

    def published(self) -> Published | None:
        return public_leaderboard.published(self.public_rows) if self.public_rows else None

    def _reference_name(self, items: Sequence[Instruction]) -> str:
        return FIRST_REFERENCE if self.reference == FIRST_REFERENCE else items[0].generator

    def reference_texts(self, reference: Sequence[Answer]) -> dict[str, str]:
        """The reference outputs, by question."""
        if self.needs_row is not None:
            return texts_by_question(reference)
        if self.reference == FIRST_REFERENCE:
            path = first_reference_file(self._folder)
            return reference_outputs(parse_instructions(read_bytes(path), str(path), with_outputs=True))
        return reference_outputs(self._instructions())

    def _instructions(self) -> list[Instruction]:
        """The instructions within the limit. Raises DataError."""
        return evenly_spaced(self._all_instructions(), self.limit)

    def _all_instructions(self) -> list[Instruction]:
        """All instructions. Raises DataError naming the row that can't be used."""
        data = self._data()
        if self._read is None or self._read[0] != data:
            self._read = data, parse_instructions(data, str(self.prompts), with_outputs=self.needs_row is None)
        return list(self._read[1])

    def _data(self) -> bytes:
        return read_prompts(self.prompts, self._folder)
