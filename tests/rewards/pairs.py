"""Pairs that any reward model can learn: the last word of an answer says whether it is a good one."""

import random

from harness.types import Message, PreferencePair, prompt_id

WORDS = ["water", "list", "explain", "paper", "green", "the", "a", "of", "and", "tea", "river"]


def pairs(count: int, seed: int) -> list[PreferencePair]:
    """The chosen answer ends in 'good', the rejected one in 'poor'; lengths say nothing."""
    rng = random.Random(seed)

    def words(n: int) -> str:
        return " ".join(rng.choice(WORDS) for _ in range(n))

    made = []
    for i in range(count):
        messages = (Message(role="user", content=f"{i} {words(4)}?"),)
        made.append(
            PreferencePair(
                id=prompt_id(messages),
                messages=messages,
                chosen=f"{words(rng.randint(1, 9))} good",
                rejected=f"{words(rng.randint(1, 9))} poor",
                source="test",
            )
        )
    return made
