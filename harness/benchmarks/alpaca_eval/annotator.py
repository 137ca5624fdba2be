"""The `alpaca_eval` package's own pairwise annotator, run with a judge of the harness.

The package writes the prompts, orders the two outputs, parses completions and undoes the order; the harness gets the
replies, with its transport, journal and costs. (`alpaca_eval/annotators`, `completion_parsers.py`; arXiv 2404.04475.)
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.benchmarks.alpaca_eval.package import alpaca_eval_contained, mapping_frame, package_folder
from harness.errors import RecipeError, nearest, quoted
from harness.types import Ask, Candidates, JudgeReply, JudgeRequest, Message, Verdict

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
    if is_folder and not path.is_file():
        raise RecipeError(f"annotator: {name}: no prompt_template {path}; expected a path relative to {base}")
    template = path.read_text() if path.is_file() else ""
    unknown = sorted(set(config.get("completions_kwargs") or {}) - CARRIED_OPTIONS)
    reasons = [f"completions_kwargs {', '.join(unknown)}"] if unknown else []
    if len(configs) != 1:
        reasons.append("a pool of annotators")
    if config.get("batch_size", 1) != 1:
        reasons.append("several questions in one prompt")
    if not template.strip().startswith("<|im_start|>"):
        reasons.append("a prompt that is not a chat")
    if (config.get("completion_parser_kwargs") or {}).get("log_prob_index", 0) not in (0, "batch"):
        reasons.append("log-probabilities after a chain of thought")
    if reasons:
        usual = "weighted_alpaca_eval_gpt4_turbo, alpaca_eval_gpt4"
        raise RecipeError(f"alpaca_eval annotator '{name}' needs {'; '.join(reasons)}: not supported; use {usual}")
    return Annotator(Path(name).name, config, template, name)


def _configs(path: Path) -> dict[str, dict[str, Any]]:
    import yaml

    try:
        configs = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"annotator: {path} can't be read ({' '.join(str(error).split())[:120]})") from None
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
    with alpaca_eval_contained():
        from alpaca_eval.annotators import PairwiseAnnotator

        package = PairwiseAnnotator(
            annotators_config=annotator.source,
            caching_path=None,
            is_avoid_reannotations=False,
            is_randomize_output_order=switched is None,
        )
        (single,) = package.annotators.values()
        prompts = _record_prompts(single, pairs)
        asked: dict[str, tuple[JudgeRequest | None, JudgeReply, bool]] = {}
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
            first = [_request(p, annotator, options, _candidates(pairs_by_id, *prompts[p])) for p in prompts_to_ask]
            requests = [None if r is None else r.model_copy(update={"sample": sample}) for r in first]
            raw_replies = iter(ask.readable([r for r in requests if r is not None], problem))
            replies = [_NOT_A_CHAT if r is None else read(next(raw_replies)) for r in requests]
            for prompt, request, reply in zip(prompts_to_ask, requests, replies, strict=True):
                question_id, switched = prompts[prompt]
                asked[question_id] = (request, reply, switched)
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


_NOT_A_CHAT = JudgeReply(text="", error="an output holds chat markers (<|im_start|>) that break the judge's prompt")


def _record_prompts(single: Any, pairs: Sequence[OutputPair]) -> Mapping[str, tuple[str, bool]]:
    """Prompt -> (question id, whether the outputs are switched), filled when the package creates the prompts."""
    by_instruction = {p.instruction: p for p in pairs}
    make_prompts, recorded = single._make_prompts, {}

    class Records(list[Any]):
        """The part of a data frame's interface that the package uses here, without a pandas Series for every row."""

        empty = property(lambda self: not self)
        iloc = property(lambda self: self)
        copy = __copy__ = lambda self: self

    def make_and_record(rows: Any) -> Any:
        prompts, _ = make_prompts(Records(rows.to_dict(orient="records")))
        for prompt, instruction, first in zip(prompts, rows["instruction"], rows["output_1"], strict=True):
            pair = by_instruction[instruction]
            recorded[prompt] = pair.question_id, first != pair.reference
        return prompts, rows

    single._make_prompts = make_and_record
    return recorded


def _candidates(pairs: Mapping[str, OutputPair], question_id: str, switched: bool) -> Candidates:
    pair = pairs[question_id]
    answers = (pair.output, pair.reference) if switched else (pair.reference, pair.output)
    return Candidates(messages=(Message(role="user", content=pair.instruction),), answers=answers)


def _request(
    prompt: str, annotator: Annotator, options: Mapping[str, Any], candidates: Candidates
) -> JudgeRequest | None:
    """The request for a prompt, or None if it can't be read as a chat: outputs may hold the markers between turns."""
    from alpaca_eval.utils import prompt_to_chatml
    from pydantic import ValidationError

    try:
        messages = tuple(Message.model_validate(m) for m in prompt_to_chatml(prompt.strip()))
    except (AssertionError, IndexError, ValidationError):
        return None
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
    annotator: Annotator, pair: OutputPair, preference: Any, asked: tuple[JudgeRequest | None, JudgeReply, bool] | None
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
        prompt="\n\n".join(m.content for m in request.messages) if request else "",
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
