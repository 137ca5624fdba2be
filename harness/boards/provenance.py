"""The provenance of a board's row: everything that decides its figures, as its entry file holds it."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

Number = int | float
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


class GuardFlag(_Facts):
    """A validity guard that fired. `evidence`: ids of the prompts that show it."""

    name: str = ""
    text: str = ""
    evidence: tuple[str, ...] = ()


class JudgingFacts(_Facts):
    """What the verdicts on a row cost: replies, tokens, and dollars (None: a price is unknown)."""

    replies: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    dollars: float | None = None


class Provenance(_Facts):
    """Where a row's figures come from. Every field may be absent.

    recipe, seed: the run's. policy, judge, benchmarks: identities; the last two decide which rows share a table. data,
    answers, verdicts: reports of these stages, by stage or benchmark. keys: of all stages, by id. references: keys of
    the answers that the row's answers were compared with, by benchmark. judge_calibration: a text (absent or
    `uncalibrated`: not calibrated). method_id, training_seed: of a method with one training run per seed. match_to: the
    row whose training budget this one was given. public: the source of a row of a public leaderboard. made_by: versions
    and commit of the code that computed it.
    """

    recipe: dict[str, Any] | None = None
    seed: int | None = None
    policy: dict[str, Any] | None = None
    judge: dict[str, Any] | None = None
    judge_calibration: str | dict[str, Any] | None = None
    benchmarks: dict[str, Any] = Field(default_factory=dict)
    data: dict[str, dict[str, Any]] = Field(default_factory=dict)
    answers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    verdicts: dict[str, dict[str, Any]] = Field(default_factory=dict)
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

    def benchmark(self, name: str) -> dict[str, Any]:
        """A benchmark's identity; empty where the row has none."""
        identity = self.benchmarks.get(name)
        return identity if isinstance(identity, dict) else {}
