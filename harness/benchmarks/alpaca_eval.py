"""AlpacaEval 2: pairwise win rate against a reference, raw and length-controlled (arXiv 2404.04475)."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from harness import alpaca_data, alpaca_files, datafiles, public_leaderboard
from harness.alpaca_data import GAMED_FILE, GET_GAMED, OFFICIAL_SHA256, Item, from_hub
from harness.alpaca_figures import averaged, win_rates
from harness.annotator import Pair, annotate, load_annotator
from harness.components import Component, ModelReference, RecipePath
from harness.errors import DataError
from harness.length_control import GAMED_SHA256, GLM, OFFICIAL_GLM, lc_win_rate, official_lc_win_rate
from harness.protocols import Judged
from harness.stats import mean_metric, proportion_metric
from harness.types import Answer, Ask, Metric, Question, Verdict

FIRST = "text_davinci_003"
"""The name of AlpacaEval 1's reference."""


class AlpacaEval(Component):
    """Judged by the `alpaca_eval` package's own annotator, parser and metrics (see `harness.annotator`).

    `prompts`: `official` (805 instructions with GPT-4 Turbo's outputs; CC-BY-NC-4.0, so it is read from `data_dir`,
    from `$HARNESS_DATA/alpaca_eval`, or fetched at a pinned revision, and its SHA-256 is checked), `builtin` (the
    package's own small set), or a JSON file (or .json.gz) in the public format (`instruction, output, generator,
    dataset`). `reference`: `file` (the outputs in the prompts' file: AlpacaEval 2's reference where the prompts are
    official, and the default there), or the id of a row, whose answers it then is; otherwise `base`, the untrained
    policy; or `text_davinci_003`, AlpacaEval 1's (`alpaca_eval.json` of the same place; its hash is not published).
    `limit`: that many instructions, evenly spaced. `annotator`: the name of one of the package's evaluators, or the
    folder of one's own. `orders`: the package shows each pair in one order, drawn by a seed; `both` asks twice and
    averages. `samples`: replies a prompt, averaged, for judges that are sampled at a temperature. A pair that lacks
    one of its verdicts is not scored. `without_logprobs`: what becomes of a judge's reply without log-probabilities
    where the annotator reads them: `text` takes one of its tokens for certain, which `from_text` counts, and the rate
    is then not weighted; `refuse` does not score it. `public_rows`: names of rows of the public leaderboard (it ships
    in the package) to be shown on the board, marked as such.

    Figures: win rates in percent; `avg_length` in characters; `lc_win_rate` by the package's official GLM where
    prompts and reference are official, else by its `length_controlled_minimal` (see `harness.length_control`), its
    error by bootstrap; `lc_standard_error` is the package's, the spread of the GLM's probabilities over prompts. The
    official one needs `df_gamed`: the official file, which is looked for in the data folder and on the hub; another
    file may be named, and the figures are then not official. `length_control: minimal` does without.
    """

    prompts: Literal["builtin", "official"] | RecipePath = Field("official", union_mode="left_to_right")
    data_dir: RecipePath | None = None
    reference: str | None = Field(None, min_length=1)
    length_control: Literal["auto", "minimal"] = "auto"
    df_gamed: RecipePath | None = None
    limit: int | None = Field(None, ge=1)
    annotator: ModelReference = "weighted_alpaca_eval_gpt4_turbo"
    orders: Literal["seeded", "both"] = "seeded"
    samples: int = Field(1, ge=1, le=16)
    without_logprobs: Literal["text", "refuse"] = "text"
    public_rows: list[str] = Field(default_factory=list)
    _read: tuple[bytes, list[Item]] | None = PrivateAttr(None)
    """The prompts' file and what is in it, as last read."""

    @model_validator(mode="after")
    def _gamed_is_of_the_official_set(self) -> "AlpacaEval":
        if self.df_gamed is not None and not self._is_official_lc:
            raise ValueError(
                "df_gamed is for the official prompts against the reference in their file, by length_control: auto"
            )
        return self

    @model_validator(mode="after")
    def _public_rows_are_of_the_official_set(self) -> "AlpacaEval":
        official = self.prompts == "official" and self.needs_row is None and self.reference != FIRST
        if self.public_rows and not (official and self.limit is None):
            raise ValueError("public_rows are about all official prompts against GPT-4 Turbo's outputs; remove them")
        return self

    @property
    def needs_row(self) -> str | None:
        """The row whose answers `verdicts` and `metrics` want as reference; None where the file has them."""
        reference = self.reference or ("file" if self.prompts == "official" else "base")
        return None if reference in ("file", FIRST) else reference

    @property
    def compares(self) -> bool:
        """Whether a judge is to name the better of two answers by one of two replies."""
        return len(load_annotator(self.annotator).choices) == 2

    @property
    def _is_official_lc(self) -> bool:
        return (
            self.prompts == "official"
            and self.needs_row is None
            and self.reference != FIRST
            and self.length_control == "auto"
        )

    def identity(self) -> dict[str, Any]:
        annotator = load_annotator(self.annotator)
        return {
            "name": self.name,
            "questions": {"sha256": OFFICIAL_SHA256 if self.prompts == "official" else datafiles.sha256(self._data())},
            "limit": self.limit,
            "reference": self.needs_row or self._file_reference(),
            "annotator": annotator.name,
            "annotator_sha256": datafiles.sha256(json.dumps(annotator.config, sort_keys=True).encode()),
            "template_sha256": datafiles.sha256(annotator.template.encode()),
            **({"orders": self.orders} if self.orders != "seeded" else {}),
            **({"samples": self.samples} if self.samples > 1 else {}),
            **({"without_logprobs": self.without_logprobs} if self.without_logprobs != "text" else {}),
            **self._lc_identity(),
            "alpaca_eval": version("alpaca_eval"),
        }

    def question_identity(self) -> dict[str, Any]:
        """The part of `identity()` that answers depend on."""
        return {key: value for key, value in self.identity().items() if key in {"name", "questions", "limit"}}

    def check(self) -> None:
        load_annotator(self.annotator)
        public_leaderboard.check(self.public_rows)
        folder = datafiles.local_folder(self.data_dir, "alpaca_eval")
        if self.prompts != "official" or folder is not None:
            self._items()
        if self.df_gamed is not None and not self.df_gamed.is_file():
            raise DataError(f"df_gamed: no file {self.df_gamed}; {GET_GAMED}")

    def prepare(self) -> None:
        """Fetch the instructions, and what the length-controlled rate needs, where they are not here yet."""
        self._items()
        if self._is_official_lc:
            self._gamed()

    def questions(self) -> list[Question]:
        return [Question(id=item.id, turns=(item.instruction,)) for item in self._items()]

    def all_prompts(self) -> list[tuple[str, str]]:
        """Every instruction, whatever the limit."""
        return [(item.id, item.instruction) for item in self._all_items()]

    def verdicts(self, answers: Sequence[Answer], reference: Sequence[Answer], ask: Ask) -> list[Verdict]:
        """One verdict a question, in order; its value is the package's preference in [1, 2] (2: won over the
        reference)."""
        outputs, references, items = _texts(answers), self.reference_texts(reference), self._items()
        pairs, missing = [], {}
        for item in items:
            if item.id in outputs and item.id in references:
                pairs.append(Pair(item.id, item.instruction, references[item.id], outputs[item.id]))
            else:
                missing[item.id] = "no reference output" if item.id in outputs else "no answer"
        verdicts = {v.question_id: v for v in self._judged(pairs, ask)} if pairs else {}
        verdicts |= {i: Verdict(question_id=i, value=None, invalid=reason) for i, reason in missing.items()}
        return [verdicts[item.id] for item in items]

    def _judged(self, pairs: Sequence[Pair], ask: Ask) -> list[Verdict]:
        annotator, as_text = load_annotator(self.annotator), self.without_logprobs == "text"
        rounds = [
            annotate(annotator, pairs, ask, switched=switched, sample=sample, as_text=as_text)
            for switched in ((None,) if self.orders == "seeded" else (False, True))
            for sample in range(self.samples)
        ]
        return rounds[0] if len(rounds) == 1 else [averaged(each) for each in zip(*rounds, strict=True)]

    def metrics(
        self, answers: Sequence[Answer], reference: Sequence[Answer], verdicts: Sequence[Verdict]
    ) -> dict[str, Metric]:
        outputs, references = _texts(answers), self.reference_texts(reference)
        preferences = [v.value for v in verdicts]
        figures = win_rates(preferences)
        both = [v for v in verdicts if v.question_id in outputs and v.question_id in references]
        if both and all(outputs[v.question_id] == references[v.question_id] for v in both):
            figures["lc_win_rate"] = figures["win_rate"]  # 50 by construction, as in the package
        else:
            controlled, spread = self._lc_win_rate(both, references, outputs)
            if spread is not None:
                figures["lc_standard_error"] = Metric(value=spread, n=controlled.n)
            unasked = len(verdicts) - len(both)
            figures["lc_win_rate"] = controlled.model_copy(update={"n_invalid": controlled.n_invalid + unasked})
        if certain := sum(bool(v.detail.get("from_text")) for v in verdicts):
            figures["from_text"] = Metric(value=float(certain), n=len(verdicts))
        written = [outputs[v.question_id] for v in verdicts if v.question_id in outputs]
        length = mean_metric([len(text) for text in written])
        # The package cuts the mean to a whole number.
        value = None if length.value is None else float(int(length.value))
        figures["avg_length"] = length.model_copy(update={"value": value})
        ended = [a.finish_reasons[-1] == "length" for a in answers if a.question_id in outputs and a.finish_reasons]
        if ended:
            figures["truncated"] = proportion_metric(ended, scale=100)
        return {f"alpaca_eval.{name}": metric for name, metric in figures.items()}

    def _lc_win_rate(
        self, verdicts: Sequence[Verdict], references: Mapping[str, str], outputs: Mapping[str, str]
    ) -> tuple[Metric, float | None]:
        theirs, ours = ([len(texts[v.question_id]) for v in verdicts] for texts in (references, outputs))
        preferences = [v.value for v in verdicts]
        if not self._is_official_lc:
            return lc_win_rate(theirs, ours, preferences), None
        places = {item.id: place for place, item in enumerate(self._all_items())}
        return official_lc_win_rate([places[v.question_id] for v in verdicts], theirs, ours, preferences, self._gamed())

    def _first_file(self) -> Path:
        return alpaca_data.first_reference(datafiles.local_folder(self.data_dir, "alpaca_eval"))

    def _file_reference(self) -> Any:
        """What the reference is, where it is no row. AlpacaEval 1's has no published hash: a local file's is kept."""
        if self.reference != FIRST:
            return "file"
        local = datafiles.local_folder(self.data_dir, "alpaca_eval") is not None
        content = datafiles.sha256(datafiles.read_bytes(self._first_file())) if local else alpaca_data.HUB_REVISION
        return {"name": FIRST, "sha256" if local else "revision": content}

    def _lc_identity(self) -> dict[str, Any]:
        if not self._is_official_lc:
            return {"lc_glm": GLM}
        if self.df_gamed is None:
            return {"lc_glm": OFFICIAL_GLM, "df_gamed_sha256": GAMED_SHA256}
        found = datafiles.sha256(datafiles.read_bytes(self.df_gamed))
        marked = {} if found == GAMED_SHA256 else {"lc_unofficial": f"{self.df_gamed.name} is not the official file"}
        return {"lc_glm": OFFICIAL_GLM, "df_gamed_sha256": found, **marked}

    def _gamed(self) -> Path:
        """The file that the official length-controlled rate needs. Raises DataError."""
        if self.df_gamed is not None:
            return self.df_gamed
        folder = datafiles.local_folder(self.data_dir, "alpaca_eval")
        if folder is not None and (folder / GAMED_FILE).is_file():
            path = folder / GAMED_FILE
        else:
            path = from_hub(GAMED_FILE, GET_GAMED)
        datafiles.official(datafiles.read_bytes(path), GAMED_SHA256, str(path), "name another file as `df_gamed`")
        return path

    def recorded_answers(self, path: Path) -> tuple[list[Answer], dict[str, int]]:
        """A model's outputs in the public format (see `harness.alpaca_files`)."""
        return alpaca_files.read_outputs(datafiles.read_bytes(path), str(path), [i.id for i in self._items()])

    def recorded_verdicts(self, path: Path, answers: Sequence[Answer]) -> tuple[list[Verdict], dict[str, int], str]:
        """Verdicts on them in the package's annotation format."""
        data = datafiles.read_bytes(path)
        return alpaca_files.read_annotations(data, str(path), answers, [i.id for i in self._items()])

    def public_files(self, judge: str, rows: Sequence[Judged]) -> dict[str, str]:
        """`data/alpaca_eval/<row>/model_outputs.json` and `annotations.json`, in the package's formats."""
        items = self._items()
        known = [{"id": i.id, "instruction": i.instruction, "dataset": i.dataset} for i in items]
        files = {}
        for row, answers, reference, verdicts in rows:
            folder = f"data/{self.name}/{datafiles.file_name(row)}"
            outputs = alpaca_files.outputs_rows(known, answers, row)
            against = (self.reference_texts(reference), self.needs_row or self._reference_name(items))
            annotations = alpaca_files.annotation_rows(known, (_texts(answers), row), against, verdicts, judge)
            files[f"{folder}/model_outputs.json"] = datafiles.json_text(outputs)
            files[f"{folder}/annotations.json"] = datafiles.json_text(annotations)
        return files

    def _reference_name(self, items: Sequence[Item]) -> str:
        return FIRST if self.reference == FIRST else items[0].generator

    def reference_texts(self, reference: Sequence[Answer]) -> dict[str, str]:
        """What the outputs are compared with, by question."""
        if self.needs_row is not None:
            return _texts(reference)
        if self.reference == FIRST:
            path = self._first_file()
            data = datafiles.read_bytes(path)
            first = alpaca_data.items(data, str(path), with_outputs=True)
            return {item.id: item.output for item in first if item.output is not None}
        return {item.id: item.output for item in self._items() if item.output is not None}

    def _items(self) -> list[Item]:
        """The instructions, as limited. Raises DataError."""
        return datafiles.evenly_spaced(self._all_items(), self.limit)

    def _all_items(self) -> list[Item]:
        """The whole set. Raises DataError naming the row that can't be used."""
        data = self._data()
        if self._read is None or self._read[0] != data:
            self._read = data, alpaca_data.items(data, str(self.prompts), with_outputs=self.needs_row is None)
        return list(self._read[1])

    def _data(self) -> bytes:
        if self.prompts == "builtin":
            return datafiles.read_bytes(datafiles.asset("alpaca_eval.json"))
        if self.prompts == "official":
            return alpaca_data.official(datafiles.local_folder(self.data_dir, "alpaca_eval"))
        if not Path(self.prompts).is_file():
            raise DataError(f"prompts: no file {self.prompts}; expected builtin, official, or a JSON file")
        return datafiles.read_bytes(Path(self.prompts))


def _texts(answers: Sequence[Answer]) -> dict[str, str]:
    return {a.question_id: a.turns[0] for a in answers}
