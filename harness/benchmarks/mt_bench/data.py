"""MT-bench's data: questions, reference answers and judge prompts in FastChat's formats, from the package, a folder, a
user's file, or FastChat's repository at a pinned commit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from harness import files
from harness.benchmarks.mt_bench.prompts import NEED_REFERENCE, MtQuestion
from harness.errors import DataError

REPOSITORY = "https://raw.githubusercontent.com/lm-sys/FastChat"
COMMIT = "587d5cfa1609a43d192cedb8441cac3c17db105d"
QUESTIONS, REFERENCES, PROMPTS = "question.jsonl", "reference_answer/gpt-4.jsonl", "judge_prompts.jsonl"
OFFICIAL_SHA256 = {
    QUESTIONS: "119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7",
    REFERENCES: "f957a5bc977badb66885ec970e6cd08527845780313f0995764260e5777b9b3f",
    PROMPTS: "fd283293406d024f44c174b094ef48031d0687a4682fd3a56b29b138f80281b6",
}
IN_REPOSITORY = {QUESTIONS: f"mt_bench/{QUESTIONS}", REFERENCES: f"mt_bench/{REFERENCES}", PROMPTS: PROMPTS}
BUILTIN_FILES = {QUESTIONS: "question.jsonl", REFERENCES: "reference_answer.jsonl", PROMPTS: "judge_prompts.jsonl"}


def builtin_file(name: str) -> bytes:
    """One of the package's own files."""
    return files.read_bytes(files.asset("mt_bench", BUILTIN_FILES[name]))


def official_file(name: str, folder: Path | None) -> bytes:
    """One of FastChat's files, from a folder or its repository. Raises DataError."""
    expected, url = OFFICIAL_SHA256[name], f"{REPOSITORY}/{COMMIT}/fastchat/llm_judge/data/{IN_REPOSITORY[name]}"
    if folder is None:
        how = f"download it elsewhere as mt_bench/{name} and set HARNESS_DATA to the folder that holds mt_bench/"
        return files.download(url, expected, f"mt_bench-{COMMIT[:12]}", how)
    if not (folder / name).is_file():
        raise DataError(f"{folder} has no {name}; expected FastChat's file, from {url}")
    instead = "give other questions as `questions: FILE`"
    return files.official(files.read_bytes(folder / name), expected, str(folder / name), instead)


def parse_questions(questions: bytes, references: bytes, where: str) -> list[MtQuestion]:
    """Questions, with reference answers for categories that need them. Raises DataError."""
    answers = {
        str(row.get("question_id")): row for row in files.json_lines(references, f"reference answers of {where}")
    }
    parsed: dict[str, MtQuestion] = {}
    for row in files.json_lines(questions, where):
        question = _question(row, answers, f"{where}, question {row.get('question_id')}")
        if question.id in parsed:
            raise DataError(f"{where}: question_id {question.id} is repeated; rows are joined by it")
        parsed[question.id] = question
    if not parsed:
        raise DataError(f"{where}: no rows")
    return list(parsed.values())


def _question(row: Mapping[str, Any], references: Mapping[str, Mapping[str, Any]], where: str) -> MtQuestion:
    turns, category = row.get("turns"), row.get("category")
    if row.get("question_id") is None or not isinstance(category, str) or not are_texts(turns):
        raise DataError(f"{where}: expected question_id, category, and a list of texts under turns")
    question_id, reference = str(row["question_id"]), None
    if "#" in question_id or "/" in question_id:
        raise DataError(f"{where}: a question_id must hold neither '#' nor '/', which mark samples and turns")
    if category in NEED_REFERENCE:
        try:
            reference = references[question_id]["choices"][0]["turns"]
        except (KeyError, IndexError, TypeError):
            raise DataError(f"{where}: {category} needs a reference answer; expected one in {REFERENCES}") from None
        if not are_texts(reference) or len(reference) < len(turns):
            raise DataError(f"{where}: its reference answer must have {len(turns)} texts under choices[0].turns")
    return MtQuestion(question_id, category, tuple(turns), tuple(reference[: len(turns)]) if reference else None)


def are_texts(value: Any) -> TypeGuard[list[str]]:
    """Whether a value is a list of texts, and not empty."""
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)


def parse_templates(data: bytes, where: str) -> dict[str, dict[str, Any]]:
    """Judge prompts by FastChat's names. Raises DataError."""
    return {str(row.get("name")): row for row in files.json_lines(data, where)}
