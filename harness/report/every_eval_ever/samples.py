"""A row's answers with their scores, one record each, from the files beside its board."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from harness.boards.catalog import Figures
from harness.boards.entry import Entry
from harness.figures import Figure
from harness.report.every_eval_ever import SCHEMA_VERSION
from harness.report.every_eval_ever.figures import result_id
from harness.report.every_eval_ever.identity import Context, evaluation_id, model_id, texts

NOT_A_TEST = {
    "is_correct_applicable": "false",
    "is_correct_rule": "false for a graded metric; use evaluation.score",
}
"""The schema asks of every sample whether it is correct; a preference and a rating say nothing of the kind."""


class Samples(NamedTuple):
    """A row's samples as JSON lines; `unscored`: answers without a verdict, for which the schema has no score."""

    lines: tuple[str, ...]
    unscored: int


def samples(entry: Entry, about: Context, examples: Mapping[str, Any]) -> Samples:
    """The row's samples. `examples`: see `harness.report.page.examples.board_examples`. The mean of the scores of a
    benchmark's samples is its result that they name."""
    answers, figures = examples["rows"].get(entry.id, {}), _scored_figures(entry)
    lines: list[str] = []
    unscored = 0
    for prompt in examples["prompts"]:
        figure, answer = figures.get(prompt["set"]), answers.get(prompt["id"])
        if figure is None or answer is None:
            continue
        key = prompt["id"].removeprefix(f"{prompt['set']} ")
        for record in _of_prompt(entry, about, figure, key, prompt, answer):
            if record is None:
                unscored += 1
            else:
                lines.append(json_line(record))
    return Samples(tuple(lines), unscored)


def json_line(record: Mapping[str, Any]) -> str:
    """A record on one line. All but ASCII is escaped: some readers end a line at U+2028, too. Half of a surrogate pair,
    which no reader takes, becomes a question mark."""
    text = json.dumps(record, ensure_ascii=False, allow_nan=False).encode(errors="replace").decode()
    return re.sub(r"[^\x00-\x7f]", lambda match: json.dumps(match[0])[1:-1], text) + "\n"


def _scored_figures(entry: Entry) -> dict[str, Figure]:
    """By benchmark, the figure that is the mean of its outcomes: the first one that rows are compared by."""
    found: dict[str, Figure] = {}
    for figure in Figures([entry]).compared:
        is_mean = figure.pairing is not None and figure.pairing.kind != "resamples"
        if is_mean and entry.value(figure.metric) is not None:
            found.setdefault(figure.benchmark, figure)
    return found


def _of_prompt(
    entry: Entry, about: Context, figure: Figure, key: str, prompt: Mapping[str, Any], answer: Sequence[Any]
) -> Iterator[dict[str, Any] | None]:
    """A sample for each outcome of a prompt, which is a turn where turns are judged one by one; None: not scored."""
    turns, values, replies, _ = answer
    outcomes = entry.outcomes.get(figure.benchmark, {})
    assert figure.pairing is not None
    for turn in range(1, len(turns) + 1):
        name = f"{key}/{turn}" if f"{key}/{turn}" in outcomes else key
        if name == key and turn > 1:
            return  # one verdict on the whole conversation
        if outcomes and name not in outcomes:
            return  # no figure is of this prompt: candidates were chosen on it
        last = turn if name != key else len(turns)
        value = outcomes.get(name, values[turn - 1])
        score = figure.pairing.of_each({name: value}).get(name)
        yield (
            None
            if score is None
            else {
                "schema_version": SCHEMA_VERSION,
                "evaluation_id": evaluation_id(entry, about),
                "model_id": model_id(entry, about),
                "evaluation_name": figure.benchmark,
                "evaluation_result_id": result_id(entry, about, figure.metric),
                "sample_id": name,
                **_texts(prompt, turns, last),
                "answer_attribution": [],
                "evaluation": {"score": score, "is_correct": False, "num_turns": last},
                "metadata": texts({"category": prompt["category"], "judge_reply": replies[turn - 1], **NOT_A_TEST}),
            }
        )


def _texts(prompt: Mapping[str, Any], turns: Sequence[str], last: int) -> dict[str, Any]:
    """What was asked and answered up to a turn, in the form that the schema has for one turn or for several."""
    asked, reference = list(prompt["turns"])[:last], prompt["reference"]
    given: dict[str, Any] = {"raw": "\n\n".join(asked), "reference": [reference[1]] if reference else []}
    digest = hashlib.sha256("".join([given["raw"], *given["reference"]]).encode(errors="replace")).hexdigest()
    common = {"sample_hash": digest, "input": given}
    if last == 1:
        return {**common, "interaction_type": "single_turn", "output": {"raw": [turns[0]]}, "messages": None}
    said = [x for i in range(last) for x in (("user", asked[i] if i < len(asked) else ""), ("assistant", turns[i]))]
    messages = [{"turn_idx": i, "role": role, "content": text} for i, (role, text) in enumerate(said)]
    return {**common, "interaction_type": "multi_turn", "output": None, "messages": messages}
