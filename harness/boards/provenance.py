"""The provenance of a board's row: everything that decides its figures, as its entry file holds it."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr

Number = StrictInt | StrictFloat
"""As in JSON: an integer stays an integer."""


class _Facts(BaseModel):
    """Frozen; fields of later versions are kept as they are, and absent fields are not written."""

    model_config = ConfigDict(frozen=True, extra="allow", ser_json_inf_nan="constants")

    def plain(self) -> dict[str, Any]:
        """The fields that were given, as JSON-able data."""
        return self.model_dump(mode="json", exclude_unset=True)


class TrainingFacts(_Facts):
    """What a training run reports. `steps`: optimizer steps. Losses: means over the first and the last steps, in nats.
    `warnings`: failure signatures. `stopped`: why it ended early. `match`, `budget`, `used`: the unit of the budget it
    was given, its size, and how much of it was used. `curve`: (step, loss) pairs."""

    steps: int | None = None
    prompts_seen: int | None = None
    forward_tokens: int | None = None
    tokens: int | None = None
    first_loss: float | None = None
    last_loss: float | None = None
    warnings: tuple[str, ...] = ()
    stopped: str | None = None
    match: str | None = None
    budget: int | None = None
    used: int | None = None
    curve: list[tuple[Number, Number]] = []


class LossFacts(_Facts):
    """The declarations of a row's loss (see `harness.protocols.Loss`)."""

    on_pairs: bool = False
    is_multi_dpo: bool = False
    reconstruction: str | None = None


class SftFacts(_Facts):
    """The fine-tuned policy that a row's training started from. `row`: the id of its own row."""

    row: str | None = None


class SweepAxisFacts(_Facts):
    """An axis of a sweep: its name, the recipe's fields, and the names of its values in order."""

    name: str
    fields: tuple[str, ...]
    values: tuple[str, ...]


class SweepFacts(_Facts):
    """A row's place in a sweep. `row`: its id in its cell's recipe. `cells`: the settings of its cells."""

    row: str | None = None
    cells: tuple[dict[str, str], ...] = ()
    axes: tuple[SweepAxisFacts, ...] = ()


class HeldoutFacts(_Facts):
    """`pairs`: their number. `dtype`: of the policy that answers, and of these figures. `no_margin_kept`: why the row
    has no share of the margin that was kept."""

    pairs: int | None = None
    dtype: str | None = None
    no_margin_kept: str | None = None


class GuardFlag(_Facts):
    """A validity guard that fired. `evidence`: ids of the prompts that show it."""

    name: str = ""
    text: str = ""
    evidence: tuple[str, ...] = ()


class Equivalent(_Facts):
    """The win rate that the official judge would give a row, in percent, predicted from its rate by another judge, with
    the 95 % prediction interval. `systems`: the recorded ones that it rests on; `held`: how many of them, each left
    out, lay in the interval that the others gave."""

    value: Number | None = None
    ci95: tuple[Number, Number] | None = None
    systems: int = 0
    held: int = 0


class JudgeCalibration(_Facts):
    """How a judge compares with an official one on recorded pairs.

    `verdict`: `informative`; `local`: better than chance and than "the longer answer wins" on these systems, but maybe
    not on another; `weak`: better than chance, but not shown to beat "the longer answer wins"; `at_chance`;
    `not_measured`; `uncalibrated`; or `unknown`, of older boards, which have only a text. `agreement`: within a system,
    in percent (50: chance); `here`: its 95 % interval for these systems; `elsewhere`: for another one, None with too
    few systems. `siblings`: the agreement between systems next to each other. `equivalents`: by figure.
    """

    verdict: str = "unknown"
    text: str = ""
    official: str | None = None
    agreement: Number | None = None
    here: tuple[Number, Number] | None = None
    elsewhere: tuple[Number, Number] | None = None
    siblings: Number | None = None
    pairs: int | None = None
    systems: int | None = None
    equivalents: dict[str, Equivalent] = Field(default_factory=dict)


class JudgingFacts(_Facts):
    """What the verdicts on a row cost: replies, tokens, and dollars (None: a price is unknown). `models`: replies by
    the model that the server says has answered. `adapted`: by how their requests were changed for the server."""

    replies: int | None = None
    models: dict[str, int] = Field(default_factory=dict)
    adapted: dict[str, int] = Field(default_factory=dict)
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    dollars: float | None = None


class _Reported(BaseModel):
    """A figure in a report."""

    model_config = ConfigDict(extra="forbid")

    value: Number | None = None
    stderr: Number | None = None
    ci95: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = None
    n: StrictInt = 0
    n_invalid: StrictInt = 0


class _Batch(_Facts):
    applies: bool = False
    rounding: Number = 0
    largest_difference: Number = 0


class _Admission(_Facts):
    ties: StrictInt = 0
    not_scored: StrictInt = 0
    accuracy: _Reported | None = None
    length_correlation: _Reported | None = None
    longer_preferred: _Reported | None = None
    batch: _Batch | None = None


class _Growth(_Facts):
    n: StrictInt
    prompts: StrictInt
    best_sd: Number | None
    spread_sd: Number | None


class _Agreement(_Facts):
    first: StrictStr
    second: StrictStr
    tau: _Reported


class _Report(_Facts):
    """What readers use of the reports of stages; they may hold anything else."""

    name: StrictStr | None = None
    models: dict[str, StrictInt] | None = None
    tokens: Number | None = None
    train_prompts: Number | None = None
    generated_prompts: Number | None = None
    heldout_accuracy: _Reported | None = None
    leaks: dict[str, StrictInt] | None = None
    leaks_dropped: Number = 0
    admission: _Admission | None = None
    score_and_length: _Reported | None = None
    growth_with_n: list[_Growth] | None = None
    pairs: Number | list[_Agreement] | None = None


def _checked(report: dict[str, Any]) -> dict[str, Any]:
    """The report as it is, if what readers use of it is of its type. Raises pydantic's ValidationError."""
    _Report.model_validate(report)
    return report


Report = Annotated[dict[str, Any], AfterValidator(_checked)]
"""The report of a stage: JSON-able data."""


class Provenance(_Facts):
    """Where a row's figures come from. Every field may be absent.

    recipe, seed: the run's. auto_dtype: what `dtype: auto` stood for, and why. policy, judge, benchmarks: identities;
    the last two decide which rows share a table. data, answers, verdicts: reports of these stages, by stage or
    benchmark; heldout: that of the held-out figures. keys: of all stages, by id. references: keys of the answers that
    the row's answers were compared with, by benchmark. judge_calibration: a record, or a text (absent or
    `uncalibrated`: not calibrated). method_id, training_seed: of a method with one training run per seed. match_to: the
    row whose training budget this one was given. public: the source of a row of a public leaderboard. gold: by
    benchmark, what a corrected figure rests on (`harness.stats.ppi.Corrected`). made_by: versions and commit of the
    code that computed it.
    """

    recipe: dict[str, Any] | None = None
    auto_dtype: str | None = None
    seed: int | None = None
    policy: dict[str, Any] | None = None
    judge: dict[str, Any] | None = None
    judge_calibration: str | JudgeCalibration | None = None
    benchmarks: dict[str, Any] = Field(default_factory=dict)
    data: dict[str, Report] = Field(default_factory=dict)
    answers: dict[str, Report] = Field(default_factory=dict)
    verdicts: dict[str, Report] = Field(default_factory=dict)
    heldout: HeldoutFacts | None = None
    judging: dict[str, JudgingFacts] = Field(default_factory=dict)
    leaks: dict[str, dict[str, int]] = Field(default_factory=dict)
    guards: dict[str, tuple[GuardFlag, ...]] = Field(default_factory=dict)
    keys: dict[str, str] = Field(default_factory=dict)
    references: dict[str, str] = Field(default_factory=dict)
    made_by: dict[str, Any] | None = None
    method_id: str | None = None
    training_seed: int | None = None
    match_to: str | None = None
    training: TrainingFacts | None = None
    loss: LossFacts | None = None
    sft: SftFacts | None = None
    sweep: SweepFacts | None = None
    reconstruction: str | None = None
    public: str | None = None
    gold: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @property
    def responses(self) -> int | None:
        """Responses a prompt that the recipe samples, None where it has none or the row no recipe."""
        data = (self.recipe or {}).get("data")
        responses = data.get("responses") if isinstance(data, dict) else None
        n = responses.get("n") if isinstance(responses, dict) else None
        return n if isinstance(n, int) else None

    def benchmark(self, name: str) -> dict[str, Any]:
        """A benchmark's identity; empty where the row has none."""
        identity = self.benchmarks.get(name)
        return identity if isinstance(identity, dict) else {}
