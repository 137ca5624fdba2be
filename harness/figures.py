"""Figures: a benchmark's declaration of what it measures, as boards, comparisons, gates and charts read it."""

import math
import re
from collections.abc import Mapping
from statistics import fmean
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from harness.types import Record

HELDOUT = "heldout"
"""The group of figures that need no benchmark: how well a policy orders the held-out pairs."""
MARGIN, MARGIN_KEPT, TRAINED_MARGIN = (f"{HELDOUT}.{name}" for name in ("margin", "margin_kept", "trained_margin"))
PERCENTAGE_POINTS = "percentage points"
POINTS = 2.0
"""How many percentage points worse a gate lets a row be, unless the figure declares another margin."""


def read_margin(value: Any) -> float | str | None:
    """A margin as somebody writes it: a number in the unit of the figure's differences, or a share of the baseline's
    value, such as `10%`, which is returned without spaces. Raises ValueError."""
    share = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*%", value.strip()) if isinstance(value, str) else None
    if value is None or (share is not None and 0 < float(share[1]) < 100):
        return None if share is None else f"{share[1]}%"
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number <= 1e12:
        got = value if isinstance(value, int | float) else repr(value)[:40]
        raise ValueError(f"expected a number of at least 0, got {got}; or a share of the baseline's value, such as 10%")
    return number


Margin = Annotated[float | str | None, BeforeValidator(read_margin)]
"""A gate's margin; None: as the figure declares."""


class Pairing(Record):
    """How two rows are compared in a figure, prompt by prompt.

    `mean`: the figure is the mean over prompts of scale · (outcome - offset). `share`: it is the percentage of prompts
    whose outcome is above `offset` (one that equals it counts one half), times scale / 100. `resamples`: it is not a
    mean over prompts; rows are compared by the figure in bootstrap resamples that they all share. `turn`: only outcomes
    of this turn (`id/1`) count. Outcomes of several samples of one question (`id#2`) are averaged first.
    """

    kind: Literal["mean", "share", "resamples"] = "mean"
    scale: float = 1.0
    offset: float = 0.0
    turn: int | None = None

    def values(self, outcomes: Mapping[str, float | None]) -> dict[str, float | None]:
        """The figure's value for each prompt, in its unit; None where it was not scored. Empty for `resamples`."""
        if self.kind == "resamples":
            return {}
        return {k: None if v is None else self._value(v) for k, v in _averaged(self._of_turn(outcomes)).items()}

    def of_each(self, outcomes: Mapping[str, float | None]) -> dict[str, float | None]:
        """`values` with the samples of a question one by one."""
        if self.kind == "resamples":
            return {}
        return {k: None if v is None else self._value(v) for k, v in self._of_turn(outcomes).items()}

    def _of_turn(self, outcomes: Mapping[str, float | None]) -> dict[str, float | None]:
        return {k: v for k, v in outcomes.items() if self.turn is None or k.split("/")[1:2] == [str(self.turn)]}

    def _value(self, outcome: float) -> float:
        if self.kind == "share":
            return self.scale * ((outcome > self.offset) + 0.5 * (outcome == self.offset))
        return self.scale * (outcome - self.offset)


def _averaged(outcomes: Mapping[str, float | None]) -> dict[str, float | None]:
    """Outcomes by question and turn, averaged over the question's samples (`81#2/1`)."""
    if not any("#" in key for key in outcomes):
        return dict(outcomes)
    samples: dict[str, list[float | None]] = {}
    for key, value in outcomes.items():
        question, slash, turn = key.partition("/")
        samples.setdefault(f"{question.split('#')[0]}{slash}{turn}", []).append(value)
    scored = {key: [x for x in values if x is not None] for key, values in samples.items()}
    return {key: fmean(values) if values else None for key, values in scored.items()}


class Figure(Record):
    """A figure that a benchmark declares.

    metric: `<benchmark>.<name>`. group: its heading in tables, the benchmark's title. short: its title in the terminal.
    decimals: how many tables show (files hold full precision). higher_is_better: None where neither direction is.
    margin: how much worse a gate lets a row be by default, in the unit of differences; None: POINTS for a figure in
    percent; for others a gate needs one.
    place: the board's main table, the table by category, or the further figures.
    pairing: how rows are compared by it; None: they are not. compared: boards compare every pair of rows by it.
    rated: Bradley-Terry strengths are fitted to it. limits: its smallest and largest value, where it has both.
    counted: it is the number of outcomes above, equal to or below a value. part_of: the metric of which this and others
    are parts: each of its outcomes belongs to at most one of them. note: a sentence for the board's notes.
    """

    metric: str
    group: str
    title: str
    short: str = ""
    decimals: int = Field(1, ge=0, le=12)
    unit: str = ""
    higher_is_better: bool | None = True
    margin: float | None = Field(None, ge=0, le=1e12)
    place: Literal["board", "category", "details"] = "board"
    pairing: Pairing | None = None
    compared: bool = False
    rated: bool = False
    limits: tuple[float, float] | None = None
    counted: tuple[Literal["above", "equal", "below"], float] | None = None
    part_of: str | None = None
    note: str | None = None
    tax: str | None = Field(None, exclude_if=lambda value: value is None)
    """A capability that training may cost, such as `coding`: the figure stands in the board's tax section."""
    difference_unit: str | None = None
    """The unit of differences, where it is not the figure's own: percentage points for a share."""

    @property
    def default_margin(self) -> float | None:
        """The margin of a gate that names none; None: it has to name one."""
        return POINTS if self.margin is None and self.in_percent else self.margin

    @property
    def in_percent(self) -> bool:
        """Whether differences are in percentage points."""
        return self.unit == "%" or self.difference_unit is not None

    @property
    def per_unit(self) -> float:
        """What a value is multiplied with for the unit of differences: 100 for a share."""
        return 100.0 if self.difference_unit else 1.0

    @property
    def ends(self) -> tuple[float, float] | None:
        """Its smallest and largest value on a prompt, in the unit of differences."""
        if self.pairing is not None and self.pairing.kind == "share":
            return 0.0, self.pairing.scale
        return None if self.limits is None else (self.per_unit * self.limits[0], self.per_unit * self.limits[1])

    @property
    def benchmark(self) -> str:
        """The benchmark's name, or `heldout`: the group of the row's outcomes."""
        return self.metric.split(".")[0]

    @property
    def name(self) -> str:
        """The metric's name without the benchmark."""
        return self.metric.partition(".")[2]

    @property
    def head(self) -> str:
        """`AlpacaEval win rate, %`."""
        return f"{self.group} {self.title}{f', {self.unit}' if self.unit else ''}".strip()

    @property
    def difference_head(self) -> str:
        """`AlpacaEval win rate, percentage points`."""
        unit = PERCENTAGE_POINTS if self.in_percent else self.unit
        return f"{self.group} {self.title}{f', {unit}' if unit else ''}".strip()

    @property
    def difference_words(self) -> str:
        """`points of AlpacaEval win rate`: what follows a difference in a sentence."""
        unit = "points of " if self.unit == "%" or self.difference_unit else "in "
        return f"{unit}{self.group} {self.title}".strip()

    @property
    def reach(self) -> float | None:
        """The largest possible difference of two rows on one prompt, in the unit of differences; None where there is
        none."""
        return None if self.ends is None else self.ends[1] - self.ends[0]

    @property
    def difference_decimals(self) -> int:
        """Decimals of a difference: one where it is in percentage points."""
        return 1 if self.difference_unit else self.decimals


HELDOUT_FIGURES = (
    Figure(
        metric="heldout.pair_accuracy",
        group="Held-out",
        title="pair accuracy",
        short="pair acc.",
        decimals=3,
        limits=(0.0, 1.0),
        pairing=Pairing(kind="share", scale=100),
        compared=True,
        difference_unit=PERCENTAGE_POINTS,
        margin=POINTS,
    ),
    Figure(
        metric="heldout.kendall_tau",
        group="Held-out",
        title="Kendall tau",
        short="tau",
        decimals=3,
        limits=(-1.0, 1.0),
    ),
    Figure(
        metric=MARGIN,
        group="Held-out",
        title="margin",
        short="margin",
        decimals=4,
        unit="nats",
        margin=0.1,
        pairing=Pairing(),
    ),
    Figure(
        metric=MARGIN_KEPT,
        group="Held-out",
        title="margin kept",
        short="kept",
        decimals=2,
        note="Margin kept: the mean held-out margin of the policy that answers, in the dtype in which it answers, over "
        "that of what was trained, in float32; 1 by definition where the policy is in float32.",
    ),
    Figure(
        metric=TRAINED_MARGIN,
        group="Held-out",
        title="margin of what was trained, in float32",
        decimals=4,
        unit="nats",
        place="details",
    ),
)
"""Figures of every board with trained rows: implicit rewards on held-out pairs, margins in nats. The last one is there
only for a policy in half precision: `MARGIN_KEPT` is `heldout.margin` over it."""

GOLD_REWARD = Figure(
    metric="gold_reward.score",
    group="Reward",
    title="gold",
    short="gold",
    decimals=3,
    pairing=Pairing(),
    compared=True,
    note="Reward gold: the mean score of the answers by the known truth, which no training has seen; of a conversation "
    "the mean over its turns.",
)
PROXY_REWARD = Figure(
    metric="proxy_reward.score",
    group="Reward",
    title="proxy",
    short="proxy",
    decimals=2,
    unit="sd of base",
    note="Reward proxy: the mean score of the same answers by the reward model that made the row's data, from the mean "
    "of base's answers, in standard deviations of base's.",
)
KL = Figure(
    metric="kl.answer",
    group="KL",
    title="per answer",
    short="KL",
    decimals=3,
    unit="nats",
    higher_is_better=None,
    pairing=Pairing(),
    note="KL: the divergence of a trained policy from the policy before its training, KL(π ‖ π_ref) over the whole "
    "vocabulary at each token of the row's own answers, summed over an answer's tokens; the mean over an answer's "
    "turns and then over prompts. Both compute in float32.",
)
KL_PER_TOKEN = Figure(
    metric="kl_token.mean",
    group="KL",
    title="per token",
    decimals=5,
    unit="nats",
    higher_is_better=None,
    place="details",
    pairing=Pairing(),
)
REWARD_FIGURES = (GOLD_REWARD, PROXY_REWARD)
"""Figures of a board whose recipe knows the truth (`evaluation.gold_reward`). Rows may have proxies of their own, so
they are not compared by them."""
ANSWER_FIGURES = (*REWARD_FIGURES, KL, KL_PER_TOKEN)
"""Figures of a row's answers to all benchmarks, which are no benchmark's: means over prompts, with an outcome for each
`BENCHMARK:QUESTION`."""
