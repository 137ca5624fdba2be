"""Rough sizes of a recipe's data, for cost estimates before a run."""

from dataclasses import dataclass
from functools import cached_property

from harness.data.read import heldout_count
from harness.recipe.data import Data
from harness.recipe.training import Training

CHARACTERS_PER_TOKEN = 4
"""A rule of thumb for English text."""


def seed_prompt_count(seed_prompts: bool | int, available: int) -> int:
    """The number of the seed's training prompts that are ranked: all, none, or the first so many."""
    return available * seed_prompts if isinstance(seed_prompts, bool) else min(seed_prompts, available)


@dataclass(frozen=True)
class Sizes:
    """Rough counts of prompts, responses and tokens in `data`. Seed sets are read on first use."""

    data: Data

    @cached_property
    def _seed_prompts(self) -> tuple[int, int]:
        """(ranked for training, held out)"""
        rows = sum(len(seed.pairs()) for seed in self.data.seeds)
        heldout = heldout_count(self.data.holdout, rows)
        train = min(self.data.train_limit or rows, rows - heldout)
        ranked = seed_prompt_count(self.data.responses.seed_prompts if self.data.responses else True, train)
        return ranked, heldout

    @property
    def seed_prompts(self) -> int:
        """The number of seed prompts that are ranked for training."""
        return self._seed_prompts[0]

    @property
    def heldout_prompts(self) -> int:
        """The number of seed prompts that are held out."""
        return self._seed_prompts[1]

    @property
    def new_prompts(self) -> int:
        """The number of prompts that the generator writes."""
        return self.data.prompts.count if self.data.prompts else 0

    @cached_property
    def responses_a_prompt(self) -> int:
        """N; if training uses the seed's own answers, 2, or the rounded mean of a file that ranks several."""
        if self.data.responses:
            return self.data.responses.n
        pairs = [pair for seed in self.data.seeds if seed.quick for pair in seed.pairs()]
        return round(sum(len(pair.responses) or 2 for pair in pairs) / len(pairs)) if pairs else 2

    @cached_property
    def pair_tokens(self) -> int:
        """Mean tokens of a seed prompt with one of its two answers, over the first 500 pairs of each seed set."""
        pairs = [pair for seed in self.data.seeds for pair in seed.pairs()[:500]]
        prompts = sum(len(message.content) for pair in pairs for message in pair.messages)
        answers = sum(len(pair.chosen) + len(pair.rejected) for pair in pairs)
        return round((prompts + answers / 2) / (CHARACTERS_PER_TOKEN * max(1, len(pairs))))

    @property
    def longest_response(self) -> int:
        """The largest number of tokens in a response."""
        return self.data.responses.max_new_tokens if self.data.responses else self.pair_tokens

    @property
    def scored_tokens(self) -> int:
        """Tokens in all ranked responses, each with its prompt."""
        prompts = self.seed_prompts + self.heldout_prompts + self.new_prompts
        return prompts * self.responses_a_prompt * self.pair_tokens

    def response_tokens(self, training: Training) -> int:
        """Tokens in all responses used for training, without their prompts."""
        if self.data.responses is None:
            pairs = [pair for seed in self.data.seeds for pair in seed.pairs()]
            characters = sum(len(pair.chosen) + len(pair.rejected) for pair in pairs)
            return self.seed_prompts * characters // (CHARACTERS_PER_TOKEN * len(pairs))
        prompts = self.seed_prompts + self.new_prompts
        return prompts * self.responses_a_prompt * min(training.max_length, self.longest_response)
