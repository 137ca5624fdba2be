"""MT-bench's data: questions, reference answers and judge prompts in FastChat's formats, from the package, a folder, a
file of one's own, or FastChat's repository at a pinned commit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from harness import datafiles
from harness.errors import DataError
from harness.mt_prompts import NEED_REFERENCE, Item

REPOSITORY = "https://raw.githubusercontent.com/lm-sys/FastChat"
COMMIT = "587d5cfa1609a43d192cedb8441cac3c17db105d"
QUESTIONS, REFERENCES, PROMPTS = "question.jsonl", "reference_answer/gpt-4.jsonl", "judge_prompts.jsonl"
OFFICIAL_SHA256 = {
    QUESTIONS: "119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7",
    REFERENCES: "f957a5bc977badb66885ec970e6cd08527845780313f0995764260e5777b9b3f",
    PROMPTS: "fd283293406d024f44c174b094ef48031d0687a4682fd3a56b29b138f80281b6",
}
IN_REPOSITORY = {QUESTIONS: f"mt_bench/{QUESTIONS}", REFERENCES: f"mt_bench/{REFERENCES}", PROMPTS: PROMPTS}
BUILTIN = {QUESTIONS: "question.jsonl", REFERENCES: "reference_answer.jsonl", PROMPTS: "judge_prompts.jsonl"}


def builtin(name: str) -> bytes:
    return datafiles.read_bytes(datafiles.asset("mt_bench", BUILTIN[name]))


def official(name: str, folder: Path | None) -> bytes:
    """One of FastChat's files, from a folder or its repository. Raises DataError."""
    expected, url = OFFICIAL_SHA256[name], f"{REPOSITORY}/{COMMIT}/fastchat/llm_judge/data/{IN_REPOSITORY[name]}"
    if folder is None:
        how = f"download it elsewhere as mt_bench/{name} and set HARNESS_DATA to the folder that holds mt_bench/"
        return datafiles.download(url, expected, f"mt_bench-{COMMIT[:12]}", how)
    if not (folder / name).is_file():
        raise DataError(f"{folder} has no {name}; expected FastChat's file, from {url}")
    instead = "give other questions as `questions: FILE`"
    return datafiles.official(datafiles.read_bytes(folder / name), expected, str(folder / name), instead)


def items(questions: bytes, references: bytes, where: str) -> list[Item]:
    """Questions with their reference answers, where their category needs them. Raises DataError."""
    answers = {
        str(row.get("question_id")): row for row in datafiles.json_lines(references, f"reference answers of {where}")
    }
    found: dict[str, Item] = {}
    for row in datafiles.json_lines(questions, where):
        item = _item(row, answers, f"{where}, question {row.get('question_id')}")
        if item.id in found:
            raise DataError(f"{where}: question_id {item.id} is there twice; rows are joined by it")
        found[item.id] = item
    if not found:
        raise DataError(f"{where}: no rows")
    return list(found.values())


def _item(row: Mapping[str, Any], references: Mapping[str, Mapping[str, Any]], where: str) -> Item:
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
    return Item(question_id, category, tuple(turns), tuple(reference[: len(turns)]) if reference else None)


def are_texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)


def templates(data: bytes, where: str) -> dict[str, dict[str, Any]]:
    """Judge prompts by FastChat's names. Raises DataError."""
    return {str(row.get("name")): row for row in datafiles.json_lines(data, where)}
