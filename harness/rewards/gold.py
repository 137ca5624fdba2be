"""A reward whose answer is known: constraints that can be verified, or a fixed scorer that counts as the truth."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from harness.components import RewardField, identity
from harness.outside import parse_json
from harness.protocols import Ready, RewardModel
from harness.types import Advance, Messages, PreferencePair

Text = Annotated[str, Field(min_length=1)]
Range = tuple[int, int]
"""The least and the largest number."""
_BULLET = re.compile(r"\s*(?:[-*•]|\d+[.)])\s+\S")
_SENTENCE = re.compile(r"[.!?。！？]+(?=\s|$)")


class Gold(RewardModel):
    """The known truth against which proxies of it are measured (2210.10760): the mean credit, 0 to 1, of constraints on
    the response's text, or the score of `reward`, another reward model that is taken for the truth.

    `keywords`: each as a whole word, in any case; the share of them. `without`: none of these texts; 1 / (1 + how often
    they occur). `format`: `bullets` (the share of lines that are list items), `json` (it parses), `lower_case` or
    `upper_case` (the share of letters), `one_paragraph` (1 / paragraphs). An empty response has the score 0. It reads
    no prompt.
    """

    words: Range | None = None
    """The fewest and the most words; the credit falls with the ratio to the nearer bound."""
    sentences: Range | None = None
    """The fewest and the most sentences, as for `words`."""
    keywords: tuple[Text, ...] = ()
    without: tuple[Text, ...] = ()
    begins: Text | None = None
    """What the response begins with, white space aside."""
    ends: Text | None = None
    """What the response ends in, white space aside."""
    format: Literal["bullets", "json", "lower_case", "upper_case", "one_paragraph"] | None = None
    strict: bool = False
    """Whether a constraint that is not wholly met has no credit."""
    reward: RewardField | None = None
    """Another reward model, which is taken for the truth, instead of constraints."""

    @field_validator("words", "sentences")
    @classmethod
    def _in_order(cls, value: Range | None) -> Range | None:
        if value is not None and not 0 <= value[0] <= value[1]:
            raise ValueError("expected [the least, the largest number], from 0 up")
        return value

    @model_validator(mode="after")
    def _one_truth(self) -> "Gold":
        constrained = any(v not in (None, (), False) for k, v in self if k not in ("name", "reward", "strict"))
        if constrained == (self.reward is not None):
            raise ValueError("expected either constraints, such as words: [20, 80], or a reward")
        return self

    @property
    def groupwise(self) -> bool:
        return self.reward is not None and self.reward.groupwise

    @property
    def parts(self) -> tuple[RewardModel, ...]:
        """The reward model that is taken for the truth, if one is."""
        return () if self.reward is None else (self.reward,)

    @property
    def rule(self) -> str | None:
        """`5 to 25 words, 1 sentence`; of a reward that is taken for the truth, that one's."""
        if self.reward is not None:
            return self.reward.rule
        parts = [_counted(self.words, "word"), _counted(self.sentences, "sentence")]
        parts += [f"the words {', '.join(map(repr, self.keywords))}" if self.keywords else ""]
        parts += [f"without {', '.join(map(repr, self.without))}" if self.without else ""]
        parts += [f"begins with {self.begins!r}" if self.begins else ""]
        parts += [f"ends with {self.ends!r}" if self.ends else ""]
        parts += [(self.format or "").replace("_", " "), "all or nothing each" if self.strict else ""]
        return ", ".join(filter(None, parts))

    def identity(self) -> dict[str, Any]:
        given = self.model_dump(mode="json", exclude={"reward"}, exclude_defaults=True) | {"name": self.name}
        return given if self.reward is None else {**given, "reward": identity(self.reward)}

    def fit(self, pairs: Sequence[PreferencePair], folder: Path, *, seed: int, advance: Advance) -> dict[str, Any]:
        """Nothing to train."""
        return {}

    def score(self, rows: Sequence[tuple[Messages, str]], ready: Ready) -> list[float | None]:
        if self.reward is not None:
            return ready.parts[0](rows)
        ready.advance(len(rows))
        return [self._score(text) for _, text in rows]

    def _score(self, text: str) -> float:
        if not text.strip():
            return 0.0
        credits = list(self._credits(text))
        return sum(float(credit == 1) if self.strict else credit for credit in credits) / len(credits)

    def _credits(self, text: str) -> "list[float]":
        """Of each constraint, 0 to 1."""
        credits = []
        lower, bare = text.casefold(), text.strip()
        if self.words:
            credits.append(_within(len(text.split()), self.words))
        if self.sentences:
            credits.append(_within(max(1, len(_SENTENCE.findall(bare))), self.sentences))
        if self.keywords:
            found = [re.search(rf"(?<!\w){re.escape(word.casefold())}(?!\w)", lower) for word in self.keywords]
            credits.append(sum(hit is not None for hit in found) / len(found))
        if self.without:
            credits.append(1 / (1 + sum(lower.count(part.casefold()) for part in self.without)))
        if self.begins:
            credits.append(float(bare.startswith(self.begins)))
        if self.ends:
            credits.append(float(bare.endswith(self.ends)))
        if self.format:
            credits.append(_has_format(bare, self.format))
        return credits


def _counted(bounds: Range | None, what: str) -> str:
    if bounds is None:
        return ""
    low, high = bounds
    return f"{low if low == high else f'{low} to {high}'} {what}{'' if high == 1 else 's'}"


def _within(count: int, bounds: Range) -> float:
    low, high = bounds
    return count / low if count < low else high / count if count > high else 1.0


def _has_format(text: str, form: str) -> float:
    lines = [line for line in text.splitlines() if line.strip()]
    if form == "bullets":
        return sum(_BULLET.match(line) is not None for line in lines) / len(lines)
    if form == "one_paragraph":
        return 1 / len(re.split(r"\n\s*\n", text))
    if form == "json":
        try:
            parse_json(text)
        except ValueError:
            return 0.0
        return 1.0
    letters = [c for c in text if c.islower() or c.isupper()]
    fitting = [c for c in letters if (c.islower() if form == "lower_case" else c.isupper())]
    return len(fitting) / len(letters) if letters else 0.0
