"""From lm-eval's requests to questions, and from the answers to lm-eval's results: its own evaluator runs, on a model
that only knows the answers."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from harness.benchmarks.lm_eval.tasks import without_bars
from harness.errors import DataError
from harness.outside import parse_json
from harness.types import Answer, Message, Messages, Question

CHAT = "\0chat"
"""What marks a context that is a conversation, as JSON."""


def conversation_text(messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
    """In place of a chat template: the conversation, to be rendered by the policy's own."""
    return CHAT + json.dumps([dict(message) for message in messages], ensure_ascii=False)


def context_of(text: str) -> Messages | str:
    """A request's context."""
    if not text.startswith(CHAT):
        return text
    return tuple(Message.model_validate(message) for message in parse_json(text.removeprefix(CHAT)))


def item_id(task: str, doc: int) -> str:
    """The id of a task's item."""
    return f"{task}:{doc}"


def build_requests(task: Any, limit: int | None, chat: bool) -> list[Any]:
    """lm-eval's instances of a task. Raises DataError for a task without items."""
    with without_bars():
        try:
            task.build_all_requests(
                limit=limit,
                apply_chat_template=chat,
                fewshot_as_multiturn=chat,
                chat_template=conversation_text if chat else None,
            )
        except Exception as error:  # whatever a task's templates and functions raise on these rows
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise DataError(f"lm_eval: task {task.task_name}: its prompts can't be made ({reason})") from error
    return list(task.instances)


def questions_of(task: Any, instances: Sequence[Any]) -> list[Question]:
    """One question per item; for an item that is answered several times, one per answer (`id#2`)."""
    by_item: dict[int, list[Any]] = {}
    for instance in instances:
        by_item.setdefault(instance.doc_id, []).append(instance)
    questions: list[Question] = []
    for doc, asked in by_item.items():
        key = item_id(task.task_name, doc)
        if asked[0].request_type == "generate_until":
            questions += _written(task.task_name, key, asked)
        else:
            scored = tuple((context_of(i.args[0]), str(i.args[1])) for i in asked)
            questions.append(Question(id=key, turns=(_shown(scored[0][0]),), category=task.task_name, scored=scored))
    return questions


def _written(task: str, key: str, asked: Sequence[Any]) -> list[Question]:
    """The questions of an item whose answers are written."""
    if len(asked) > 1:
        raise DataError(f"lm_eval: task {task} asks several requests about an item, which is not supported")
    context, options = context_of(asked[0].args[0]), dict(asked[0].args[1])
    until = options.get("until") or []
    sampled = bool(options.get("do_sample")) and float(options.get("temperature", 1.0)) > 0
    question = Question(
        id=key,
        turns=(_shown(context),),
        category=task,
        temperature=float(options.get("temperature", 1.0)) if sampled else 0.0,
        history=() if isinstance(context, str) else context[:-1],
        plain=isinstance(context, str),
        stop=tuple(text for text in ([until] if isinstance(until, str) else until) if text),
        max_new_tokens=_most_tokens(options),
    )
    copies = range(asked[0].repeats or 1)
    return [question.model_copy(update={"id": key if k == 0 else f"{key}#{k + 1}", "sample": k}) for k in copies]


def _most_tokens(options: Mapping[str, Any]) -> int:
    """lm-eval's names for the limit, and its default."""
    names = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
    return int(next((options[name] for name in names if options.get(name) is not None), 256))


def _shown(context: Messages | str) -> str:
    """The turn of a question: a text, or the last message of a conversation."""
    return context if isinstance(context, str) else context[-1].content


class Result(NamedTuple):
    """One item's value of one metric after one filter, what was taken from its answer, and what was expected."""

    item: str
    metric: str
    filter: str
    value: Any
    taken: str
    target: str


def results_of(task: Any, answers: Mapping[str, Answer], limit: int | None, chat: bool) -> list[Result]:
    """lm-eval's results on these answers, by the question's id; an item without an answer has none."""
    with without_bars():
        from lm_eval.evaluator import evaluate

        found = evaluate(
            lm=_replay(task.task_name, answers),
            task_dict={"tasks": {task.task_name: task}, "groups": {}, "group_map": {}},
            limit=limit,
            bootstrap_iters=0,
            apply_chat_template=chat,
            fewshot_as_multiturn=chat,
        )
    return [
        Result(item, metric, row["filter"], row[metric], str(row["filtered_resps"])[:300], str(row["target"])[-300:])
        for row in found["samples"][task.task_name]
        for metric in row["metrics"]
        if (item := item_id(task.task_name, row["doc_id"])) in answers
    ]


def _replay(task: str, answers: Mapping[str, Answer]) -> Any:
    """A model of lm-eval's that gives these answers. What isn't there is empty: the caller leaves it out."""
    from lm_eval.api.model import LM

    class Replay(LM):  # type: ignore[misc]
        tokenizer_name = ""

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            return conversation_text(chat_history)

        def chat_template(self, chat_template: bool | str = False) -> str:
            return ""

        def generate_until(self, requests: list[Any]) -> list[str]:
            return _each(requests, lambda key, _: answers[key].turns[0] if key in answers else "")

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            return _each(requests, lambda key, i: answers[key].likelihoods[i] if key in answers else (0.0, False))

        def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
            raise DataError(f"lm_eval: task {task} asks for perplexities of whole texts, which are not supported")

    return Replay()


def _each(requests: Iterable[Any], answer: Callable[[str, int], Any]) -> list[Any]:
    """The answer to each request, by its item, its number there, and how often it was asked before."""
    asked: dict[tuple[str, int], int] = {}
    given = []
    for request in requests:
        key = (item_id(request.task_name, request.doc_id), request.idx)
        asked[key] = asked.get(key, 0) + 1
        given.append(answer(key[0] if asked[key] == 1 else f"{key[0]}#{asked[key]}", request.idx))
    return given
