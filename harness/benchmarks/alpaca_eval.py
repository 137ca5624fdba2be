"""AlpacaEval 2: pairwise win rate against a reference, raw and length-controlled (arXiv 2404.04475)."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, PrivateAttr, model_validator

from harness import alpaca_files, datafiles
from harness.annotator import Pair, alpaca_eval_contained, annotate, load_annotator
from harness.components import Component, RecipePath
from harness.errors import DataError
from harness.length_control import GAMED_SHA256, GLM, OFFICIAL_GLM, lc_win_rate, official_lc_win_rate
from harness.protocols import Judged
from harness.stats import mean_metric, proportion_metric
from harness.types import Answer, Ask, Metric, Question, Verdict

HUB_DATASET = "tatsu-lab/alpaca_eval"
HUB_REVISION = "2edc6fad8be6b14ea7230aabfd08188da6b8b814"
OFFICIAL_FILE = "alpaca_eval_gpt4_baseline.json"
OFFICIAL_SHA256 = "83db546b872ddebee8965fd05fa48461ee3c32bc695c62fb57f2d214ff741ec4"
GAMED_FILE = "df_gamed.csv"
OWN = "give other data as `prompts: FILE`"


class _Item(NamedTuple):
    id: str
    instruction: str
    output: str | None
    dataset: str
    generator: str


class AlpacaEval(Component):
    """Judged by the `alpaca_eval` package's own annotator, parser and metrics (see `harness.annotator`).

    `prompts`: `official` (805 instructions with GPT-4 Turbo's outputs; CC-BY-NC-4.0, so it is read from `data_dir`,
    from `$HARNESS_DATA/alpaca_eval`, or fetched at a pinned revision, and its SHA-256 is checked), `builtin` (the
    package's own small set), or a JSON file (or .json.gz) in the public format (`instruction, output, generator,
    dataset`). `reference`: `file` (the outputs in the prompts' file: AlpacaEval 2's reference where the prompts are
    official, and the default there), or the id of a row, whose answers it then is; otherwise `base`, the untrained
    policy. `limit`: that many instructions, evenly spaced.

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
    annotator: str = "weighted_alpaca_eval_gpt4_turbo"
    _read: tuple[bytes, list[_Item]] | None = PrivateAttr(None)
    """The prompts' file and what is in it, as last read."""

    @model_validator(mode="after")
    def _gamed_is_of_the_official_set(self) -> "AlpacaEval":
        if self.df_gamed is not None and not self._is_official_lc:
            raise ValueError(
                "df_gamed is for the official prompts against the reference in their file, by length_control: auto"
            )
        return self

    @property
    def needs_row(self) -> str | None:
        """The row whose answers `verdicts` and `metrics` want as reference; None where the file has them."""
        reference = self.reference or ("file" if self.prompts == "official" else "base")
        return None if reference == "file" else reference

    @property
    def compares(self) -> bool:
        """Whether a judge is to name the better of two answers by one of two replies."""
        return len(load_annotator(self.annotator).choices) == 2

    @property
    def _is_official_lc(self) -> bool:
        return self.prompts == "official" and self.needs_row is None and self.length_control == "auto"

    def identity(self) -> dict[str, Any]:
        annotator = load_annotator(self.annotator)
        return {
            "name": self.name,
            "questions": {"sha256": OFFICIAL_SHA256 if self.prompts == "official" else datafiles.sha256(self._data())},
            "limit": self.limit,
            "reference": self.needs_row or "file",
            "annotator": self.annotator,
            "annotator_sha256": datafiles.sha256(json.dumps(annotator.config, sort_keys=True).encode()),
            "template_sha256": datafiles.sha256(annotator.template.encode()),
            **self._lc_identity(),
            "alpaca_eval": version("alpaca_eval"),
        }

    def question_identity(self) -> dict[str, Any]:
        """The part of `identity()` that answers depend on."""
        return {key: value for key, value in self.identity().items() if key in {"name", "questions", "limit"}}

    def check(self) -> None:
        load_annotator(self.annotator)
        folder = datafiles.local_folder(self.data_dir, "alpaca_eval")
        if self.prompts != "official" or folder is not None:
            self._items()
        if self.df_gamed is not None and not self.df_gamed.is_file():
            raise DataError(f"df_gamed: no file {self.df_gamed}; {_GET_GAMED}")

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
        found = annotate(load_annotator(self.annotator), pairs, ask) if pairs else []
        verdicts = {v.question_id: v for v in found}
        verdicts |= {i: Verdict(question_id=i, value=None, invalid=reason) for i, reason in missing.items()}
        return [verdicts[item.id] for item in items]

    def metrics(
        self, answers: Sequence[Answer], reference: Sequence[Answer], verdicts: Sequence[Verdict]
    ) -> dict[str, Metric]:
        outputs, references = _texts(answers), self.reference_texts(reference)
        preferences = [v.value for v in verdicts]
        figures = _win_rates(preferences)
        both = [v for v in verdicts if v.question_id in outputs and v.question_id in references]
        if both and all(outputs[v.question_id] == references[v.question_id] for v in both):
            figures["lc_win_rate"] = figures["win_rate"]  # 50 by construction, as in the package
        else:
            controlled, spread = self._lc_win_rate(both, references, outputs)
            if spread is not None:
                figures["lc_standard_error"] = Metric(value=spread, n=controlled.n)
            unasked = len(verdicts) - len(both)
            figures["lc_win_rate"] = controlled.model_copy(update={"n_invalid": controlled.n_invalid + unasked})
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
            path = _from_hub(GAMED_FILE, _GET_GAMED)
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
            against = (self.reference_texts(reference), self.needs_row or items[0].generator)
            annotations = alpaca_files.annotation_rows(known, (_texts(answers), row), against, verdicts, judge)
            files[f"{folder}/model_outputs.json"] = datafiles.json_text(outputs)
            files[f"{folder}/annotations.json"] = datafiles.json_text(annotations)
        return files

    def reference_texts(self, reference: Sequence[Answer]) -> dict[str, str]:
        """What the outputs are compared with, by question."""
        if self.needs_row is not None:
            return _texts(reference)
        return {item.id: item.output for item in self._items() if item.output is not None}

    def _items(self) -> list[_Item]:
        """The instructions, as limited. Raises DataError."""
        return datafiles.evenly_spaced(self._all_items(), self.limit)

    def _all_items(self) -> list[_Item]:
        """The whole set. Raises DataError naming the row that can't be used."""
        data = self._data()
        if self._read is None or self._read[0] != data:
            self._read = data, self._items_in(data)
        return list(self._read[1])

    def _items_in(self, data: bytes) -> list[_Item]:
        where = str(self.prompts)
        items: dict[str, _Item] = {}
        for number, row in enumerate(datafiles.json_list(data, where), start=1):
            instruction, output = row.get("instruction"), row.get("output")
            if not isinstance(instruction, str) or not instruction:
                raise DataError(f"prompts {where}, row {number}: expected a text under `instruction`")
            if not isinstance(output, str) and (self.needs_row is None or output is not None):
                raise DataError(f"prompts {where}, row {number}: expected the reference's text under `output`")
            question_id = alpaca_files.instruction_id(instruction)
            if question_id in items:
                raise DataError(f"prompts {where}, row {number}: its instruction is there twice; rows are joined by it")
            names = (str(row.get(key) or "unknown") for key in ("dataset", "generator"))
            items[question_id] = _Item(question_id, instruction, output, *names)
        if not items:
            raise DataError(f"prompts {where}: no rows")
        return list(items.values())

    def _data(self) -> bytes:
        if self.prompts == "builtin":
            return datafiles.read_bytes(datafiles.asset("alpaca_eval.json"))
        if self.prompts == "official":
            return _official(datafiles.local_folder(self.data_dir, "alpaca_eval"))
        if not Path(self.prompts).is_file():
            raise DataError(f"prompts: no file {self.prompts}; expected builtin, official, or a JSON file")
        return datafiles.read_bytes(Path(self.prompts))


def _official(folder: Path | None) -> bytes:
    """The official file, from a folder or the hub. Raises DataError."""
    if folder is not None:
        for name in (OFFICIAL_FILE, f"{OFFICIAL_FILE}.gz"):
            if (folder / name).is_file():
                return datafiles.official(datafiles.read_bytes(folder / name), OFFICIAL_SHA256, str(folder / name), OWN)
        raise DataError(f"{folder} has no {OFFICIAL_FILE} (or .gz); it is in the hub dataset {HUB_DATASET}")
    how = "download it elsewhere and set data_dir to its folder, or HARNESS_DATA to that folder's parent"
    path = _from_hub(OFFICIAL_FILE, how)
    return datafiles.official(path.read_bytes(), OFFICIAL_SHA256, str(path), OWN)


_GET_GAMED = (
    f"the length-controlled rate needs the official {GAMED_FILE} (SHA-256 {GAMED_SHA256[:12]}...) of the hub dataset "
    f"{HUB_DATASET}: put it beside the prompts in data_dir, or name it as df_gamed; or set length_control: minimal"
)


def _from_hub(name: str, how: str) -> Path:
    """A file of AlpacaEval's hub dataset, at the pinned revision. Raises DataError; `how`: what else can be done."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(HUB_DATASET, name, repo_type="dataset", revision=HUB_REVISION))
    except Exception as error:  # network, access and not-found errors come in many classes
        where = f"the hub dataset {HUB_DATASET} at revision {HUB_REVISION}"
        raise DataError(f"AlpacaEval's {name} can't be fetched from {where} ({type(error).__name__}); {how}") from None


def _texts(answers: Sequence[Answer]) -> dict[str, str]:
    return {a.question_id: a.turns[0] for a in answers}


def _win_rates(preferences: Sequence[float | None]) -> dict[str, Metric]:
    """The package's `get_winrate`, with intervals of ours."""
    scored = [p for p in preferences if p is not None]
    won = mean_metric([None if p is None else p - 1 for p in preferences], scale=100)
    if not scored:
        return {"win_rate": won, "discrete_win_rate": won}
    with alpaca_eval_contained():
        from alpaca_eval.metrics import get_winrate

        package: Mapping[str, Any] = get_winrate([{"preference": p} for p in scored])
    # A preference of exactly 1.5 is a draw; any other counts as the side it leans to.
    discrete = mean_metric([None if p is None else 0.5 if p == 1.5 else round(p) - 1 for p in preferences], scale=100)
    stderr = None if len(scored) < 2 else float(package["standard_error"])
    figures = {
        "win_rate": won.model_copy(update={"value": float(package["win_rate"]), "stderr": stderr}),
        "discrete_win_rate": discrete.model_copy(update={"value": float(package["discrete_win_rate"])}),
    }
    for name, key in {"wins": "n_wins", "losses": "n_wins_base", "draws": "n_draws"}.items():
        figures[name] = Metric(value=float(package[key]), n=won.n, n_invalid=won.n_invalid)
    return figures
