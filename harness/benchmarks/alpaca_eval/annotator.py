"""The `alpaca_eval` package's own pairwise annotator, run with a judge of the harness.

The package writes the prompts, orders the two outputs, parses completions and undoes the order; the harness gets the
replies, with its transport, journal and costs. (`alpaca_eval/annotators`, `completion_parsers.py`; arXiv 2404.04475.)
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from harness.benchmarks.alpaca_eval.package import alpaca_eval_contained, mapping_frame, package_folder
from harness.benchmarks.alpaca_eval.patterns import bounded_patterns
from harness.errors import RecipeError, nearest, quoted
from harness.outside import LARGEST_SETTINGS, read_text, reason_of
from harness.outside_yaml import parse_yaml
from harness.types import Ask, Candidates, JudgeReply, JudgeRequest, Message, Messages, Verdict

CARRIED_OPTIONS = frozenset({"model_name", "max_tokens", "temperature", "logprobs", "top_logprobs", "requires_chatml"})
"""The parts of an annotator's `completions_kwargs` that a JudgeRequest can carry. The model is the judge's own."""


class OutputPair(NamedTuple):
    """An instruction with the reference output and the output that is judged against it."""

    question_id: str
    instruction: str
    reference: str
    output: str


class Annotator(NamedTuple):
    """An evaluator config of the package or the user, with its prompt template. `source`: the name or folder by which
    the package loads it."""

    name: str
    config: Mapping[str, Any]
    template: str
    source: str

    @property
    def choices(self) -> tuple[str, ...]:
        """The well-formed replies, if the annotator reads one token's log-probabilities; else empty."""
        parser = self.config.get("completion_parser_kwargs") or {}
        if self.config.get("fn_completion_parser") != "logprob_parser":
            return ()
        return tuple(dict.fromkeys([parser["numerator_token"], *parser["denominator_tokens"]]))


def load_annotator(name: str) -> Annotator:
    """An annotator by the name of its folder in the package's `evaluators_configs`, or by the absolute path of a user's
    folder with a `configs.yaml`, whose `prompt_template` is relative to the folder's parent, as in the package. Raises
    RecipeError for an unknown annotator, or one that needs more than a judge request can carry (tools, several
    questions per prompt, no chat)."""
    is_folder = Path(name).is_absolute()
    base = Path(name).parent if is_folder else package_folder() / "evaluators_configs"
    names = [p.parent.name for p in base.glob("*/configs.yaml")]
    if is_folder and not (Path(name) / "configs.yaml").is_file():
        raise RecipeError(f"annotator: {name} has no configs.yaml; expected an evaluator's folder as in alpaca_eval")
    if not is_folder and name not in names:
        raise RecipeError(f"unknown alpaca_eval annotator {quoted(name)}; {nearest(name, names)}, or a folder")
    configs = _configs(base / Path(name).name / "configs.yaml")
    config = next(iter(configs.values()))
    path = base / str(config.get("prompt_template"))
    if is_folder and not path.exists():
        raise RecipeError(f"annotator: {name}: no prompt_template {path}; expected a path relative to {base}")
    try:
        template = read_text(path, LARGEST_SETTINGS, inside=base) if path.exists() else ""
    except (OSError, ValueError) as error:
        raise RecipeError(f"annotator: {path} can't be read ({reason_of(error)})") from None
    unknown = sorted(set(config.get("completions_kwargs") or {}) - CARRIED_OPTIONS)
    reasons = [f"completions_kwargs {', '.join(unknown)}"] if unknown else []
    if len(configs) != 1:
        reasons.append("a pool of annotators")
    if config.get("batch_size", 1) != 1:
        reasons.append("several questions in one prompt")
    if _chat_of(template) is None:
        reasons.append("a prompt that is not a chat")
    if unknown := sorted(set(re.findall(r"{([^ \s]+?)}", template)) - set(_FILLED)):
        reasons.append(f"{{{unknown[0][:40]}}} in its prompt")
    if (config.get("completion_parser_kwargs") or {}).get("log_prob_index", 0) not in (0, "batch"):
        reasons.append("log-probabilities after a chain of thought")
    if reasons:
        usual = "weighted_alpaca_eval_gpt4_turbo, alpaca_eval_gpt4"
        raise RecipeError(f"alpaca_eval annotator '{name}' needs {'; '.join(reasons)}: not supported; use {usual}")
    return Annotator(Path(name).name, config, template, name)


def _configs(path: Path) -> dict[str, dict[str, Any]]:
    try:
        configs = parse_yaml(read_text(path, LARGEST_SETTINGS), any_keys=True)
    except (OSError, ValueError) as error:
        raise RecipeError(f"annotator: {path} can't be read ({reason_of(error)})") from None
    if not isinstance(configs, dict) or not configs or not all(isinstance(c, dict) for c in configs.values()):
        raise RecipeError(f"annotator: {path}: expected a mapping of names to evaluators, as in alpaca_eval")
    return configs


def annotate(
    annotator: Annotator,
    pairs: Sequence[OutputPair],
    ask: Ask,
    *,
    switched: bool | None = None,
    sample: int = 0,
    as_text: bool = False,
) -> list[Verdict]:
    """One verdict per pair, in order. Its value is the package's preference in [1, 2] (2: the output won over the
    reference; 1.5 without asking if both are equal), or None if the judge's reply gives none. `switched`: whether the
    output is shown first; None: the package's own order, drawn per pair from a seed. `sample`: the index among several
    replies to the same prompt. `as_text`: if the annotator reads log-probabilities and a reply has none, a reply that
    is one of the tokens counts as certain, and `detail` says so."""
    with alpaca_eval_contained(), bounded_patterns():
        from alpaca_eval.annotators import PairwiseAnnotator

        package = PairwiseAnnotator(
            annotators_config=annotator.source,
            caching_path=None,
            is_avoid_reannotations=False,
            is_randomize_output_order=switched is None,
        )
        (single,) = package.annotators.values()
        prompts = _record_prompts(single, annotator, pairs)
        asked: dict[str, tuple[JudgeRequest, JudgeReply, bool]] = {}
        pairs_by_id = {p.question_id: p for p in pairs}

        def read(reply: JudgeReply) -> JudgeReply:
            return _certain(annotator, reply) if as_text else reply

        def problem(raw: JudgeReply) -> str | None:
            reply = read(raw)
            if reply.logprobs is not None and not reply.logprobs.keys().isdisjoint(annotator.choices):
                return None  # the parser finds one of them
            completion = reply.text if single.completion_key == "completions" else _as_choice(reply)
            (preference,), _ = single._parse_completions([completion])
            return _reply_problem(annotator, reply) if _is_missing(preference) else None

        def completions(prompts_to_ask: Sequence[str], options: Mapping[str, Any]) -> dict[str, list[Any]]:
            requests = []
            for question_id in prompts_to_ask:
                messages, switched = prompts[question_id]
                request = _request(messages, annotator, options, _candidates(pairs_by_id[question_id], switched))
                requests.append(request.model_copy(update={"sample": sample}))
            replies = [read(reply) for reply in ask.readable(requests, problem)]
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


_FILLED = ("instruction", "output_1", "output_2")
"""The names that a prompt template fills in."""


def _chat_of(template: str) -> Messages | None:
    """The messages of a prompt template in ChatML, before it is filled in; None if it is no chat. (As by the package's
    `prompt_to_chatml`, without importing it.)"""
    text = template.strip()
    if not text.startswith("<|im_start|>") or not text.endswith("<|im_end|>"):
        return None
    parts = [part.partition("\n") for part in text.split("<|im_start|>")[1:]]
    messages = [{"role": role.strip(), "content": rest.split("<|im_end|>")[0].strip()} for role, _, rest in parts]
    try:
        return tuple(Message.model_validate(message) for message in messages)
    except ValidationError:
        return None


def _filled(template: Messages, row: Mapping[str, str]) -> Messages:
    """A template's messages, filled in like by the package, but each by itself and in one pass: the package fills in
    the whole text and splits it into messages afterwards, so an answer could write messages of its own
    (`<|im_start|>system`), or bring the other answer to its own place (`{output_2}`)."""

    def value(match: re.Match[str]) -> str:
        return str(row[match[1]])

    fields = re.compile(f"{{({'|'.join(_FILLED)})}}")
    return tuple(Message(role=m.role, content=fields.sub(value, m.content).strip()) for m in template)


def _record_prompts(
    single: Any, annotator: Annotator, pairs: Sequence[OutputPair]
) -> Mapping[str, tuple[Messages, bool]]:
    """Question id -> (the judge's prompt, whether the outputs are switched), filled when the package creates the
    prompts, which are the question ids for it."""
    by_instruction = {p.instruction: p for p in pairs}
    template = _chat_of(annotator.template) or ()
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


def _request(
    messages: Messages, annotator: Annotator, options: Mapping[str, Any], candidates: Candidates
) -> JudgeRequest:
    return JudgeRequest(
        messages=messages,
        max_tokens=options["max_tokens"],
        temperature=options["temperature"],
        top_logprobs=options.get("top_logprobs") if options.get("logprobs") else None,
        choices=annotator.choices,
        candidates=candidates,
        top_p=1.0,  # which the package always sends
    )


def _certain(annotator: Annotator, reply: JudgeReply) -> JudgeReply:
    """A reply whose text is one of the annotator's tokens, with that token's log-probability set to 0; any other reply,
    or one with log-probabilities, is returned as is."""
    token = reply.text.strip()
    if reply.error or reply.logprobs is not None or token not in annotator.choices:
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
        },
    )


def _is_missing(preference: Any) -> bool:
    return preference is None or math.isnan(preference)


def _reply_problem(annotator: Annotator, reply: JudgeReply) -> str:
    """Why the annotator reads no preference from a reply."""
    tokens = " and ".join(annotator.choices)
    if tokens and reply.logprobs is None:
        return "the reply has no log-probabilities, which the annotator reads"
    if tokens:
        return f"neither {tokens} is among the log-probabilities of the reply"
    return f"the annotator's parser finds no preference in the reply {reply.text[:80]!r}"
