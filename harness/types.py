"""Data types that are written to disk or passed between packages: frozen records that reject unknown fields.

Rows are joined by id, never by position. A prompt's id is derived from its content (`prompt_id`), so the same prompt
has the same id in every file and run and on every machine. "Not scored" is None, never 0 or -1.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.settings import Settings


class Record(BaseModel):
    """A frozen row that rejects unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RecipeSection(Settings):
    """A section of the recipe."""


class Message(Record):
    role: Literal["system", "user", "assistant"]
    content: str


Messages = tuple[Message, ...]
"""A conversation, oldest first. A prompt's messages end with a user turn."""

MOST_TOKENS, LARGEST_LOGPROB = 10**15, 0.1  # exact as floats; rounding in half precision exceeds 0
FinishReason = Literal["stop", "length"]
"""`stop`: the model ended its turn; `length`: it reached the token limit."""


def prompt_id(messages: Sequence[Message]) -> str:
    """A prompt's id: the first 16 hex digits of the SHA-256 of its roles and contents."""
    canonical = json.dumps([[m.role, m.content] for m in messages], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


class Prompt(Record):
    """A prompt to sample responses for. `shots`: ids of the seed rows shown to the generator as examples."""

    id: str
    messages: Messages
    source: str
    category: str | None = None
    shots: tuple[str, ...] = ()


class Sampling(Record):
    """Decoding parameters. `temperature` 0 is greedy decoding. `max_new_tokens` includes the end-of-turn token. A
    completion ends before the first occurrence of any of the `stop` texts. `max_thinking_tokens`: those of a thought
    before the answer, which then don't count among `max_new_tokens`; None: they do."""

    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_new_tokens: int = Field(256, ge=1)
    stop: tuple[str, ...] = ()
    max_thinking_tokens: int | None = Field(None, ge=0, exclude_if=lambda value: value is None)  # keys stay valid

    @property
    def most_tokens(self) -> int:
        """Tokens of the longest completion."""
        return self.max_new_tokens + (self.max_thinking_tokens or 0)


class Completion(Record):
    """A sampled text, without its end-of-turn token, which `tokens` counts. `model`, `fingerprint`: see JudgeReply.
    `opened`: the prompt had opened a thought, in which the text begins. `closed`: a thought was closed at its budget,
    by markers that are in the text."""

    text: str
    finish_reason: FinishReason
    tokens: int = Field(ge=0, le=MOST_TOKENS)
    model: str | None = None
    fingerprint: str | None = None
    opened: bool = False
    closed: bool = False


class Response(Record):
    """A response to a prompt. `source`: `seed:chosen`, `seed:rejected`, or the generator's name and model.
    `finish_reason` is None for a response that was not sampled by the harness. `score` None: not scored. `rank`: 1 for
    the best, ties share a rank (1, 2, 2, 4); None before ranking and for unscored responses."""

    text: str
    source: str
    score: float | None = None
    rank: int | None = None
    finish_reason: FinishReason | None = None


class PreferencePair(Record):
    """A seed row. `responses`: if it ranks several answers, all of them, from `chosen` down to `rejected`."""

    id: str
    messages: Messages
    chosen: str
    rejected: str
    source: str
    category: str | None = None
    responses: tuple[Response, ...] = ()


class ResponseGroup(Record):
    """A prompt with its N responses, in sampling order. `source`: `generated`, or the seed set's name. `shots`: ids of
    the seed rows shown to the prompt's generator as examples."""

    id: str
    messages: Messages
    responses: tuple[Response, ...]
    source: str
    split: Literal["train", "heldout"]
    category: str | None = None
    shots: tuple[str, ...] = ()


class RankedExample(ResponseGroup):
    """A prompt with its N scored responses, best first (ties keep sampling order), unscored ones last. `provenance`:
    `reward` (the reward model's name) and the stage keys `responses_key` and `reward_key`; for imported data,
    `imported_from`."""

    provenance: dict[str, str] = {}


class Question(Record):
    """A benchmark's question: the user's turns, asked in sequence with the answers in context. `sample`: the index of
    the answer where a question is answered several times; each has its own random stream. `history`: messages before
    the first turn. `plain`: the turn is a text that the model continues, without its chat template. `stop`: as in
    Sampling. `max_new_tokens`: of an answer; None: as the recipe says. `scored`: nothing is written; the answer is the
    log-likelihoods of these (context, continuation), a context being a conversation or a text as it is."""

    id: str
    turns: tuple[str, ...]
    category: str | None = None
    temperature: float = 0.0
    sample: int = 0
    history: Messages = ()
    plain: bool = False
    stop: tuple[str, ...] = ()
    max_new_tokens: int | None = None
    scored: tuple[tuple[Messages | str, str], ...] = ()


class Answer(Record):
    """A row's answer to one question: one text per turn. An answer read from a file has no `finish_reasons`, and its
    `tokens` is None. `likelihoods`: (log-likelihood, whether greedy decoding would have written it) of each of the
    question's continuations; where it has some, there are no texts."""

    question_id: str
    turns: tuple[str, ...]
    finish_reasons: tuple[FinishReason, ...]
    tokens: int | None
    likelihoods: tuple[tuple[float, bool], ...] = Field((), exclude_if=lambda value: not value)


class Candidates(Record):
    """Two answers to `messages`, in the order shown to the judge. The first of the request's `choices` means that the
    first is better; a third, neither. `second_messages`: the second's, where conversations before them differ."""

    messages: Messages
    answers: tuple[str, str]
    second_messages: Messages | None = Field(None, exclude_if=lambda value: value is None)


class JudgeRequest(Record):
    """A request to a judge. `choices`: the well-formed replies, if there are only a few: a judge that reads logits
    returns their log-probabilities. `top_logprobs`: how many a served judge should return. `candidates`: the answers
    that `messages` ask to compare, for judges that score answers instead of reading a prompt. `top_p`: None omits it.
    `sample`: the index of the reply where the same prompt is sent several times. `asks`: what the prompt asks for where
    there are choices: one of them (`choice`), a text that ends with one (`last`), or one, whose probability a judge
    that gives no log-probabilities is to state (`probability`). `function`: JSON with the `tools` and `tool_choice` of
    a function whose arguments are the reply; None: there is none."""

    messages: Messages
    max_tokens: int = 2048
    temperature: float = 0.0
    top_logprobs: int | None = None
    choices: tuple[str, ...] = ()
    candidates: Candidates | None = None
    top_p: float | None = None
    sample: int = 0
    asks: Literal["choice", "last", "probability"] = "choice"
    function: str | None = None


class JudgeReply(Record):
    """A judge's reply. `text`: what follows its last thought. `logprobs`: natural-log probabilities of whole choices (a
    logits judge) or of first tokens (a served judge); `stated`: those that the judge itself has stated; `from_text`:
    derived from the text. `price` in US dollars, None if unknown. `error` set: there was no reply, and `text` is empty;
    `transient`: a later retry may help. `faults`: kinds (`HTTP 429`) of failed calls that were retried. `model`,
    `fingerprint`: those that a server says have answered. `thought`: characters of thoughts, which are left out of
    `text`. `cut`: it reached the token limit. `unread`: why it has no answer, if its sender knows. `choice`: the one
    of the request's that a reply in JSON names. `adapted`: how the request was changed for the server (`without
    temperature`)."""

    text: str
    logprobs: dict[str, Annotated[float, Field(le=LARGEST_LOGPROB, allow_inf_nan=False)]] | None = None
    prompt_tokens: int = Field(0, ge=0, le=MOST_TOKENS)
    completion_tokens: int = Field(0, ge=0, le=MOST_TOKENS)
    price: float | None = Field(None, allow_inf_nan=False)
    error: str | None = None
    transient: bool = False
    faults: tuple[str, ...] = ()
    from_text: bool = Field(False, exclude=True)
    model: str | None = None
    fingerprint: str | None = None
    thought: int = Field(0, ge=0)
    cut: bool = False
    unread: str | None = None
    choice: str | None = None
    stated: bool = False
    adapted: tuple[str, ...] = ()


class Verdict(Record):
    """A judge's verdict on one answer, or on one turn of it (counted from 1). `value` None: not scored, for the reason
    in `invalid`. `prompt` and `reply`: the texts sent to and received from the judge. `detail` is defined by the
    benchmark."""

    question_id: str
    turn: int | None = None
    category: str | None = None
    value: float | None
    invalid: str | None = None
    prompt: str = ""
    reply: str = ""
    detail: dict[str, Any] = {}

    @property
    def key(self) -> str:
        """Its name in outcomes: the question's id, followed by `/turn` if it has turns."""
        return self.question_id if self.turn is None else f"{self.question_id}/{self.turn}"


class Metric(Record):
    """A figure with its uncertainty. `value` None: nothing could be scored. `stderr` and `ci95` are None if n is too
    small. `n`: how many items were scored; `n_invalid`: how many should have been but were not. `resamples`: the
    figure in bootstrap resamples of the prompts, if it is not a mean over them; excluded from serialisation."""

    value: float | None
    stderr: float | None = None
    ci95: tuple[float, float] | None = None
    n: int = 0
    n_invalid: int = 0
    resamples: tuple[float, ...] = Field((), exclude=True, repr=False)


class Price(RecipeSection):
    """US dollars per million tokens. `batch_input`: for a million tokens in, in a batch (`mode: batch`); None: not
    known. `batch_output`: the same for tokens out."""

    input: float = Field(ge=0)
    """Dollars for a million tokens in."""
    output: float = Field(ge=0)
    """Dollars for a million tokens out."""
    batch_input: float | None = Field(None, ge=0)
    batch_output: float | None = Field(None, ge=0)

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """US dollars for so many tokens."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1e6

    def in_batch(self) -> "Price":
        """The price of a call in a batch; the usual one, which is an upper bound, where it isn't known."""
        if self.batch_input is None or self.batch_output is None:
            return Price(input=self.input, output=self.output)
        return Price(input=self.batch_input, output=self.batch_output)


FREE = Price(input=0, output=0)
"""The price of an in-process judge."""


Advance = Callable[[int], None]
"""Called with the number of items just finished, to advance a progress bar."""

Unread = Callable[[JudgeReply], str | None]
"""Returns a short reason why a reply can't be parsed; None if it can."""


class Ask:
    """Sends requests to a judge. `reply` returns one reply per request, in order; a failed one has its `error` set."""

    def __init__(self, reply: Callable[[Sequence[JudgeRequest]], list[JudgeReply]]) -> None:
        self._reply = reply

    def __call__(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        """One reply per request, in order."""
        return self._reply(requests)

    def readable(self, requests: Sequence[JudgeRequest], why: Unread) -> list[JudgeReply]:
        """Like a call, but a subclass may retry replies that can't be parsed, for the reason returned by `why`."""
        return self(requests)
