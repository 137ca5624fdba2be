"""The recipe's `data`: seed sets, new prompts, responses, and the reward model that ranks them."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from harness.components import GeneratorField, ModelReference, RewardField, SeedField
from harness.leaks import THRESHOLD
from harness.pairs_file import Holdout
from harness.prompt_template import DEFAULT, PromptTemplate
from harness.prompting import ShotSampling
from harness.recipe_training import Section


class PromptGeneration(Section):
    """New prompts: the generator is shown `shots` seed prompts and writes one more like them. `template`: `chat` for
    instruct models, `text` for base models, or a file of the user's (see `harness.prompt_template`)."""

    generator: GeneratorField
    count: int = Field(ge=1)
    template: PromptTemplate = Field(DEFAULT, validate_default=True)
    shots: int = Field(6, ge=1, le=32)
    shot_sampling: ShotSampling = "uniform"
    temperature: float = Field(0.7, gt=0)
    top_p: float = Field(0.95, gt=0, le=1)
    max_new_tokens: int = Field(64, ge=4)
    min_words: int = Field(3, ge=1)
    max_words: int = Field(400, ge=1)
    languages: list[str] | None = None
    """Languages (ISO 639-1) that a new prompt may be in; None: those of the seed's prompts."""
    max_similarity: float = Field(0.7, gt=0, le=1)
    """A new prompt is dropped whose words and word pairs are more like those of a seed or accepted prompt (Jaccard)."""
    max_attempts: int = Field(8, ge=1)
    """Rounds of generation before the stage gives up short of `count`."""


class Source(Section):
    """One of several generators, and how many of a prompt's responses it writes."""

    generator: GeneratorField
    n: int = Field(ge=1, le=64)


class ResponseGeneration(Section):
    """N responses a prompt, by one `generator` or by several `sources`, whose numbers add up to N. With `seed_prompts`
    (true: all of them; a number: the first so many), the seed's training prompts are ranked too. With `seed_responses`
    their chosen and rejected answers stand among the N, and of what the sources would write the last two are left out:
    the rest is sampled."""

    generator: GeneratorField | None = None
    sources: list[Source] = Field(default_factory=list)
    n: int = Field(4, ge=2, le=64)
    temperature: float = Field(0.9, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_new_tokens: int = Field(256, ge=1)
    seed_prompts: bool | Annotated[int, Field(ge=1)] = True
    seed_responses: bool = True

    @model_validator(mode="before")
    @classmethod
    def _n_of_the_sources(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("sources") and "n" not in given:
            counts = [s.get("n") for s in given["sources"] if isinstance(s, dict)]
            if all(isinstance(n, int) for n in counts):
                return {**given, "n": sum(counts)}
        return given

    @model_validator(mode="after")
    def _one_or_several(self) -> "ResponseGeneration":
        if (self.generator is None) == (not self.sources):
            raise ValueError("give either `generator` or `sources`, and not both or none")
        if self.sources and sum(s.n for s in self.sources) != self.n:
            raise ValueError(f"the sources write {sum(s.n for s in self.sources)} responses, and n is {self.n}")
        return self

    def sources_of(self, missing: int) -> list[Source]:
        """Who writes the responses that are missing of the N: the sources in order, the last ones fewer or none."""
        if self.generator is not None:
            return [Source.model_construct(generator=self.generator, n=missing)]
        shares = []
        for source in self.sources:
            shares.append(Source.model_construct(generator=source.generator, n=min(source.n, missing)))
            missing -= shares[-1].n
        return [share for share in shares if share.n]


class Decontamination(Section):
    """Prompts that are also an evaluation set's, perhaps edited (see `harness.leaks`). The sets are the whole ones of
    the recipe's benchmarks. `action`: `drop` them, of the seed's and of the new prompts, or `keep` the seed's; they are
    counted either way."""

    action: Literal["drop", "keep"] = "drop"
    threshold: float = Field(THRESHOLD, gt=0, le=1)


class Report(Section):
    """How varied the data is, side by side (see `harness.diversity`): of `max_texts` a group at most, with perplexities
    under the policy. `embeddings`: the model that the spread in meaning is measured by (`harness.embedding`); `auto`: a
    small English one, where sentence-transformers is installed and that model is on this machine; None: none."""

    perplexity: bool = True
    embeddings: ModelReference | None = "auto"
    max_texts: int = Field(200, ge=2)


class Data(Section):
    """The augmentation: seed pairs, new prompts, responses, and the reward model that ranks them. Without `responses`
    and `reward` there is none: the ranked dataset is the seed's own pairs."""

    seeds: list[SeedField] = Field(min_length=1)
    holdout: Holdout = 0.2
    train_limit: int | None = Field(None, ge=1)
    """Of the seed's pairs that are not held out, the first so many are kept; what is held out stays the same."""
    decontaminate: Decontamination = Decontamination()
    prompts: PromptGeneration | None = None
    responses: ResponseGeneration | None = None
    reward: RewardField | None = None
    other_rewards: list[RewardField] = Field(default_factory=list)
    """Reward models that score the same responses for comparison only: nothing is trained on their scores."""
    report: Report | Literal[False] = Report()

    @model_validator(mode="after")
    def _whole_or_none(self) -> "Data":
        own = "leave out prompts, responses and reward to train on the seed's own pairs"
        if self.responses is None and (self.reward is not None or self.prompts is not None):
            given = "reward" if self.reward is not None else "prompts"
            why = "scores them" if given == "reward" else "are answered by them"
            raise ValueError(f"`responses` is missing, and `{given}` {why}: give it, or {own}")
        if self.responses is not None and self.reward is None:
            raise ValueError(f"`reward` is missing, and `responses` are ranked by it: give it, or {own}")
        if self.other_rewards and self.reward is None:
            raise ValueError(f"`other_rewards` are compared with `reward`, which is missing: give it, or {own}")
        return self

    @model_validator(mode="after")
    def _some_prompts(self) -> "Data":
        if self.responses is not None and self.prompts is None and not self.responses.seed_prompts:
            raise ValueError("no prompts to rank: give `prompts`, or set responses.seed_prompts to true")
        return self
