"""What crosses disk and seams: frozen records that refuse unknown fields.

Rows are joined by id, never by position; ids of prompts are derived from their content (`prompt_id`), so the same
prompt has the same id in every file, run and machine. "Not scored" is None, never 0 or -1.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Record(BaseModel):
    """A frozen row that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(Record):
    role: Literal["system", "user", "assistant"]
    content: str


Messages = tuple[Message, ...]
"""A conversation, oldest first. A prompt's messages end with a user turn."""

FinishReason = Literal["stop", "length"]
"""`stop`: the model ended its turn; `length`: it was cut at the token limit."""


def prompt_id(messages: Sequence[Message]) -> str:
    """A prompt's id: the first 16 hex digits of the SHA-256 of its roles and contents."""
    canonical = json.dumps([[m.role, m.content] for m in messages], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


class PreferencePair(Record):
    """A seed row: a prompt with a chosen and a rejected answer."""

    id: str
    messages: Messages
    chosen: str
    rejected: str
    source: str
    category: str | None = None


class Prompt(Record):
    """A prompt to sample responses for. `shots`: ids of the seed rows that the generator was shown."""

    id: str
    messages: Messages
    source: str
    category: str | None = None
    shots: tuple[str, ...] = ()


class Sampling(Record):
    """Decoding parameters. `temperature` 0 is greedy. `max_new_tokens` counts the end-of-turn token. A completion ends
    before the first of the `stop` texts that it would hold."""

    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_new_tokens: int = Field(256, ge=1)
    stop: tuple[str, ...] = ()


class Completion(Record):
    """One sampled text, without its end-of-turn token; `tokens` counts what was generated, that token included."""

    text: str
    finish_reason: FinishReason
    tokens: int


class Response(Record):
    """A response to a prompt. `source`: `seed:chosen`, `seed:rejected`, or the generator's name and model.
    `finish_reason` is None for a response that no generator of ours wrote. `score` None: not scored. `rank`: 1 for the
    best, equal scores share a number (1, 2, 2, 4); None before ranking, and where there is no score."""

    text: str
    source: str
    score: float | None = None
    rank: int | None = None
    finish_reason: FinishReason | None = None


class ResponseGroup(Record):
    """A prompt with its N responses, in the order of sampling. `source`: `generated`, or the seed set's name. `shots`:
    ids of the seed rows that the generator of the prompt was shown."""

    id: str
    messages: Messages
    responses: tuple[Response, ...]
    source: str
    split: Literal["train", "heldout"]
    category: str | None = None
    shots: tuple[str, ...] = ()


class RankedExample(ResponseGroup):
    """A prompt with its N scored responses, best first (ties keep the order of sampling), those without a score last.
    `provenance`: what made the row: `reward` (name of the reward model), and the keys of the stages `responses_key` and
    `reward_key`; for imported data, `imported_from`."""

    provenance: dict[str, str] = {}


class Question(Record):
    """A benchmark's question: the user's turns, asked one after the other with the answers in context. `sample`: which
    of several answers to the same turns it is for, each with a random stream of its own."""

    id: str
    turns: tuple[str, ...]
    category: str | None = None
    temperature: float = 0.0
    sample: int = 0


class Answer(Record):
    """A row's answer to one question: one text a turn. An answer from a file has no `finish_reasons`, and `tokens`
    None."""

    question_id: str
    turns: tuple[str, ...]
    finish_reasons: tuple[FinishReason, ...]
    tokens: int | None


class Candidates(Record):
    """Two answers to one prompt, in the order in which a judge's prompt shows them. The first of the request's two
    `choices` says that the first is better."""

    messages: Messages
    answers: tuple[str, str]


class JudgeRequest(Record):
    """What a judge is asked. `choices`: the replies that would be well-formed, where they are few: a judge that reads
    logits answers with their log-probabilities. `top_logprobs`: how many a served judge should return. `candidates`:
    what `messages` ask to compare, for judges that score answers rather than read a prompt. `top_p`: None leaves it
    out. `sample`: which of several replies to the same words, each asked for by itself."""

    messages: Messages
    max_tokens: int = 2048
    temperature: float = 0.0
    top_logprobs: int | None = None
    choices: tuple[str, ...] = ()
    candidates: Candidates | None = None
    top_p: float | None = None
    sample: int = 0


class JudgeReply(Record):
    """A judge's reply. `logprobs`: natural-log probabilities of whole choices (a logits judge) or of first tokens (a
    served judge). `price` in US dollars, None where unknown. `error` set: no reply was had; `text` is then empty, and
    `transient` says whether asking again later may help (a server that was down) or not (a prompt that is too long).
    `faults`: the calls for it that failed on the way and were made again, by kind (`HTTP 429`, `time-out`).
    `from_text`: its `logprobs` were made of its text."""

    text: str
    logprobs: dict[str, float] | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    price: float | None = None
    error: str | None = None
    transient: bool = False
    faults: tuple[str, ...] = ()
    from_text: bool = Field(False, exclude=True)


class Verdict(Record):
    """A judge's verdict on one answer, or one turn of it (counted from 1). `value` None: not scored, for the reason
    in `invalid`. `prompt` and `reply` are what was sent and what came back; `detail` is the benchmark's own."""

    question_id: str
    turn: int | None = None
    category: str | None = None
    value: float | None
    invalid: str | None = None
    prompt: str = ""
    reply: str = ""
    detail: dict[str, Any] = {}


class Metric(Record):
    """A figure with its uncertainty. `value` None: nothing could be scored. `stderr` and `ci95` are None where n is
    too small for them. `n` counts what was scored, `n_invalid` what should have been and was not. `resamples`: the
    figure in bootstrap resamples of the prompts, where it is no mean over them; it is not written with the figure."""

    value: float | None
    stderr: float | None = None
    ci95: tuple[float, float] | None = None
    n: int = 0
    n_invalid: int = 0
    resamples: tuple[float, ...] = Field((), exclude=True, repr=False)


class Spread(Record):
    """A figure over several trainings of one method. `sd`: their standard deviation (n - 1); None for fewer than two.
    `n` counts the trainings that have the figure, `n_invalid` those that should have and don't."""

    mean: float | None
    sd: float | None = None
    n: int = 0
    n_invalid: int = 0


class Checkpoint(Record):
    """A trained policy as an artifact holds it: `path` is the checkpoint's folder inside the artifact."""

    method: str
    path: str
    adapter: bool


Advance = Callable[[int], None]
"""Called with the number of items just finished, to move a progress bar."""

Ask = Callable[[Sequence[JudgeRequest]], list[JudgeReply]]
"""Asks the judge, journal first: one reply a request, in order; a failed one carries `error`."""

Unread = Callable[[JudgeReply], str | None]
"""Why a reply can't be read, in a few words; None where it can."""


def ask_readable(ask: Ask, requests: Sequence[JudgeRequest], why: Unread) -> list[JudgeReply]:
    """Ask for replies that can be read: an `Ask` that can (`harness.judging`) asks anew for those that can't."""
    readable = getattr(ask, "readable", None)
    return ask(requests) if readable is None else list(readable(requests, why))
