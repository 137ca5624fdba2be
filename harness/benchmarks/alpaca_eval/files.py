"""AlpacaEval's public files: outputs (`instruction, output, generator, dataset`) and the package's annotations.

Rows are joined by instruction. Rows that the package would silently drop or average (of other instructions, a second
one on the same instruction, a verdict without a preference) are counted.
"""

import ast
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.benchmark import ANY, ExampleAnswer, ExamplePrompt, Examples, JudgedRow, Names, Wanted, ambiguous
from harness.errors import DataError
from harness.files import file_name, json_list, json_text, read_json_list
from harness.types import Answer, Message, Verdict, prompt_id


def instruction_id(instruction: str) -> str:
    """The question id of an instruction."""
    return prompt_id([Message(role="user", content=instruction)])


def texts_by_question(answers: Iterable[Answer]) -> dict[str, str]:
    """The texts of answers."""
    return {a.question_id: a.turns[0] for a in answers}


def read_names(data: bytes, where: str) -> Names:
    """The generators and annotators of outputs or annotations."""
    rows = json_list(data, where)
    models = [row.get("generator_2", row.get("generator")) for row in rows]
    judges = [row.get("annotator") for row in rows]
    return Names.among(models, judges)


def read_outputs(
    data: bytes, where: str, questions: Sequence[str], wanted: Wanted = ANY
) -> tuple[list[Answer], dict[str, int]]:
    """(answers in the order of `questions`, counts). Of several outputs for one instruction the first counts. Counts:
    `repeated`, `of_other_questions`, `missing`, and `of_other_models` if there are several. Raises DataError, also for
    several models of which none is meant."""
    by_question: dict[str, Answer] = {}
    counts = Counter(repeated=0, of_other_questions=0, missing=0)
    rows = json_list(data, where)
    models = [str(row.get("generator")) for row in rows]
    model = wanted.model_of(models, where)
    if model is None and rows:
        raise ambiguous("outputs of one model", "model", models, where)
    for number, row in enumerate(rows, start=1):
        instruction, output = row.get("instruction"), row.get("output")
        if not isinstance(instruction, str) or not isinstance(output, str):
            raise DataError(f"{where}, row {number}: expected texts under `instruction` and `output`")
        if models[number - 1] != model:
            counts["of_other_models"] += 1
            continue
        key = instruction_id(instruction)
        counts["repeated"] += key in by_question
        by_question.setdefault(key, Answer(question_id=key, turns=(output,), finish_reasons=(), tokens=None))
    counts["of_other_questions"] = len(by_question.keys() - set(questions))
    answers = [by_question[q] for q in questions if q in by_question]
    counts["missing"] = len(questions) - len(answers)
    return answers, dict(counts)


def read_annotations(
    data: bytes,
    where: str,
    answers: Sequence[Answer],
    questions: Sequence[str],
    wanted: Wanted = ANY,
    reference: str | None = None,
) -> tuple[list[Verdict], dict[str, int], str]:
    """(one verdict per question, in their order; counts; the name of the annotator that gave them).

    Of several models, annotators and references in a file, those that are meant count (`reference`: the name of the
    one that answers are compared with); without names, the model whose outputs are the answers. A verdict on a text
    that differs from the answer is not scored, nor is one without a preference in [1, 2] (0 is the package's old mark
    of a draw). Of several verdicts on one instruction the first counts (the package would count each). Counts:
    `repeated`, `of_other_questions`, `missing`, `on_other_text`, `failed`, and `of_others` if the file holds other
    models, annotators or references. Raises DataError.
    """
    texts = texts_by_question(answers)
    recorded: dict[str, Verdict] = {}
    counts = Counter(repeated=0, of_other_questions=0, missing=0, on_other_text=0, failed=0)
    rows = json_list(data, where)
    for number, row in enumerate(rows, start=1):
        if not all(isinstance(row.get(key), str) for key in ("instruction", "output_2")) or "preference" not in row:
            raise DataError(f"{where}, row {number}: expected `instruction`, `output_2` and `preference`")
    chosen, annotator = _chosen(rows, where, texts, wanted, reference)
    if len(chosen) != len(rows):
        counts["of_others"] = len(rows) - len(chosen)
    for row in chosen:
        key = instruction_id(row["instruction"])
        if key in recorded:
            counts["repeated"] += 1
            continue
        recorded[key] = _verdict(key, row, texts.get(key) == row["output_2"])
    counts["of_other_questions"] = len(recorded.keys() - set(questions))
    verdicts = [recorded.get(q) or Verdict(question_id=q, value=None, invalid=NOT_RECORDED) for q in questions]
    reasons = Counter(v.invalid for v in verdicts)
    counts["missing"] = reasons.pop(NOT_RECORDED, 0)
    counts["on_other_text"] = reasons.pop(OTHER_TEXT, 0)
    counts["failed"] = sum(n for reason, n in reasons.items() if reason is not None)
    return verdicts, dict(counts), annotator


def _chosen(
    rows: Sequence[dict[str, Any]], where: str, texts: Mapping[str, str], wanted: Wanted, reference: str | None
) -> tuple[list[dict[str, Any]], str]:
    """(annotations of the model, the reference and the annotator that are meant; the annotator). Raises DataError."""
    model = wanted.model_of((str(row.get("generator_2")) for row in rows), where)
    if model is None:
        model = _model_of_texts(rows, texts)
    if model is None and rows:
        raise ambiguous("verdicts on one model", "model", (str(row.get("generator_2")) for row in rows), where)
    rows = [row for row in rows if str(row.get("generator_2")) == model]
    references = [str(row.get("generator_1")) for row in rows]
    if len(set(references)) > 1:
        if reference not in references:
            names = ", ".join(dict.fromkeys(references))
            raise DataError(f"{where}: verdicts against several references ({names}), none of them {reference!r}")
        rows = [row for row in rows if row.get("generator_1") == reference]
    annotators = [str(row.get("annotator")) for row in rows]
    annotator = wanted.judge_of(annotators, where)
    if annotator is None:
        raise ambiguous("verdicts of one annotator", "judge", annotators, where)
    return [row for row in rows if str(row.get("annotator")) == annotator], annotator


def _model_of_texts(rows: Sequence[Mapping[str, Any]], texts: Mapping[str, str]) -> str | None:
    """The only model whose outputs are the answers wherever there is one."""
    same: dict[str, bool] = {}
    for row in rows:
        text = texts.get(instruction_id(row["instruction"]))
        if text is not None:
            model = str(row.get("generator_2"))
            same[model] = same.get(model, True) and text == row["output_2"]
    likely = [model for model, whole in same.items() if whole]
    return likely[0] if len(likely) == 1 else None


NOT_RECORDED = "no verdict recorded"
OTHER_TEXT = "the recorded verdict is on another text than the answer"


def _verdict(question_id: str, row: Mapping[str, Any], same_text: bool) -> Verdict:
    preference = row["preference"]
    is_number = isinstance(preference, (int, float)) and not isinstance(preference, bool)
    value = float(preference) if is_number and math.isfinite(preference) else None
    value = 1.5 if value == 0 else value
    invalid = None if same_text else OTHER_TEXT
    if invalid is None and (value is None or not 1 <= value <= 2):
        invalid = f"the recorded verdict has no preference in [1, 2] but {str(preference)[:40]}"
    return Verdict(
        question_id=question_id,
        value=None if invalid else value,
        invalid=invalid,
        reply=_text(row.get("raw_completion")),
        detail={"recorded": True, "price": row.get("price_per_example")},
    )


def _text(completion: Any) -> str:
    """The text of a recorded completion, which files hold as a text, an object, or the object's Python literal."""
    if isinstance(completion, str) and completion.startswith("{"):
        try:
            completion = ast.literal_eval(completion)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return str(completion)
    if isinstance(completion, Mapping):
        message = completion.get("message")
        completion = message.get("content") if isinstance(message, Mapping) else completion.get("text")
    return completion if isinstance(completion, str) else ""


def outputs_rows(items: Sequence[Mapping[str, str]], answers: Sequence[Answer], generator: str) -> list[dict[str, str]]:
    """Answers in the public format. `items`: `id`, `instruction` and `dataset` of each question."""
    texts = texts_by_question(answers)
    return [
        {
            "dataset": item["dataset"],
            "instruction": item["instruction"],
            "output": texts[item["id"]],
            "generator": generator,
        }
        for item in items
        if item["id"] in texts
    ]


def annotation_rows(
    items: Sequence[Mapping[str, str]],
    outputs: tuple[Mapping[str, str], str],
    references: tuple[Mapping[str, str], str],
    verdicts: Sequence[Verdict],
    annotator: str,
) -> list[dict[str, Any]]:
    """Verdicts in the package's annotation format. `outputs`, `references`: (texts by question id, the name of who
    wrote them). A missing preference is None."""
    by_question = {v.question_id: v for v in verdicts}
    rows = []
    for item in items:
        verdict = by_question.get(item["id"])
        if verdict is None or item["id"] not in outputs[0] or item["id"] not in references[0]:
            continue
        rows.append(
            {
                "instruction": item["instruction"],
                "output_1": references[0][item["id"]],
                "generator_1": references[1],
                "dataset": item["dataset"],
                "output_2": outputs[0][item["id"]],
                "generator_2": outputs[1],
                "annotator": annotator,
                "preference": verdict.value,
                "price_per_example": verdict.detail.get("price"),
                "raw_completion": verdict.reply,
                "invalid": verdict.invalid,
            }
        )
    return rows


def read_examples(folder: Path, rows: Sequence[str]) -> Examples:
    """Prompts, answers and verdicts of a board's rows, from the files that the benchmark's `public_files` wrote."""
    prompts: dict[str, ExamplePrompt] = {}
    answers: dict[str, dict[str, ExampleAnswer]] = {}
    for row in rows:
        row_folder = folder / file_name(row)
        if not (row_folder / "model_outputs.json").is_file():
            continue
        outputs = {item["instruction"]: item["output"] for item in read_json_list(row_folder / "model_outputs.json")}
        path = row_folder / "annotations.json"
        judged = {item["instruction"]: item for item in read_json_list(path)} if path.is_file() else {}
        for instruction, output in outputs.items():
            key, verdict = instruction_id(instruction), judged.get(instruction, {})
            prompt = prompts.setdefault(key, ExamplePrompt("AlpacaEval", (instruction,)))
            if prompt.reference is None and "output_1" in verdict:
                reference = (str(verdict.get("generator_1") or "reference"), verdict["output_1"])
                prompts[key] = prompt._replace(reference=reference)
            reply = str(verdict.get("raw_completion") or "")
            answers.setdefault(row, {})[key] = ExampleAnswer(
                [output], [verdict.get("preference")], [reply], [verdict.get("invalid")]
            )
    return Examples(prompts, answers)


def public_files(
    folder: str,
    items: Sequence[Mapping[str, str]],
    rows: Sequence[JudgedRow],
    reference_texts: Callable[[Sequence[Answer]], Mapping[str, str]],
    reference_name: str,
    judge: str,
) -> dict[str, str]:
    """`<row>/model_outputs.json` and `annotations.json` of each row in a folder, in the package's formats. `items`:
    `id`, `instruction` and `dataset` of each question."""
    files = {}
    for row, answers, reference, verdicts in rows:
        outputs = outputs_rows(items, answers, row)
        texts = texts_by_question(answers), row
        annotations = annotation_rows(items, texts, (reference_texts(reference), reference_name), verdicts, judge)
        files[f"{folder}/{file_name(row)}/model_outputs.json"] = json_text(outputs)
        files[f"{folder}/{file_name(row)}/annotations.json"] = json_text(annotations)
    return files
