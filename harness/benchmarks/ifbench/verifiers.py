"""IFBench's prompts, and its verifiers as `if-verifiable` has them."""

import random
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple
from unittest.mock import patch

from harness.errors import DataError, need
from harness.files import json_lines

RESOURCES = {
    "punkt_tab": "tokenizers/punkt_tab",
    "stopwords": "corpora/stopwords",
    "averaged_perceptron_tagger_eng": "taggers/averaged_perceptron_tagger_eng",
}
"""Of NLTK's data, by the names of its downloader."""


class Constrained(NamedTuple):
    """A prompt with its constraints and their arguments."""

    id: str
    prompt: str
    instructions: tuple[str, ...]
    arguments: tuple[Mapping[str, Any], ...]


class Kept(NamedTuple):
    """Whether each constraint is kept: by the answer as it is, or in one of the forms of the loose check. `missing`:
    the data that a verifier lacks; nothing is scored then."""

    strict: tuple[bool, ...] = ()
    loose: tuple[bool, ...] = ()
    missing: str | None = None


def parse_prompts(data: bytes, where: str) -> list[Constrained]:
    """Prompts in IFBench's format. Raises DataError."""
    found = [_prompt(row, f"{where}, row {i}") for i, row in enumerate(json_lines(data, where), start=1)]
    if not found or len({one.id for one in found}) < len(found):
        raise DataError(f"{where}: expected rows, each with its own key")
    return found


def _prompt(row: Mapping[str, Any], where: str) -> Constrained:
    names, arguments = row.get("instruction_id_list"), row.get("kwargs")
    if not isinstance(row.get("prompt"), str) or not isinstance(names, list) or not isinstance(arguments, list):
        raise DataError(f"{where}: expected key, prompt, instruction_id_list and kwargs")
    if not names or len(names) != len(arguments) or not all(isinstance(one, Mapping) for one in arguments):
        raise DataError(f"{where}: expected as many kwargs as there are instructions, and at least one")
    return Constrained(str(row.get("key")), row["prompt"], tuple(map(str, names)), tuple(arguments))


def verifiers_version() -> str | None:
    """The installed version of the verifiers; None: none is."""
    try:
        return version("if-verifiable")
    except PackageNotFoundError:
        return None


def check_verifiers() -> None:
    """Raise a HarnessError unless the verifiers and all their data are on this machine."""
    need("benchmark 'ifbench'", ("if_verifiable", "nltk"))
    import nltk

    missing = []
    for name, path in RESOURCES.items():
        try:
            nltk.data.find(path)
        except LookupError:
            missing.append(name)
    if missing:
        raise DataError(f"benchmark ifbench needs NLTK's data: python -m nltk.downloader {' '.join(missing)}")


def kept(asked: Constrained, answer: str) -> Kept:
    """Verify an answer. Raises DataError for a constraint that has no verifier."""
    with patch("nltk.download", lambda *_, **__: False):  # what is imported here would fetch on its own
        from if_verifiable import evaluate_output_for_sample
        from if_verifiable.ifbench.instructions_registry import INSTRUCTION_DICT
        from if_verifiable.types import IFBenchSample

    if strange := [name for name in asked.instructions if name not in INSTRUCTION_DICT]:
        raise DataError(f"ifbench: no verifier of {strange[0]!r}, which prompt {asked.id} asks for")
    if not answer.strip():
        nothing = (False,) * len(asked.instructions)
        return Kept(nothing, nothing)
    sample = IFBenchSample(asked.id, asked.prompt, list(asked.instructions), [dict(one) for one in asked.arguments])
    state = random.getstate()
    random.seed(0)  # an argument that a prompt leaves open is drawn
    try:
        results, _ = evaluate_output_for_sample("ifbench", sample, answer)
    except LookupError as error:
        if "nltk" not in str(error).lower():
            raise
        return Kept(missing="data of NLTK: python -m nltk.downloader " + " ".join(RESOURCES))
    finally:
        random.setstate(state)
    if not results:  # nothing but a thought, which the verifiers leave out
        nothing = (False,) * len(asked.instructions)
        return Kept(nothing, nothing)
    return Kept(tuple(bool(r.strict_pass) for r in results), tuple(bool(r.loose_pass) for r in results))
