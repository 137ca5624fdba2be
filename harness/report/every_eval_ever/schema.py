"""What is read of a record, checked; anything else that it holds is passed over."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, ValidationError

from harness.boards.provenance import Provenance
from harness.errors import DataError
from harness.figures import Figure
from harness.outside import LARGEST_TEXT, parse_json, read_text, reason_of
from harness.printable import printable
from harness.types import Metric, Record

ROW = "preference_harness_row"
"""The detail of `eval_library` that holds the row itself, as JSON."""

KEPT = (
    *("judge", "judge_calibration", "benchmarks", "references", "guards", "gold"),
    *("checkpoint", "selection", "round"),
)
"""What a record keeps of its row's provenance: what was measured with, what is doubtful, and whether the row is one of
several of a method, of which only one is compared."""


def _finite_bound(value: Any) -> Any:
    return None if value in ("Infinity", "-Infinity") else value


Number = Annotated[StrictInt | StrictFloat, Field(ge=-1e300, le=1e300)]
Bound = Annotated[Number | None, BeforeValidator(_finite_bound)]
"""None: unbounded, or not provided."""
Text = Annotated[str, Field(max_length=1000)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Judge(_Part):
    """`model_info` of a judge."""

    class Model(_Part):
        name: Text
        id: Text

    model_info: Model


class Scoring(_Part):
    judges: list[Judge] = Field(min_length=1)
    input_prompt: str


class MetricConfig(_Part):
    metric_id: Text | None = None
    metric_name: Text | None = None
    metric_unit: Text | None = None
    metric_parameters: dict[str, str | StrictBool | Number | None] = Field(default_factory=dict)
    lower_is_better: StrictBool
    min_score: Bound = None
    max_score: Bound = None
    llm_scoring: Scoring | None = None


class StandardError(_Part):
    value: Annotated[Number, Field(ge=0)]


class Interval(_Part):
    lower: Number
    upper: Number
    confidence_level: Number | None = None


class Uncertainty(_Part):
    standard_error: StandardError | None = None
    confidence_interval: Interval | None = None
    num_samples: Annotated[StrictInt, Field(ge=0)] | None = None


class ScoreDetails(_Part):
    score: Number
    details: dict[str, str] = Field(default_factory=dict)
    uncertainty: Uncertainty | None = None


class SourceData(_Part):
    dataset_name: Text
    hf_repo: Text | None = None
    samples_number: StrictInt | None = None


class Result(_Part):
    evaluation_name: Text
    source_data: SourceData
    metric_config: MetricConfig
    score_details: ScoreDetails


class Source(_Part):
    source_name: Text | None = None
    source_type: Literal["documentation", "evaluation_run"]
    source_organization_name: Text
    evaluator_relationship: Literal["first_party", "third_party", "collaborative", "other"]


class Library(_Part):
    name: Text
    version: Text
    additional_details: dict[str, str] = Field(default_factory=dict)


class Model(_Part):
    name: Text
    id: Text = Field(min_length=1)


class EvaluationRecord(_Part):
    """An aggregate record of schema 0.2 or 0.3; the two agree in all that is read."""

    schema_version: Text
    evaluation_id: Text = Field(min_length=1)
    retrieved_timestamp: Text
    source_metadata: Source
    eval_library: Library
    model_info: Model
    evaluation_results: list[Result]
    detailed_evaluation_results: dict[str, Any] | None = None


class OwnRow(Record):
    """What a record of this harness says of its row beyond the schema. `unscored`: figures without a value."""

    id: str = Field(min_length=1)
    method: str
    unscored: dict[str, Metric] = Field(default_factory=dict)
    figures: tuple[Figure, ...] = ()
    outcomes: dict[str, dict[str, float | None]] = Field(default_factory=dict)
    strata: dict[str, dict[str, str]] = Field(default_factory=dict)
    provenance: Provenance = Provenance()


def read_evaluation(path: Path, inside: Path) -> EvaluationRecord:
    """A record from a file in or below the folder `inside`. Raises DataError with the file and the field."""
    try:
        text = read_text(path, LARGEST_TEXT, inside)
        found = parse_json(text)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read ({reason_of(error)}); expected a record of Every Eval Ever") from None
    if not isinstance(found, dict) or "evaluation_results" not in found:
        raise DataError(f"{path}: no evaluation_results; expected one aggregate record of Every Eval Ever")
    try:
        record = EvaluationRecord.model_validate_json(text)
    except ValidationError as error:
        raise DataError(f"{path}: {first_problem(error)}; expected schema 0.3 of Every Eval Ever") from None
    if record.schema_version.split(".")[:2] not in (["0", "2"], ["0", "3"]):
        raise DataError(f"{path}: schema_version: {printable(record.schema_version, 40)}; expected 0.3.0, or 0.2")
    return record


def first_problem(error: ValidationError) -> str:
    """The field of the first problem, and what is wrong with it."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{printable('.'.join(map(str, first['loc'])), 160) or 'the whole file'}: {printable(first['msg'], 200)}"
