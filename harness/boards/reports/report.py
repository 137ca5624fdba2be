"""The reports of stages, as a board holds them: readers use some of their fields, whose types are checked."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr

Number = StrictInt | StrictFloat
"""As in JSON: an integer stays an integer."""


class Facts(BaseModel):
    """Frozen; fields of later versions are kept as they are, and absent fields are not written."""

    model_config = ConfigDict(frozen=True, extra="allow", ser_json_inf_nan="constants")

    def plain(self) -> dict[str, Any]:
        """The fields that were given, as JSON-able data."""
        return self.model_dump(mode="json", exclude_unset=True)


class _Reported(BaseModel):
    """A figure in a report."""

    model_config = ConfigDict(extra="forbid")

    value: Number | None = None
    stderr: Number | None = None
    ci95: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = None
    n: StrictInt = 0
    n_invalid: StrictInt = 0


class _Batch(Facts):
    applies: bool = False
    rounding: Number = 0
    largest_difference: Number = 0


class _Admission(Facts):
    ties: StrictInt = 0
    not_scored: StrictInt = 0
    accuracy: _Reported | None = None
    length_correlation: _Reported | None = None
    longer_preferred: _Reported | None = None
    batch: _Batch | None = None


class _Growth(Facts):
    n: StrictInt
    prompts: StrictInt
    best_sd: Number | None
    spread_sd: Number | None


class _BestOf(Facts):
    n: StrictInt
    kl: Number
    gold: _Reported
    ceiling: Number


class _Agreement(Facts):
    first: StrictStr
    second: StrictStr
    tau: _Reported


class _Compared(Facts):
    """A reward model that was compared with others."""

    name: StrictStr
    not_scored: StrictInt = 0


class _Report(Facts):
    """What readers use of the reports of stages; they may hold anything else."""

    name: StrictStr | None = None
    models: dict[str, StrictInt] | list[_Compared] | None = None
    tokens: Number | None = None
    train_prompts: Number | None = None
    generated_prompts: Number | None = None
    prompt_self_bleu: Number | None = None
    response_self_bleu: Number | None = None
    heldout_accuracy: _Reported | None = None
    leaks: dict[str, StrictInt] | None = None
    leaks_dropped: Number = 0
    admission: _Admission | None = None
    score_and_length: _Reported | None = None
    growth_with_n: list[_Growth] | None = None
    best_of_n: list[_BestOf] | None = None
    tau: _Reported | None = None
    pairs: Number | list[_Agreement] | None = None


def _checked(report: dict[str, Any]) -> dict[str, Any]:
    """The report as it is, if what readers use of it is of its type. Raises pydantic's ValidationError."""
    _Report.model_validate(report)
    return report


Report = Annotated[dict[str, Any], AfterValidator(_checked)]
"""The report of a stage: JSON-able data."""
