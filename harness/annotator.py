"""The `alpaca_eval` package's own pairwise annotator, asked through a judge of ours.

Prompt text, order of the two outputs, parsing of the completion and turning it back are the package's; answering,
transport, journal and cost are ours. (`alpaca_eval/annotators`, `completion_parsers.py`; arXiv 2404.04475.)
"""

import contextlib
import importlib.util
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import RecipeError, nearest, quoted
from harness.types import Ask, Candidates, JudgeReply, JudgeRequest, Message, Verdict, ask_readable

CARRIED = frozenset({"model_name", "max_tokens", "temperature", "logprobs", "top_logprobs", "requires_chatml"})
"""What of an annotator's `completions_kwargs` a JudgeRequest can carry. The model is the judge's own."""


class Pair(NamedTuple):
    """An instruction with the reference's output and the output that is judged against it."""

    question_id: str
    instruction: str
    reference: str
    output: str


def package_folder() -> Path:
    """The installed `alpaca_eval`, found without importing it."""
    spec = importlib.util.find_spec("alpaca_eval")
    if spec is None or spec.origin is None:
        raise RecipeError("the package alpaca-eval is not installed; pip install alpaca-eval")
    return Path(spec.origin).parent


class Annotator(NamedTuple):
    """An evaluator config of the package: its fields, and its prompt template."""

    name: str
    config: Mapping[str, Any]
    template: str

    @property
    def choices(self) -> tuple[str, ...]:
        """The replies that would be well-formed, where the annotator reads one token's log-probabilities."""
        parser = self.config.get("completion_parser_kwargs") or {}
        if self.config.get("fn_completion_parser") != "logprob_parser":
            return ()
        return tuple(dict.fromkeys([parser["numerator_token"], *parser["denominator_tokens"]]))


def load_annotator(name: str) -> Annotator:
    """An annotator by the name of its folder in the package's `evaluators_configs`. Raises RecipeError for one that
    is unknown, or that needs what a judge request can't carry (tools, several questions a prompt, no chat)."""
    import yaml

    base = package_folder() / "evaluators_configs"
    known = [p.parent.name for p in base.glob("*/configs.yaml")]
    if name not in known:
        raise RecipeError(f"unknown alpaca_eval annotator {quoted(name)}; {nearest(name, known)}")
    configs = yaml.safe_load((base / name / "configs.yaml").read_text())
    config = next(iter(configs.values()))
    path = base / config["prompt_template"]
    template = path.read_text() if path.is_file() else ""
    unknown = sorted(set(config.get("completions_kwargs") or {}) - CARRIED)
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
    return Annotator(name, config, template)


def annotate(annotator: Annotator, pairs: Sequence[Pair], ask: Ask, *, switched: bool | None = None) -> list[Verdict]:
    """One verdict a pair, in order; its value is the package's preference in [1, 2] (2: the output won over the
    reference; 1.5 without asking where both are the same), None where the judge's reply gave none. `switched`: the
    output is shown first (True) or the reference is (False); None: the package's own draw, a seeded one a pair."""
    with alpaca_eval_contained():
        from alpaca_eval.annotators import PairwiseAnnotator

        package = PairwiseAnnotator(
            annotators_config=annotator.name,
            caching_path=None,
            is_avoid_reannotations=False,
            is_randomize_output_order=switched is None,
        )
        (single,) = package.annotators.values()
        prompts = _note_prompts(single, pairs)
        asked: dict[str, tuple[JudgeRequest | None, JudgeReply, bool]] = {}
        pairs_by_id = {p.question_id: p for p in pairs}

        def unread(reply: JudgeReply) -> str | None:
            if reply.logprobs is not None and not reply.logprobs.keys().isdisjoint(annotator.choices):
                return None  # the parser finds one of them
            completion = reply.text if single.completion_key == "completions" else _as_choice(reply)
            (preference,), _ = single._parse_completions([completion])
            return _unread(annotator, reply) if _is_missing(preference) else None

        def completions(prompts_to_ask: Sequence[str], options: Mapping[str, Any]) -> dict[str, list[Any]]:
            requests = [_request(p, annotator, options, _candidates(pairs_by_id, *prompts[p])) for p in prompts_to_ask]
            answered = iter(ask_readable(ask, [r for r in requests if r is not None], unread))
            replies = [_NOT_A_CHAT if r is None else next(answered) for r in requests]
            for prompt, request, reply in zip(prompts_to_ask, requests, replies, strict=True):
                question_id, switched = prompts[prompt]
                asked[question_id] = (request, reply, switched)
            return {
                "completions": ["" if r.error else r.text for r in replies],
                "completions_all": ["" if r.error else _as_choice(r) for r in replies],
            }

        single.fn_completions = lambda prompts, **options: completions(prompts, options)
        rows = package.annotate_head2head(
            outputs_1=_frame([{"instruction": p.instruction, "output": p[3 if switched else 2]} for p in pairs]),
            outputs_2=_frame([{"instruction": p.instruction, "output": p[2 if switched else 3]} for p in pairs]),
            chunksize=None,
        )
    preferences = {row["instruction"]: row["preference"] for row in rows}
    if switched:
        preferences = {i: p if _is_missing(p) else 3 - p for i, p in preferences.items()}
    return [_verdict(annotator, p, preferences[p.instruction], asked.get(p.question_id)) for p in pairs]


_NOT_A_CHAT = JudgeReply(text="", error="an output holds chat markers (<|im_start|>) that break the judge's prompt")


def _frame(rows: Sequence[Mapping[str, str]]) -> Any:
    """A data frame whose functions of a row are given a mapping instead of a Series. The package draws twice for every
    row so, and pandas makes a Series of it in as long as the judge takes for two rounds of replies."""
    import pandas as pd

    class Row(dict[Any, Any]):
        def __getitem__(self, key: Any) -> Any:
            return [dict.__getitem__(self, k) for k in key] if isinstance(key, list) else dict.__getitem__(self, key)

    class Frame(pd.DataFrame):
        @property
        def _constructor(self) -> Any:
            return Frame

        def apply(self, func: Any, axis: Any = 0, **options: Any) -> Any:  # type: ignore[override]
            if axis != 1 or options:
                return super().apply(func, axis=axis, **options)
            return pd.Series([func(Row(row)) for row in self.to_dict(orient="records")], index=self.index)

    return Frame(rows)


def _note_prompts(single: Any, pairs: Sequence[Pair]) -> Mapping[str, tuple[str, bool]]:
    """Every prompt that the package makes of the pairs, once it has made them -> whose it is, and whether the outputs
    are switched."""
    by_instruction = {p.instruction: p for p in pairs}
    make_prompts, found = single._make_prompts, {}

    class Rows(list[Any]):
        """All of a data frame that prompts are made from, without the Series that pandas makes of every row."""

        empty = property(lambda self: not self)
        iloc = property(lambda self: self)
        copy = __copy__ = lambda self: self

    def noting(rows: Any) -> Any:
        prompts, _ = make_prompts(Rows(rows.to_dict(orient="records")))
        for prompt, instruction, first in zip(prompts, rows["instruction"], rows["output_1"], strict=True):
            pair = by_instruction[instruction]
            found[prompt] = pair.question_id, first != pair.reference
        return prompts, rows

    single._make_prompts = noting
    return found


def _candidates(pairs: Mapping[str, Pair], question_id: str, switched: bool) -> Candidates:
    pair = pairs[question_id]
    shown = (pair.output, pair.reference) if switched else (pair.reference, pair.output)
    return Candidates(messages=(Message(role="user", content=pair.instruction),), answers=shown)


def _request(
    prompt: str, annotator: Annotator, options: Mapping[str, Any], candidates: Candidates
) -> JudgeRequest | None:
    """The request for a prompt, or None where it isn't a chat: outputs may hold the markers that delimit turns."""
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
    )


def _as_choice(reply: JudgeReply) -> dict[str, Any]:
    """A reply in the structure that the package's parsers read."""
    choice: dict[str, Any] = {"text": reply.text, "message": {"role": "assistant", "content": reply.text}}
    if reply.logprobs is not None:
        top = [{"token": token, "logprob": logprob} for token, logprob in reply.logprobs.items()]
        choice["logprobs"] = {"content": [{"token": reply.text, "top_logprobs": top}]}
    return choice


def _verdict(
    annotator: Annotator, pair: Pair, preference: Any, asked: tuple[JudgeRequest | None, JudgeReply, bool] | None
) -> Verdict:
    value = None if _is_missing(preference) else float(preference)
    if asked is None:
        return Verdict(question_id=pair.question_id, value=value, detail={"asked": False})
    request, reply, switched = asked
    invalid = None
    if value is None:
        invalid = reply.error or _unread(annotator, reply)
    return Verdict(
        question_id=pair.question_id,
        value=value,
        invalid=invalid,
        prompt="\n\n".join(m.content for m in request.messages) if request else "",
        reply=reply.text,
        detail={"asked": True, "switched": switched, "logprobs": reply.logprobs, "price": reply.price},
    )


def _is_missing(preference: Any) -> bool:
    return preference is None or math.isnan(preference)


def _unread(annotator: Annotator, reply: JudgeReply) -> str:
    tokens = " and ".join(annotator.choices)
    if tokens and reply.logprobs is None:
        return "the reply has no log-probabilities, which the annotator reads"
    if tokens:
        return f"neither {tokens} is among the log-probabilities of the reply"
    return f"the annotator's parser finds no preference in the reply {reply.text[:80]!r}"


@contextlib.contextmanager
def alpaca_eval_contained() -> Iterator[None]:
    """Import and run `alpaca_eval` without its side effects: it sets the root logger's level when it is imported, logs
    to the root logger, draws progress bars over ours and changes scikit-learn's configuration."""
    root = logging.getLogger()
    level, silent = root.level, logging.NullHandler()
    # A handler, or the package's first message would set one up that writes to the terminal.
    root.addHandler(silent)
    root.addFilter(_not_the_packages)
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import alpaca_eval.utils as utils
            import pandas as pd
            import sklearn
        root.setLevel(level)
        # Row by row, as the package goes, Arrow's strings take thrice as long as Python's.
        strings = pd.option_context("mode.string_storage", "python")
        with _no_progress_bars(utils), sklearn.config_context(), strings, warnings.catch_warnings():
            warnings.simplefilter("ignore", category=FutureWarning)
            warnings.filterwarnings("ignore", module="sklearn")
            yield
    finally:
        root.setLevel(level)
        root.removeFilter(_not_the_packages)
        root.removeHandler(silent)


def _not_the_packages(record: logging.LogRecord) -> bool:
    return "alpaca_eval" not in Path(record.pathname).parts


@contextlib.contextmanager
def _no_progress_bars(utils: Any) -> Iterator[None]:
    original = utils.dataframe_chunk_generator
    from alpaca_eval.annotators import base

    def quiet(df: Any, chunksize: int | None = None, tqdm_desc: str | None = None) -> Any:
        return original(df, chunksize)

    base.utils.dataframe_chunk_generator = quiet
    try:
        yield
    finally:
        base.utils.dataframe_chunk_generator = original
