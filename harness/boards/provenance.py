"""The provenance of a board's row: everything that decides its figures, as its entry file holds it."""

from typing import Any

from pydantic import Field

from harness.boards.reports.report import Facts, Number, Report


class TrainingFacts(Facts):
    """What a training run reports. `steps`: optimizer steps. Losses: means over the first and the last steps, in nats.
    `warnings`: failure signatures. `stopped`: why it ended early. `match`, `budget`, `used`: the unit of the budget it
    was given, its size, and how much of it was used. `curve`: (step, loss) pairs. `identical_responses`: left out,
    because once they are cut a better one of their prompt has the same tokens; `dropped_examples`: had none left."""

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
    curve: list[tuple[Number, Number]] = Field(default_factory=list)
    identical_responses: int | None = None
    dropped_examples: int | None = None


class CheckpointFacts(Facts):
    """A checkpoint on the way of a training. `row`: the row of its last one. `point`: which, as the row's id has it.
    `steps`: done until then; `tokens`: through the policy in training, None where unknown."""

    row: str = ""
    point: str = ""
    steps: int = 0
    tokens: int | None = None


class SelectionFacts(Facts):
    """A choice among the candidates of a method. `metric`: by which figure, on `prompts` prompts, which are left out of
    all figures. `over`: the axes. `candidates`: the figure by candidate, None where not scored. `candidate`: which of
    them the row is, and `is_chosen` whether it was chosen."""

    metric: str = ""
    prompts: int = 0
    over: tuple[str, ...] = ()
    candidates: dict[str, float | None] = Field(default_factory=dict)
    candidate: str = ""
    is_chosen: bool = False


class RegisteredFacts(Facts):
    """The commit since which the recipe's file has had its data, and its time (ISO 8601, UTC). `came_first`: the row
    was computed after it."""

    commit: str
    time: str
    came_first: bool


class RoundFacts(Facts):
    """Which of `count` on-policy rounds a row's training was. `earlier`: the keys of the trainings before it. What
    those took: `generated_tokens` for their responses, `forward_tokens` in training; None where unknown."""

    number: int = 1
    count: int = 1
    earlier: tuple[str, ...] = ()
    generated_tokens: int | None = 0
    forward_tokens: int | None = 0

    @property
    def is_last(self) -> bool:
        return self.number == self.count


class LossFacts(Facts):
    """The declarations of a row's loss (see `harness.protocols.Loss`)."""

    on_pairs: bool = False
    is_multi_dpo: bool = False
    reconstruction: str | None = None


class SftFacts(Facts):
    """The fine-tuned policy that a row's training started from. `row`: the id of its own row."""

    row: str | None = None


class SweepAxisFacts(Facts):
    """An axis of a sweep: its name, the recipe's fields, and the names of its values in order."""

    name: str
    fields: tuple[str, ...]
    values: tuple[str, ...]


class SweepFacts(Facts):
    """A row's place in a sweep. `row`: its id in its cell's recipe. `cells`: the settings of its cells."""

    row: str | None = None
    cells: tuple[dict[str, str], ...] = ()
    axes: tuple[SweepAxisFacts, ...] = ()


class HeldoutFacts(Facts):
    """`pairs`: their number. `dtype`: of the policy that answers, and of these figures. `no_margin_kept`: why the row
    has no share of the margin that was kept."""

    pairs: int | None = None
    dtype: str | None = None
    no_margin_kept: str | None = None


class KlFacts(Facts):
    """How a row's divergence was measured: on so many `tokens` of its `answers`. `is_estimate`: all of them were
    sampled at temperature 1 from the whole vocabulary, so that it estimates the divergence of whole answers.
    `retokenised`: answers that have, tokenised again, another number of tokens than was sampled."""

    answers: int | None = None
    tokens: int | None = None
    is_estimate: bool = False
    retokenised: int = 0


class GuardFlag(Facts):
    """A validity guard that fired. `evidence`: ids of the prompts that show it."""

    name: str = ""
    text: str = ""
    evidence: tuple[str, ...] = ()


class Equivalent(Facts):
    """The win rate that the official judge would give a row, in percent, predicted from its rate by another judge, with
    the 95 % prediction interval. `systems`: the recorded ones that it rests on; `held`: how many of them, each left
    out, lay in the interval that the others gave."""

    value: Number | None = None
    ci95: tuple[Number, Number] | None = None
    systems: int = 0
    held: int = 0


class JudgeCalibration(Facts):
    """How a judge compares with an official one on recorded pairs.

    `verdict`: `informative`; `local`: better than chance and than "the longer answer wins" on these systems, but maybe
    not on another; `weak`: better than chance, but not shown to beat "the longer answer wins"; `at_chance`;
    `not_measured`; `rule`: a program checks `text`; `uncalibrated`; or `unknown`, of older boards, which have only a
    text. `agreement`: within a system, in percent (50: chance); `here`: its 95 % interval for these systems;
    `elsewhere`: for another one, None with too few systems. `siblings`: the agreement between systems next to each
    other. `equivalents`: by figure.
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


class JudgingFacts(Facts):
    """What the verdicts on a row cost: replies, tokens, and dollars (None: a price is unknown). `models`: replies by
    the model that the server says has answered. `adapted`: by how their requests were changed for the server."""

    replies: int | None = None
    models: dict[str, int] = Field(default_factory=dict)
    adapted: dict[str, int] = Field(default_factory=dict)
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    dollars: float | None = None


class Provenance(Facts):
    """Where a row's figures come from. Every field may be absent.

    recipe, seed: the run's. auto_dtype: what `dtype: auto` stood for, and why. policy, judge, benchmarks: identities;
    the last two decide which rows share a table. data, answers, verdicts: reports of these stages, by stage or
    benchmark; heldout, kl: those of the held-out figures and of the divergence. keys: of all stages, by id. references:
    keys of the answers that the row's answers were compared with, by benchmark. judge_calibration: a record, or a text
    (absent or `uncalibrated`: not calibrated). method_id, training_seed: of a method with one training run per seed.
    match_to: the row whose training budget this one was given. public: the source of a row of a public leaderboard.
    gold: by benchmark, what a corrected figure rests on (`harness.stats.ppi.Corrected`). checkpoint: of a row that is
    not a training's last one. round: of several. selection: of a row that was chosen among others, or was not. made_by:
    versions and commit of the code that computed it. registered: of a recipe that ran as it was committed.
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
    kl: KlFacts | None = None
    judging: dict[str, JudgingFacts] = Field(default_factory=dict)
    leaks: dict[str, dict[str, int]] = Field(default_factory=dict)
    guards: dict[str, tuple[GuardFlag, ...]] = Field(default_factory=dict)
    keys: dict[str, str] = Field(default_factory=dict)
    references: dict[str, str] = Field(default_factory=dict)
    made_by: dict[str, Any] | None = None
    registered: RegisteredFacts | None = None
    method_id: str | None = None
    training_seed: int | None = None
    match_to: str | None = None
    training: TrainingFacts | None = None
    checkpoint: CheckpointFacts | None = None
    round: RoundFacts | None = None
    selection: SelectionFacts | None = None
    loss: LossFacts | None = None
    sft: SftFacts | None = None
    sweep: SweepFacts | None = None
    reconstruction: str | None = None
    public: str | None = None
    gold: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @property
    def responses(self) -> int | None:
        """Responses a prompt that the recipe trains on, at most, or where it doesn't say that trained prompts had; None
        where that is unknown or the row has no recipe."""
        data = (self.recipe or {}).get("data")
        responses, pairs = (
            (data or {}).get(name) if isinstance(data, dict) else None for name in ("responses", "pairs")
        )
        n = responses.get("n") if isinstance(responses, dict) else None
        if isinstance(pairs, dict) and pairs.get("name") in ("best_worst", "mean_minus_2sd"):
            return 2
        k = pairs.get("k") if isinstance(pairs, dict) else None
        counts = [count for count in (n, k) if isinstance(count, int)]
        if counts:
            return min(counts)
        ranked = self.data.get("ranked", {})
        total, prompts = ranked.get("responses"), ranked.get("train_prompts")
        return total // prompts if total and prompts and total % prompts == 0 else None

    def benchmark(self, name: str) -> dict[str, Any]:
        """A benchmark's identity; empty where the row has none."""
        identity = self.benchmarks.get(name)
        return identity if isinstance(identity, dict) else {}
