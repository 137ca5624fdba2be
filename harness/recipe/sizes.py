"""Rough sizes of a recipe's data, for cost estimates before a run."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from harness.data.read import heldout_count
from harness.errors import DataError
from harness.files import is_offline
from harness.protocols import Seed
from harness.recipe.data import Data
from harness.recipe.making.rounds import Rounds
from harness.recipe.training import Training

CHARACTERS_PER_TOKEN = 4
"""A rule of thumb for English text."""


def seed_prompt_count(seed_prompts: bool | int, available: int) -> int:
    """The number of the seed's training prompts that are ranked: all, none, or the first so many."""
    return available * seed_prompts if isinstance(seed_prompts, bool) else min(seed_prompts, available)


class Longest(NamedTuple):
    """Tokens of the longest prompt and of the longest response, as they are cut."""

    prompt: int
    response: int


class Later(NamedTuple):
    """A round after the first."""

    rounds: Rounds
    number: int


class SeedSize(NamedTuple):
    """How large a seed set is: its pairs, and the mean characters of a prompt, its system message included, and of an
    answer."""

    pairs: int
    prompt: float
    answer: float


UNCUT = Training(max_prompt_length=2**16, max_length=2**17)


@dataclass(frozen=True)
class Sizes:
    """Rough counts of prompts, responses and tokens in `data`. Seed sets are read on first use. `later`: of a later
    round, which has no held-out prompts."""

    data: Data
    later: Later | None = None

    @cached_property
    def _seed_prompts(self) -> tuple[int, int]:
        """(ranked for training, held out)"""
        rows = self.seed_set.pairs
        heldout = heldout_count(self.data.holdout, rows)
        train = min(self.data.train_limit or rows, rows - heldout)
        ranked = seed_prompt_count(self.data.responses.seed_prompts if self.data.responses else True, train)
        return ranked, heldout

    @cached_property
    def seed_set(self) -> SeedSize:
        """All seed sets together; of those that can't be read without a network, what is known of them. Raises
        DataError if nothing is."""
        sizes = [_size_of(seed) for seed in self.data.sets]
        pairs = sum(size.pairs for size in sizes)
        means = (sum(size.pairs * size[i] for size in sizes) / max(1, pairs) for i in (1, 2))
        return SeedSize(pairs, *means)

    @property
    def seed_prompts(self) -> int:
        """The number of seed prompts that are ranked for training."""
        return self._seed_prompts[0]

    @property
    def heldout_prompts(self) -> int:
        """The number of seed prompts that are held out."""
        return 0 if self.later else self._seed_prompts[1]

    @property
    def new_prompts(self) -> int:
        """The number of new prompts that are ranked."""
        prompts, ratio = self.data.new_prompts, self.data.generated_per_seed
        if prompts is None or ratio is None:
            return prompts.count if prompts else 0
        return min(prompts.count, round(ratio * self.seed_prompts))

    @property
    def trained_prompts(self) -> int:
        """The number of prompts that are trained on, those of earlier rounds included."""
        own = self.seed_prompts + self.new_prompts
        return own + (self.later.rounds.replayed(self.later.number, own) if self.later else 0)

    def check_rounds(self, rounds: Rounds) -> None:
        """Raises DataError if there are fewer prompts than rounds with new ones need."""
        if rounds.prompts == "same":
            return
        rows = self.seed_set.pairs
        train = min(self.data.train_limit or rows, rows - self._seed_prompts[1])
        if (wanted := rounds.count * self.seed_prompts) > train:
            raise DataError(
                f"{rounds.count} rounds with {self.seed_prompts:,} new seed prompts each need {wanted:,}, and there "
                f"are {train:,} to train on: lower data.responses.seed_prompts, or use prompts: same"
            )
        prompts = self.data.new_prompts
        if prompts and (wanted := rounds.count * self.new_prompts) > prompts.count:
            raise DataError(
                f"{rounds.count} rounds with {self.new_prompts:,} of the new prompts each need {wanted:,}, and "
                f"data.prompts.count is {prompts.count:,}: raise it"
            )

    def check_share(self) -> None:
        """Raises DataError if fewer new prompts are written than are to be used for each seed prompt."""
        prompts, ratio = self.data.new_prompts, self.data.generated_per_seed
        if prompts and ratio and (wanted := round(ratio * self.seed_prompts)) > prompts.count:
            raise DataError(
                f"{ratio:g} for each of {self.seed_prompts:,} seed prompts are {wanted:,} new prompts, and "
                f"data.prompts.count is {prompts.count:,}: raise it"
            )

    @cached_property
    def responses_a_prompt(self) -> int:
        """N; if training uses the seed's own answers, 2, or the rounded mean of a file that ranks several."""
        if self.data.responses:
            return self.data.responses.n
        pairs = [pair for seed in self.data.sets if seed.quick for pair in seed.pairs()]
        return round(sum(len(pair.responses) or 2 for pair in pairs) / len(pairs)) if pairs else 2

    @property
    def trained_responses(self) -> int:
        """How many of a prompt's responses are trained on, at most."""
        return self.data.selection.most_responses(self.responses_a_prompt)

    @cached_property
    def pair_tokens(self) -> int:
        """Mean tokens of a seed prompt with one of its two answers."""
        return round((self.seed_set.prompt + self.seed_set.answer) / CHARACTERS_PER_TOKEN)

    @property
    def longest_response(self) -> int:
        """The largest number of tokens in a response."""
        return self.data.responses.max_new_tokens if self.data.responses else self.pair_tokens

    def longest(self, training: Training) -> Longest:
        """What the largest row of a training is made of."""
        try:
            pairs = [pair for seed in self.data.sets for pair in seed.pairs()]
        except DataError:
            if not is_offline():
                raise
            pairs = []
        limit = training.max_length - training.max_prompt_length
        if not pairs:
            written = self.data.responses.most_tokens if self.data.responses else limit
            return Longest(training.max_prompt_length, min(limit, written))
        prompts = max(sum(len(message.content) for message in pair.messages) for pair in pairs)
        prompt = min(training.max_prompt_length, prompts // CHARACTERS_PER_TOKEN + 1)
        texts = (text for p in pairs for text in [r.text for r in p.responses] or (p.chosen, p.rejected))
        answers = max(map(len, texts)) // CHARACTERS_PER_TOKEN + 1
        written = self.data.responses.most_tokens if self.data.responses else answers
        return Longest(prompt, max(1, min(training.max_length - prompt, written)))

    @property
    def longest_row(self) -> int:
        """Tokens of the longest prompt with one response, uncut."""
        longest = self.longest(UNCUT)
        return sum(longest)

    @property
    def prompt_tokens(self) -> int:
        """Mean tokens of a seed prompt."""
        return max(1, round(self.seed_set.prompt) // CHARACTERS_PER_TOKEN)

    @property
    def scored_tokens(self) -> int:
        """Tokens in all ranked responses, each with its prompt."""
        prompts = self.seed_prompts + self.heldout_prompts + self.new_prompts
        return prompts * self.responses_a_prompt * self.pair_tokens

    def response_tokens(self, training: Training) -> int:
        """Tokens in all responses used for training, without their prompts."""
        if self.data.responses is None:
            return round(self.seed_prompts * self.trained_responses * self.seed_set.answer) // CHARACTERS_PER_TOKEN
        return self.trained_prompts * self.trained_responses * min(training.max_length, self.longest_response)


def _size_of(seed: Seed) -> SeedSize:
    """A seed set's size: means over its first 500 pairs; without a network, what is published of it."""
    try:
        pairs = seed.pairs()
    except DataError:
        if not is_offline() or (published := seed.origin.size) is None:
            raise
        return SeedSize(*published)
    first = pairs[:500]
    prompts = sum(len(message.content) for pair in first for message in pair.messages)
    answers = sum(len(pair.chosen) + len(pair.rejected) for pair in first)
    return SeedSize(len(pairs), prompts / max(1, len(first)), answers / max(1, 2 * len(first)))
