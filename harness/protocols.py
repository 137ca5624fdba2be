"""One base class per kind of component, with the methods it must define and the properties it may declare.

A component (`{name: foo, ...}`) is a frozen pydantic model, its fields the recipe's options. Flags are class variables.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import BaseModel

from harness.settings import Settings
from harness.types import FREE, Advance, Ask, Completion, JudgeReply, JudgeRequest, Messages, PreferencePair, Sampling

if TYPE_CHECKING:
    from torch import Tensor

    from harness.types import Price


class Component(Settings):
    """Base class of all components. Fields are recipe options; `unkeyed` names those that can't change a result."""

    unkeyed: ClassVar[frozenset[str]] = frozenset()
    is_served: ClassVar[bool] = False
    """The computation runs on a server, not in this process."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Packages that an extra brings, by the names that are imported: they are looked for before anything runs."""

    name: str

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        _refuse_misspelt(cls)

    def identity(self) -> dict[str, Any]:
        """Everything the results depend on, as JSON-able data, for keys and provenance; files by content, not path."""
        return self.model_dump(mode="json", exclude=set(self.unkeyed))

    def check(self) -> None:
        """A cheap check before anything heavy loads: files exist, keys are set. Raises a HarnessError."""

    def check_prompts(self, prompts: Sequence[Messages], fold: bool) -> None:
        """Check that it can read such prompts, one of each order of roles. `fold`: as in `harness.recipe.data.Data`."""

    def components(self) -> "list[Component]":
        """The components among its fields, also inside lists."""
        values = [item for _, value in self for item in (value if isinstance(value, list | tuple) else [value])]
        return [value for value in values if isinstance(value, Component)]

    def fitted_on(self) -> frozenset[str]:
        """Prompts (`prompt_id`) and pairs (`files.pair_hash`) that it was fitted to; by default those of its parts."""
        return frozenset(one for part in self.components() for one in part.fitted_on())

    def models_in_process(self) -> list[str]:
        """Names of the models that this process loads for it, for the plan's estimates; by default its parts'."""
        return [model for part in self.components() for model in part.models_in_process()]

    def has_served_parts(self) -> bool:
        """Whether it, or one of its parts, runs on a server."""
        return self.is_served or any(part.has_served_parts() for part in self.components())

    @property
    def rule(self) -> str | None:
        """In words, the rule that its scores or verdicts follow from; None where they are anything's estimates."""
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle only the fields: the other process creates clients and locks, loads models and reads files itself."""
        fields = {name: self.__dict__[name] for name in type(self).model_fields}
        return _from_fields, (type(self), fields, self.model_fields_set)


def _from_fields(kind: type[Component], fields: dict[str, Any], fields_set: set[str]) -> Component:
    return kind.model_construct(_fields_set=fields_set, **fields)


def _refuse_misspelt(cls: type[Component]) -> None:
    """Raise TypeError for a name close to one of its kind's, and for a flag of no base: both would have no effect."""
    bases = [base for base in cls.__mro__[1:] if issubclass(base, Component)]
    if Component in cls.__bases__:
        return  # the base class of a kind: its names are new
    inherited = {name: kind for base in bases for name, kind in _public(base).items()}
    of_kind = {name for base in bases if base is Component or Component in base.__bases__ for name in _public(base)}
    for name, kind in sorted(_public(cls).items()):
        near = get_close_matches(name, of_kind, n=1, cutoff=0.85)
        if name not in inherited and (near or "ClassVar[bool]" in kind):
            flags = sorted(other for other, annotation in inherited.items() if "ClassVar[bool]" in annotation)
            advice = f"did you mean '{near[0]}'?" if near else f"flags are {', '.join(flags)}"
            raise TypeError(f"{cls.__module__}.{cls.__name__}: no base class has an attribute '{name}'; {advice}")


def _public(cls: type[Component]) -> dict[str, str]:
    """Public names in a class's own body, with their annotations as texts."""
    body = {**dict.fromkeys(vars(cls), ""), **vars(cls).get("__annotations__", {})}
    foreign = {*vars(BaseModel), "model_config", "name"}
    return {name: str(kind) for name, kind in body.items() if not name.startswith("_") and name not in foreign}


class Origin(NamedTuple):
    """A seed set's licence and home, None if unknown; `size`: pairs, mean characters of a prompt and of an answer."""

    licence: str | None = None
    home: str | None = None
    size: tuple[int, float, float] | None = None


class Seed(Component):
    """A seed preference set. Each pair's `source` is the set's name."""

    @property
    def origin(self) -> Origin:
        """The data's licence and home, for the card of a dataset derived from it."""
        return Origin()

    @property
    def quick(self) -> bool:
        """Whether `pairs` is fast: no download, no large file. Only then does validating a recipe read all rows."""
        return False

    @abstractmethod
    def pairs(self) -> list[PreferencePair]:
        """All pairs, in file order. Raises DataError naming the line of a row that can't be read."""

    def remarks(self) -> dict[str, dict[str, int]]:
        """Numbers of rows that `pairs` took notice of, by kind (`left_out`, ...) and what the kind names."""
        return {}


class SampleRequest(NamedTuple):
    """Samples of one prompt: a conversation, continued if its last message is the assistant's, or a text to continue
    as is. `samples`: their indices, from 0, each with its own random stream."""

    prompt: Messages | str
    sampling: Sampling
    samples: tuple[int, ...]


class Sampled(NamedTuple):
    """A finished sample: the index of its request, its index among that request's samples, and the text."""

    request: int
    sample: int
    completion: Completion


Arrived = Callable[[Sequence[Sampled]], None]
"""Callback for finished samples, one call per batch; it may be called from several threads."""


class Generator(Component):
    """Samples responses to prompts."""

    @property
    def parallel_requests(self) -> int:
        """Concurrent requests of a served generator; 1 in process."""
        return 1

    @abstractmethod
    def generate(self, requests: Sequence[SampleRequest], *, seed: int, arrived: Arrived) -> None:
        """Pass each sample to `arrived`, once; in process, equal arguments give equal texts. Raises ModelError, and
        SamplesRefused where a server refuses some prompts; samples already passed on are kept."""


Keep = Callable[[Sequence[tuple[int, float | None]]], None]
"""Callback for scores as they are computed: (index of the row, score) for each row of a batch."""

ScoreRows = Callable[[Sequence[tuple[Messages, str]]], list[float | None]]
"""Scores (prompt, response) rows, in order; None where a row could not be scored."""


@dataclass(frozen=True)
class Ready:
    """What a reward model needs for scoring. `folder`: what its `fit` has filled. `parts`: a scorer for each part.
    `ask`: asks a judge, never twice the same question. `keep`: takes partial results; a killed run loses one batch."""

    folder: Path
    advance: Advance
    ask: "Callable[[Judge], Ask]"
    parts: tuple[ScoreRows, ...] = ()
    keep: Keep = lambda rows: None


class RewardModel(Component):
    """Scores responses; higher is better. Only differences between responses to one prompt mean anything."""

    @property
    def groupwise(self) -> bool:
        """Whether a score depends on the prompt's other responses: all are then passed in one call, consecutively."""
        return False

    @property
    def is_trained(self) -> bool:
        """Whether it can score only after `fit` has filled a folder."""
        return False

    @property
    def parts(self) -> "tuple[RewardModel, ...]":
        """The reward models that it combines: each is fitted, admitted and journaled separately."""
        return ()

    @property
    def batch_rows(self) -> int | None:
        """Rows in a forward pass, if processes can share `score`'s batches (`harness.children.shares.own`)."""
        return None

    @property
    def training_passes(self) -> float:
        """How often `fit` goes through the training pairs; only the plan's estimates use it."""
        return 1.0 if self.is_trained else 0.0

    def fit(self, pairs: Sequence[PreferencePair], folder: Path, *, seed: int, advance: Advance) -> dict[str, Any]:
        """Train on the seed's training pairs, save into `folder`, and return a report; by default nothing and {}."""
        return {}

    @abstractmethod
    def score(self, rows: Sequence[tuple[Messages, str]], ready: Ready) -> list[float | None]:
        """One score per (prompt, response), in order; None where it could not be scored."""


class RankedLogps(NamedTuple):
    """The input of every loss; all tensors are [B, N] (B prompts, N responses, padded on the right).

    logps: summed response log-probabilities under the policy, float32, with gradient (natural log).
    ref_logps: the same under the reference. scores: reward-model scores. lengths: response tokens, including the end
    token. mask: True where a response is real; padding holds zeros. draws: uniform numbers in [0, 1), the same for
    the same (seed, epoch, example); a loss that samples pairs uses them, so that it stays a pure function.
    """

    logps: "Tensor"
    ref_logps: "Tensor"
    scores: "Tensor"
    lengths: "Tensor"
    mask: "Tensor"
    draws: "Tensor | None" = None


class Loss(Component):
    """A preference loss over ranked responses: a pure function. `on_pairs`: it trains on pairs, and boards compare
    it with Multi-DPO. `is_multi_dpo`: it is one. `reconstruction`: what is not from its paper, as boards say."""

    needs: ClassVar[tuple[str, ...]] = ("torch",)
    on_pairs: ClassVar[bool] = False
    is_multi_dpo: ClassVar[bool] = False
    reconstruction: ClassVar[str | None] = None

    @property
    def responses_a_prompt(self) -> int | None:
        """The number of responses that every prompt must have; None for any number."""
        return None

    @abstractmethod
    def __call__(self, batch: RankedLogps) -> "tuple[Tensor, Tensor]":
        """(losses [B], valid [B] bool), which depends on scores and mask only. A prompt without a strict preference is
        not valid: its loss is 0 and it is left out of the batch's mean."""


class Judge(Component):
    """Replies to judge prompts."""

    resamples: ClassVar[bool] = False
    """It may reply differently to the same request, even at temperature 0."""
    is_metered: ClassVar[bool] = False
    """It takes one request per call, and reports every call to its server to a `harness.servers.spending.Tab`."""
    reads_candidates: ClassVar[bool] = False
    """It reads a request's `candidates` rather than its prompt, and can only compare two answers."""
    recorded: ClassVar[bool] = False
    """It only has recorded verdicts and can't be asked."""

    @property
    def members(self) -> "tuple[Judge, ...]":
        """The judges of a panel, whose verdicts on a benchmark are combined (`harness.judging.panel`)."""
        return ()

    @property
    def requests_at_once(self) -> int | None:
        """Requests per call to a model in process; None for a judge called from several threads, one request a call."""
        return None

    @property
    def model_name(self) -> str | None:
        """The model's name in price tables, or None."""
        return None

    def token_price(self, table: "Mapping[str, Price]") -> "Price | None":
        """The price of its tokens: free in process; None where it is unknown."""
        return None if self.has_served_parts() else FREE

    @abstractmethod
    def reply(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        """One reply per request, in order."""

    def metered_reply(self, request: JudgeRequest, tab: Any) -> JudgeReply:
        """One reply, with its calls reported to `tab`; for metered judges."""
        return self.reply([request])[0]
