"""IFBench (arXiv 2507.02833): 300 prompts with verifiable constraints. No judge is asked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from harness import files
from harness.benchmark import ANY, Benchmark, Wanted
from harness.benchmarks.ifbench.verifiers import (
    Constrained,
    check_verifiers,
    kept,
    parse_prompts,
    verifiers_version,
)
from harness.components import RecipePath
from harness.errors import DataError
from harness.figures import Figure, Pairing
from harness.types import Answer, Ask, Question, Verdict

FILE = "IFBench_test.jsonl"
SHA256 = "a2bf7b8e7ed11d39c65b4ec781da8b99663ed0121f97033d70fcecb61f8a9d85"
URL = f"https://raw.githubusercontent.com/allenai/IFBench/main/data/{FILE}"
STRICT, LOOSE = 1, 2
"""The turns of verdicts: an answer is verified in two ways."""


class IfBench(Benchmark):
    """The share of prompts all of whose constraints an answer keeps: strictly, and loosely (also without a first or
    last line, or without the asterisks of Markdown).

    `limit`: that many prompts, evenly spaced. `data_dir`: a folder with `IFBench_test.jsonl` (or .gz); else it is read
    from `$HARNESS_DATA/ifbench`, or fetched from AI2's repository, its SHA-256 checked.
    """

    needs: ClassVar[tuple[str, ...]] = ("if_verifiable", "nltk")
    title: ClassVar[str] = "IFBench"
    judged: ClassVar[bool] = False
    figures: ClassVar[tuple[Figure, ...]] = (
        Figure(
            metric="ifbench.strict",
            group="IFBench",
            title="prompts, strict",
            short="strict",
            unit="%",
            pairing=Pairing(scale=100, turn=STRICT),
            limits=(0.0, 100.0),
            place="details",
        ),
        Figure(
            metric="ifbench.loose",
            group="IFBench",
            title="prompts, loose",
            short="loose",
            unit="%",
            pairing=Pairing(scale=100, turn=LOOSE),
            limits=(0.0, 100.0),
            tax="instruction following",
        ),
    )
    unkeyed: ClassVar[frozenset[str]] = frozenset({"data_dir"})

    name: Literal["ifbench"] = "ifbench"
    limit: int | None = Field(None, ge=1)
    data_dir: RecipePath | None = None

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "sha256": SHA256, "if_verifiable": verifiers_version()}

    def question_identity(self) -> dict[str, Any]:
        return {"name": self.name, "limit": self.limit, "sha256": SHA256}

    def check(self) -> None:
        check_verifiers()
        if files.local_folder(self.data_dir, self.name) is not None:
            self._read()

    def prepare(self) -> None:
        self._read()

    def load_questions(self) -> list[Question]:
        return [Question(id=one.id, turns=(one.prompt,)) for one in self._prompts()]

    def all_prompts(self) -> list[tuple[str, str]]:
        return [(one.id, one.prompt) for one in self._read()]

    def verdicts(self, answers: Sequence[Answer], reference: Sequence[Answer], ask: Ask) -> list[Verdict]:
        """Two per prompt, strict and loose: 1 if all constraints are kept, else 0."""
        texts = {answer.question_id: answer.turns[0] for answer in answers if answer.turns}
        return [verdict for one in self._prompts() for verdict in _verdicts(one, texts.get(one.id))]

    def recorded_answers(self, path: Path, wanted: Wanted = ANY) -> tuple[list[Answer], dict[str, int]]:
        """Answers in IFBench's format: rows of `prompt` and `response`. Prompts are matched by their text without the
        spaces around it, in which its own sample outputs differ."""
        ids = {one.prompt.strip(): one.id for one in self._prompts()}
        found: dict[str, Answer] = {}
        unknown = repeated = 0
        for i, row in enumerate(files.json_lines(files.read_bytes(path), str(path)), start=1):
            if not isinstance(row.get("prompt"), str) or not isinstance(row.get("response"), str):
                raise DataError(f"{path}, row {i}: expected texts under prompt and response")
            key = ids.get(row["prompt"].strip())
            if key is None:
                unknown += 1
            elif key in found:
                repeated += 1
            else:
                found[key] = Answer(question_id=key, turns=(row["response"],), finish_reasons=(), tokens=None)
        counts = {"missing": len(ids) - len(found), "unknown": unknown, "repeated": repeated}
        return list(found.values()), {name: count for name, count in counts.items() if count}

    def _prompts(self) -> list[Constrained]:
        return files.evenly_spaced(self._read(), self.limit)

    def _read(self) -> list[Constrained]:
        """All prompts. Raises DataError."""
        folder = files.local_folder(self.data_dir, self.name)
        if folder is None:
            how = f"download it elsewhere as ifbench/{FILE} and set HARNESS_DATA to the folder that holds ifbench/"
            return parse_prompts(files.download(URL, SHA256, "ifbench", how), URL)
        paths = [path for path in (folder / FILE, folder / f"{FILE}.gz") if path.is_file()]
        if not paths:
            raise DataError(f"{folder} has no {FILE}; expected AI2's file, from {URL}")
        data = files.official(files.read_bytes(paths[0]), SHA256, str(paths[0]), "leave the benchmark out")
        return parse_prompts(data, str(paths[0]))


def _verdicts(asked: Constrained, answer: str | None) -> list[Verdict]:
    found = None if answer is None else kept(asked, answer)
    ways = {STRICT: "strict", LOOSE: "loose"}
    if found is None or found.missing:
        invalid = "no answer" if found is None else f"a verifier lacks {found.missing}"
        return [Verdict(question_id=asked.id, turn=turn, value=None, invalid=invalid) for turn in ways]
    verdicts = []
    for turn, held in ((STRICT, found.strict), (LOOSE, found.loose)):
        said = ", ".join(
            f"{name}: {'kept' if one else 'broken'}" for name, one in zip(asked.instructions, held, strict=True)
        )
        verdicts.append(
            Verdict(
                question_id=asked.id,
                turn=turn,
                value=float(all(held)),
                reply=f"{ways[turn]}: {said}",
                detail={"kept": list(held)},
            )
        )
    return verdicts
