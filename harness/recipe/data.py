"""The recipe's `data` section: seed sets, new prompts, responses, and the reward model that ranks them."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from harness.components import GeneratorField, ModelReference, RewardField, SeedField
from harness.data.leaks import THRESHOLD
from harness.data.read import Holdout
from harness.protocols import Seed
from harness.recipe.making.pairs import Pairs, PairsField
from harness.recipe.making.ranked import RankedField
from harness.recipe.prompt_template import DEFAULT, PromptTemplate
from harness.servers.adapting.continuing import OfEngine
from harness.types import RecipeSection

ShotSampling = Literal["uniform", "by_category"]


class PromptGeneration(RecipeSection):
    """New prompts: the generator sees `shots` seed prompts and writes one more like them. `template`: `chat` for
    instruct models, `text` for base models, or a path (see `harness.recipe.prompt_template`)."""

    generator: GeneratorField
    """Who writes the new prompts."""
    count: int = Field(ge=1)
    """How many new prompts to write."""
    template: PromptTemplate = Field(DEFAULT, validate_default=True)
    shots: int = Field(6, ge=1, le=32)
    """Seed prompts that the generator sees each time."""
    shot_sampling: ShotSampling = "uniform"
    """How shots are drawn: `uniform` from all, or as evenly as possible over categories (`by_category`)."""
    temperature: float = Field(0.7, gt=0)
    """Of sampling: higher is more varied."""
    top_p: float = Field(0.95, gt=0, le=1)
    """Nucleus sampling: the share of probability that tokens are drawn from."""
    max_new_tokens: int = Field(64, ge=4)
    """Tokens of the longest new prompt; longer ones are dropped."""
    min_words: int = Field(3, ge=1)
    """Words of the shortest new prompt."""
    max_words: int = Field(400, ge=1)
    """Words of the longest new prompt."""
    languages: list[str] | None = None
    """Languages that new prompts may have (ISO 639-1); None: those of the seed prompts."""
    max_similarity: float = Field(0.7, gt=0, le=1)
    """Largest Jaccard similarity, over words and word pairs, to a seed prompt or an accepted prompt."""
    max_attempts: int = Field(8, ge=1)
    """Maximum number of generation rounds, even if fewer than `count` prompts were accepted."""


class ResponseSource(RecipeSection):
    """One of several generators, and the number of responses it writes per prompt."""

    generator: GeneratorField
    """Who writes these responses."""
    n: int = Field(ge=1, le=64)
    """Responses that it writes for each prompt."""


class ResponseGeneration(RecipeSection):
    """N responses per prompt, by one `generator` or by several `sources`, whose counts add up to N. `seed_prompts`:
    also rank the seed's training prompts, all (true) or the first so many. `seed_responses`: their chosen and rejected
    answers are two of the N, and the sources write the other N - 2 (the last sources write fewer). Thoughts are left
    out, as `policy.thinking` says: what is scored and trained on is the answer as it will be judged.
    `max_thinking_tokens`: of a thought, apart from `max_new_tokens`."""

    generator: GeneratorField | None = None
    """Who writes all N responses."""
    sources: list[ResponseSource] = Field(default_factory=list)
    """Several generators instead of one, whose counts add up to N."""
    n: int = Field(4, ge=2, le=64)
    """Responses of each prompt."""
    temperature: float = Field(0.9, gt=0)
    """Of sampling: higher is more varied."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus sampling: the share of probability that tokens are drawn from."""
    max_new_tokens: int = Field(256, ge=1)
    """Tokens of the longest response, at which it is cut."""
    max_thinking_tokens: int | None = Field(None, ge=0)
    seed_prompts: bool | Annotated[int, Field(ge=1)] = True
    seed_responses: bool = True

    @model_validator(mode="before")
    @classmethod
    def _n_from_sources(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and fields.get("sources") and "n" not in fields:
            counts = [s.get("n") for s in fields["sources"] if isinstance(s, dict)]
            if all(isinstance(n, int) for n in counts):
                return {**fields, "n": sum(counts)}
        return fields

    @model_validator(mode="after")
    def _one_or_several(self) -> "ResponseGeneration":
        if (self.generator is None) == (not self.sources):
            raise ValueError("give either `generator` or `sources`: exactly one of them")
        if self.sources and sum(s.n for s in self.sources) != self.n:
            raise ValueError(f"the sources write {sum(s.n for s in self.sources)} responses, but n is {self.n}")
        return self

    @property
    def most_tokens(self) -> int:
        """Tokens of the longest response with its thought."""
        return self.max_new_tokens + (self.max_thinking_tokens or 0)

    def sources_of(self, missing: int) -> list[ResponseSource]:
        """The sources that write a prompt's `missing` responses, in order; the last write fewer than their `n`, or
        none."""
        if self.generator is not None:
            return [ResponseSource.model_construct(generator=self.generator, n=missing)]
        shares = []
        for source in self.sources:
            shares.append(ResponseSource.model_construct(generator=source.generator, n=min(source.n, missing)))
            missing -= shares[-1].n
        return [share for share in shares if share.n]


class Decontamination(RecipeSection):
    """How to treat leaks: prompts that also occur, perhaps edited, in the full evaluation sets of the recipe's
    benchmarks (see `harness.data.leaks`). `action`: `drop` them, or `keep` those of the seed sets (leaked new prompts
    are always dropped). They are counted either way."""

    action: Literal["drop", "keep"] = "drop"
    threshold: float = Field(THRESHOLD, gt=0, le=1)
    """The least overlap that counts as a leak."""


class Report(RecipeSection):
    """Diversity of the data (see `harness.augmentation.diversity`), on at most `max_texts` texts per group, and its
    perplexity under the policy. `embeddings`: the model that measures the spread of meaning
    (`harness.models.embedding`). `auto`: a small English one, if sentence-transformers is installed and the model is on
    this machine; None: the spread is not measured."""

    perplexity: bool = True
    """Whether the perplexity of the data under the policy is measured."""
    generator: OfEngine | None = None
    """Ask an engine for perplexities, `{name: openai, engine: NAME}`, instead of computing them in process."""
    embeddings: ModelReference | None = "auto"
    max_texts: int = Field(200, ge=2)
    """Texts of each group that are measured at most."""


class Data(RecipeSection):
    """The augmentation: seed pairs, new prompts, responses, and the reward model that ranks them. Without `responses`
    and `reward` nothing is augmented, and the ranked dataset consists of the seed pairs; with `ranked` instead of
    `seeds`, of responses that were ranked elsewhere.

    `system`: what becomes of the seed's system messages where a model's chat template takes none. `fold`: they are put
    in front of the user's turn that follows, for that model; `refuse`: an error."""

    seeds: list[SeedField] = Field(default_factory=list)
    """Sets of preference pairs, mixed; a prompt that two sets contain is taken from the first."""
    ranked: RankedField | None = None
    """Ranked responses made elsewhere: a file, or a component (`harness.recipe.making.ranked`)."""
    holdout: Holdout = 0.2
    """What no stage trains on: a share of the seed's prompts, or their number."""
    train_limit: int | None = Field(None, ge=1)
    """Use only the first so many training pairs; the held-out pairs stay the same."""
    decontaminate: Decontamination = Decontamination()
    """What becomes of prompts that also occur in the benchmarks."""
    system: Literal["fold", "refuse"] = "fold"
    prompts: PromptGeneration | None = None
    """New prompts that a generator writes; None: only the seed's."""
    generated_per_seed: float | None = Field(None, ge=0)
    """New prompts to use for each seed prompt: the first so many of `prompts`; 0: seed prompts only. None: all."""
    responses: ResponseGeneration | None = None
    """How responses to the prompts are sampled; None: the seed's own two answers are all."""
    reward: RewardField | None = None
    """The reward model that ranks a prompt's responses."""
    other_rewards: list[RewardField] = Field(default_factory=list)
    """Reward models that score the same responses for comparison only; training does not use their scores."""
    pairs: PairsField | None = None
    """Which of a prompt's responses are trained on; None: all."""
    report: Report | Literal[False] = Report()
    """How the data's diversity and perplexity are measured; `false`: they are not."""

    @property
    def new_prompts(self) -> PromptGeneration | None:
        """How new prompts are written, if any are used."""
        return None if self.generated_per_seed == 0 else self.prompts

    @property
    def sets(self) -> list[Seed]:
        """The seed sets, or the set of ranked responses."""
        return [self.ranked] if self.ranked else self.seeds

    @property
    def selection(self) -> Pairs:
        """Which responses are trained on."""
        return self.pairs or Pairs()

    @model_validator(mode="after")
    def _one_origin(self) -> "Data":
        if bool(self.seeds) == bool(self.ranked):
            raise ValueError("expected either `seeds` (preference pairs) or `ranked` (ranked responses made elsewhere)")
        made = [name for name in ("prompts", "responses", "reward", "other_rewards") if dict(self)[name]]
        if self.ranked and made:
            raise ValueError(f"`ranked` has its responses and scores already: leave out {' and '.join(made)}")
        return self

    @model_validator(mode="after")
    def _whole_or_none(self) -> "Data":
        alternative = "leave out prompts, responses and reward to train on the seed's own pairs"
        if self.responses is None and (self.reward is not None or self.prompts is not None):
            field, use = ("reward", "scores") if self.reward is not None else ("prompts", "are answered by")
            raise ValueError(f"`responses` is missing, and `{field}` {use} them: give it, or {alternative}")
        if self.responses is not None and self.reward is None:
            raise ValueError(f"`reward` is missing, and `responses` are ranked by it: give it, or {alternative}")
        if self.other_rewards and self.reward is None:
            raise ValueError(f"`other_rewards` are compared with `reward`, which is missing: give it, or {alternative}")
        return self

    @model_validator(mode="after")
    def _some_prompts(self) -> "Data":
        if self.responses is not None and self.prompts is None and not self.responses.seed_prompts:
            raise ValueError("no prompts to rank: give `prompts`, or set responses.seed_prompts to true")
        if self.generated_per_seed is not None and self.prompts is None:
            raise ValueError(
                "`generated_per_seed` is a share of `prompts`, which is missing: give it, or leave both out"
            )
        if self.generated_per_seed is not None and self.responses and not self.responses.seed_prompts:
            raise ValueError("`generated_per_seed` needs seed prompts: set responses.seed_prompts, or leave it out")
        return self
