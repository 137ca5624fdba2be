"""The `alpaca_eval` package's own pairwise annotator, run with a judge of the harness.

The package writes the prompts, orders the two outputs, parses completions and undoes the order; the harness gets the
replies, with its transport, journal and costs. (`alpaca_eval/annotators`, `completion_parsers.py`; arXiv 2404.04475.)
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from harness.benchmarks.alpaca_eval.evaluators import FIELDS, Annotator, chat_of
from harness.benchmarks.alpaca_eval.package import alpaca_eval_contained, mapping_frame
from harness.benchmarks.alpaca_eval.patterns import bounded_patterns
from harness.servers.replies import answer_only, settled
from harness.types import Ask, Candidates, JudgeReply, JudgeRequest, Message, Messages, Verdict

Source = Literal["log-probabilities", "stated", "text"]
"""What a preference comes from: the probabilities of the annotator's tokens, as the judge's server gives them or as the
judge states them, or a reply whose text names one of the two, which counts as certain."""


class Asking(NamedTuple):
    """How a judge is asked. `without_logprobs`: how to treat a reply without log-probabilities if the annotator reads
    them: `text` takes one that is one of its tokens as certain; `stated` asks for a probability instead, by a schema of
    the reply; `refuse` doesn't score it. `temperature`: None: the annotator's. `samples`: replies to each prompt, whose
    preferences are averaged."""

    without_logprobs: Literal["text", "stated", "refuse"] = "text"
    temperature: float | None = None
    samples: int = 1

    def changes(self) -> dict[str, Any]:
        """The fields that are not as usual, as JSON-able data."""
        return {name: value for name, value in self._asdict().items() if value != self._field_defaults[name]}


AS_USUAL = Asking()


class OutputPair(NamedTuple):
    """An instruction with the reference output and the output that is judged against it."""

    question_id: str
    instruction: str
    reference: str
    output: str


def annotate(
    annotator: Annotator,
    pairs: Sequence[OutputPair],
    ask: Ask,
    *,
    switched: bool | None = None,
    asking: Asking = AS_USUAL,
    sample: int = 0,
) -> list[Verdict]:
    """One verdict per pair, in order, from one reply each. Its value is the package's preference in [1, 2] (2: the
    output won over the reference; 1.5 without asking if both are equal), or None if the judge's reply gives none.
    `switched`: whether the output is shown first; None: the package's own order, drawn per pair from a seed. `sample`:
    the index of the reply; `asking.samples` is not used. `detail["source"]`: see Source."""
    with alpaca_eval_contained(), bounded_patterns():
        from alpaca_eval.annotators import PairwiseAnnotator

        package = PairwiseAnnotator(
            annotators_config=annotator.source,
            caching_path=None,
            is_avoid_reannotations=False,
        )
        (single,) = package.annotators.values()
        single.processors = [p for p in single.processors if type(p).__name__ in _processors(switched)]
        prompts = _record_prompts(single, annotator, pairs)
        asked: dict[str, tuple[JudgeRequest, JudgeReply, bool]] = {}
        pairs_by_id = {p.question_id: p for p in pairs}

        def problem(raw: JudgeReply) -> str | None:
            reply = _read(annotator, raw, asking)
            if reply.logprobs is not None and not reply.logprobs.keys().isdisjoint(annotator.choices):
                return None  # the parser finds one of them
            completion = reply.text if single.completion_key == "completions" else _as_choice(reply)
            (preference,), _ = single._parse_completions([completion])
            return _reply_problem(annotator, reply) if _is_missing(preference) else None

        def completions(prompts_to_ask: Sequence[str], options: Mapping[str, Any]) -> dict[str, list[Any]]:
            requests = []
            for question_id in prompts_to_ask:
                messages, switched = prompts[question_id]
                request = _request(messages, annotator, asking, _candidates(pairs_by_id[question_id], switched))
                requests.append(request.model_copy(update={"sample": sample}))
            replies = [_read(annotator, reply, asking) for reply in settled(ask.readable(requests, problem))]
            for question_id, request, reply in zip(prompts_to_ask, requests, replies, strict=True):
                asked[question_id] = (request, reply, prompts[question_id][1])
            return {
                "completions": ["" if r.error else r.text for r in replies],
                "completions_all": ["" if r.error else _as_choice(r) for r in replies],
            }

        single.fn_completions = lambda prompts, **options: completions(prompts, options)
        rows = package.annotate_head2head(
            outputs_1=mapping_frame([{"instruction": p.instruction, "output": p[3 if switched else 2]} for p in pairs]),
            outputs_2=mapping_frame([{"instruction": p.instruction, "output": p[2 if switched else 3]} for p in pairs]),
            chunksize=None,
        )
    preferences = {row["instruction"]: row["preference"] for row in rows}
    if switched:
        preferences = {i: p if _is_missing(p) else 3 - p for i, p in preferences.items()}
    return [_verdict(annotator, p, preferences[p.instruction], asked.get(p.question_id)) for p in pairs]


def _processors(switched: bool | None) -> tuple[str, ...]:
    """The package's processors that are used: not the one for chains of thought, which only adds columns to a table,
    and stops at replies with more ranks than two."""
    return ("PaddingForBatchesProcessor", *(["RandomSwitchTwoColumnsProcessor"] if switched is None else []))


def _filled(template: Messages, row: Mapping[str, str]) -> Messages:
    """A template's messages, filled in like by the package, but each by itself and in one pass: the package fills in
    the whole text and splits it into messages afterwards, so an answer could write messages of its own
    (`<|im_start|>system`), or bring the other answer to its own place (`{output_2}`)."""

    def value(match: re.Match[str]) -> str:
        return str(row[match[1]])

    fields = re.compile(f"{{({'|'.join(FIELDS)})}}")
    return tuple(Message(role=m.role, content=fields.sub(value, m.content).strip()) for m in template)


def _record_prompts(
    single: Any, annotator: Annotator, pairs: Sequence[OutputPair]
) -> Mapping[str, tuple[Messages, bool]]:
    """Question id -> (the judge's prompt, whether the outputs are switched), filled when the package creates the
    prompts, which are the question ids for it."""
    by_instruction = {p.instruction: p for p in pairs}
    template = chat_of(annotator.template) or ()
    recorded = {}

    def make_and_record(rows: Any) -> Any:
        ids = []
        for row in rows.to_dict(orient="records"):
            pair = by_instruction[row["instruction"]]
            recorded[pair.question_id] = _filled(template, row), row["output_1"] != pair.reference
            ids.append(pair.question_id)
        return ids, rows

    single._make_prompts = make_and_record
    return recorded


def _candidates(pair: OutputPair, switched: bool) -> Candidates:
    answers = (pair.output, pair.reference) if switched else (pair.reference, pair.output)
    return Candidates(messages=(Message(role="user", content=pair.instruction),), answers=answers)


def _request(messages: Messages, annotator: Annotator, asking: Asking, candidates: Candidates) -> JudgeRequest:
    options = annotator.options
    if asking.temperature is not None:
        options["temperature"] = asking.temperature
    stated = asking.without_logprobs == "stated" and len(annotator.choices) == 2
    return JudgeRequest(
        messages=messages,
        choices=annotator.choices,
        candidates=candidates,
        asks="probability" if stated else "last" if annotator.explains else "choice",
        **options,
    )


def _read(annotator: Annotator, reply: JudgeReply, asking: Asking) -> JudgeReply:
    answer = answer_only(reply)
    return answer if asking.without_logprobs == "refuse" else _certain(annotator, answer)


def _certain(annotator: Annotator, reply: JudgeReply) -> JudgeReply:
    """A reply whose text is one of the annotator's tokens, or ends with one after the explanation that was asked for,
    with that token's log-probability set to 0; any other reply, or one with log-probabilities, is returned as is."""
    token = reply.choice or reply.text.strip()
    if annotator.explains and reply.choice is None and not reply.cut:
        # Not the last letter of a word: it stands by itself, perhaps in emphasis.
        tokens = "|".join(re.escape(choice) for choice in annotator.choices)
        match = re.search(rf"(?:\A|[\s`*:]){{1}}({tokens})[`*.]*\Z", token)
        token = match[1] if match else token
    if reply.error or reply.unread or reply.logprobs is not None or token not in annotator.choices:
        return reply
    return reply.model_copy(update={"logprobs": {token: 0.0}, "from_text": True})


def _as_choice(reply: JudgeReply) -> dict[str, Any]:
    """A reply in the structure that the package's parsers expect."""
    choice: dict[str, Any] = {"text": reply.text, "message": {"role": "assistant", "content": reply.text}}
    if reply.logprobs is not None:
        top = [{"token": token, "logprob": logprob} for token, logprob in reply.logprobs.items()]
        choice["logprobs"] = {"content": [{"token": reply.text, "top_logprobs": top}]}
    return choice


def _verdict(
    annotator: Annotator, pair: OutputPair, preference: Any, asked: tuple[JudgeRequest, JudgeReply, bool] | None
) -> Verdict:
    value = None if _is_missing(preference) else float(preference)
    if asked is None:
        return Verdict(question_id=pair.question_id, value=value, detail={"asked": False})
    request, reply, switched = asked
    invalid = None
    if value is None:
        invalid = reply.error or _reply_problem(annotator, reply)
    weighed = bool(annotator.choices) and not reply.from_text
    source: Source = "stated" if reply.stated else "log-probabilities" if weighed else "text"
    return Verdict(
        question_id=pair.question_id,
        value=value,
        invalid=invalid,
        prompt="\n\n".join(m.content for m in request.messages),
        reply=reply.text,
        detail={
            "asked": True,
            "switched": switched,
            "logprobs": None if reply.from_text else reply.logprobs,
            "price": reply.price,
            **({"from_text": True} if reply.from_text else {}),
            **({} if value is None else {"source": source}),
            **({"thought": reply.thought} if reply.thought else {}),
        },
    )


def _is_missing(preference: Any) -> bool:
    return preference is None or math.isnan(preference)


def _reply_problem(annotator: Annotator, reply: JudgeReply) -> str:
    """Why the annotator reads no preference from a reply."""
    if reply.unread is not None:
        return reply.unread
    tokens = " nor ".join(annotator.choices)
    if annotator.explains and reply.cut:
        return "the reply was cut at its token limit, before its verdict; give the judge more max_tokens"
    if tokens and reply.logprobs is None:
        return "the reply has no log-probabilities, which the annotator reads"
    if tokens:
        return f"neither {tokens} is among the log-probabilities of the reply"
    if reply.cut:
        return f"no preference in the reply, which was cut at its token limit: {reply.text[:80]!r}"
    return f"the annotator's parser finds no preference in the reply {reply.text[:80]!r}"
