"""MT-bench: two-turn questions in eight categories, each turn rated from 1 to 10 (arXiv 2306.05685)."""

import math
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ConfigDict, Field

from harness import datafiles, mt_files
from harness.components import Component, RecipePath
from harness.errors import DataError
from harness.protocols import Judged
from harness.stats import mean_metric
from harness.types import Answer, Ask, JudgeReply, JudgeRequest, Message, Metric, Question, Verdict, ask_readable

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
TEMPERATURES = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1} | dict.fromkeys(
    ("extraction", "math", "coding", "reasoning", "arena-hard-200"), 0.0
)
"""FastChat's `temperature_config`: how answers are sampled, by category. A category that isn't there: 0.7."""
NEED_REFERENCE = frozenset({"math", "reasoning", "coding", "arena-hard-200"})
"""FastChat's `NEED_REF_CATS`: the judge sees a reference answer."""
RATINGS = tuple(f"[[{rating}]]" for rating in range(1, 11))


class _Item(NamedTuple):
    id: str
    category: str
    turns: tuple[str, str]
    reference: tuple[str, str] | None


class MtBench(Component):
    """FastChat's single-answer grading: its questions, judge prompts, reference answers and rating patterns.

    `questions`: `official` (80; read from `data_dir`, from `$HARNESS_DATA/mt_bench`, or fetched from FastChat's
    repository at a pinned commit; SHA-256 checked), `builtin` (the package's own), or a JSONL file in FastChat's format
    (reference answers in `reference_answer/gpt-4.jsonl` beside it). `judge_prompts`: `builtin`, `official`, or `auto`:
    builtin with builtin questions, official otherwise. `limit`: that many questions, evenly spaced.

    The verdict on a turn is the rating in the judge's text, by FastChat's patterns; one that is missing or outside
    [1, 10] is not scored. A judge that answers with probabilities of all ten ratings gives their expectation instead
    (less coarse than the most probable rating); `detail` says which it was.
    """

    model_config = ConfigDict(populate_by_name=True)

    # `questions` in a recipe; here it would hide the method of that name.
    question_set: Literal["builtin", "official"] | RecipePath = Field(
        "official", alias="questions", union_mode="left_to_right"
    )
    data_dir: RecipePath | None = None
    limit: int | None = Field(None, ge=1)
    judge_prompts: Literal["auto", "builtin", "official"] = "auto"

    @property
    def needs_row(self) -> None:
        """No other row's answers are wanted: answers are rated on their own."""
        return

    def identity(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "questions": {"sha256": self._hash(QUESTIONS)},
            "references_sha256": self._hash(REFERENCES),
            "judge_prompts_sha256": self._hash(PROMPTS),
            "limit": self.limit,
            "fschat": version("fschat"),
        }

    def question_identity(self) -> dict[str, Any]:
        """The part of `identity()` that answers depend on."""
        return {key: value for key, value in self.identity().items() if key in {"name", "questions", "limit"}}

    def check(self) -> None:
        local = [name for name in OFFICIAL_SHA256 if not self._is_fetched(name)]
        if PROMPTS in local:
            self._templates()
        if QUESTIONS in local:
            self._items()

    def prepare(self) -> None:
        """Fetch questions, reference answers and judge prompts, where they are not here yet."""
        self._items()
        self._templates()

    def questions(self) -> list[Question]:
        """Both turns of every question, at its category's temperature."""
        return [
            Question(
                id=item.id, turns=item.turns, category=item.category, temperature=TEMPERATURES.get(item.category, 0.7)
            )
            for item in self._items()
        ]

    def all_prompts(self) -> list[tuple[str, str]]:
        """Every turn of every question, whatever the limit, as `question id/turn`. Needs no reference answers."""
        rows = datafiles.json_lines(self._read(QUESTIONS), f"questions {self.question_set}")
        turns = [(row.get("question_id"), row.get("turns")) for row in rows]
        if not turns or not all(_two_texts(texts) for _, texts in turns):
            raise DataError(f"questions {self.question_set}: expected rows with two texts under turns")
        return [(f"{key}/{i}", text) for key, texts in turns for i, text in enumerate(texts or (), start=1)]

    def verdicts(self, answers: Sequence[Answer], reference: Sequence[Answer], ask: Ask) -> list[Verdict]:
        """Two verdicts a question, first turn first, in the questions' order; values from 1 to 10."""
        templates = self._templates()
        answered = {a.question_id: a.turns for a in answers}
        places = [(item, turn) for item in self._items() for turn in (1, 2)]
        requests = {
            (item.id, turn): _request(templates, item, answered[item.id], turn)
            for item, turn in places
            if len(answered.get(item.id, ())) >= 2
        }
        replies = dict(zip(requests, ask_readable(ask, list(requests.values()), _unread), strict=True))
        return [
            _verdict(item, turn, requests.get((item.id, turn)), replies.get((item.id, turn))) for item, turn in places
        ]

    def metrics(
        self, answers: Sequence[Answer], reference: Sequence[Answer], verdicts: Sequence[Verdict]
    ) -> dict[str, Metric]:
        """`score` (all turns), `turn_1`, `turn_2`, and one figure a category. Turns of a question go together in the
        intervals."""
        parts = {"score": list(verdicts)}
        parts |= {f"turn_{turn}": [v for v in verdicts if v.turn == turn] for turn in (1, 2)}
        categories = dict.fromkeys(v.category for v in verdicts if v.category is not None)
        parts |= {category: [v for v in verdicts if v.category == category] for category in categories}
        return {
            f"mt_bench.{name}": mean_metric([v.value for v in part], groups=[v.question_id for v in part])
            for name, part in parts.items()
        }

    def recorded_answers(self, path: Path) -> tuple[list[Answer], dict[str, int]]:
        """A model's answers in FastChat's format (see `harness.mt_files`)."""
        return mt_files.read_answers(datafiles.read_bytes(path), str(path), self.questions())

    def recorded_verdicts(self, path: Path, answers: Sequence[Answer]) -> tuple[list[Verdict], dict[str, int], str]:
        """Judgments on them in FastChat's format."""
        return mt_files.read_judgments(datafiles.read_bytes(path), str(path), answers, self.questions())

    def public_files(self, judge: str, rows: Sequence[Judged]) -> dict[str, str]:
        """FastChat's layout: in the board's folder `python -m fastchat.llm_judge.show_result --judge-model JUDGE` reads
        `data/mt_bench/model_judgment/<judge>_single.jsonl`; questions and answers are beside it."""
        folder = f"data/{self.name}"
        files = {f"{folder}/question.jsonl": mt_files.questions_text(self.questions())}
        files |= {
            f"{folder}/model_answer/{datafiles.file_name(r.row)}.jsonl": mt_files.answers_text(r.answers, r.row)
            for r in rows
        }
        judgments = "".join(mt_files.judgments_text(r.verdicts, r.row, judge) for r in rows)
        return files | {f"{folder}/model_judgment/{datafiles.file_name(judge)}_single.jsonl": judgments}

    def _source(self, name: str) -> Literal["builtin", "official"] | Path:
        if name != PROMPTS:
            return self.question_set
        if self.judge_prompts != "auto":
            return self.judge_prompts
        return "builtin" if self.question_set == "builtin" else "official"

    def _is_fetched(self, name: str) -> bool:
        return self._source(name) == "official" and datafiles.local_folder(self.data_dir, "mt_bench") is None

    def _hash(self, name: str) -> str:
        return OFFICIAL_SHA256[name] if self._source(name) == "official" else datafiles.sha256(self._read(name))

    def _read(self, name: str) -> bytes:
        """One of the three files. Raises DataError."""
        source = self._source(name)
        if source == "builtin":
            return datafiles.read_bytes(datafiles.asset("mt_bench", BUILTIN[name]))
        if source == "official":
            return _official(name, datafiles.local_folder(self.data_dir, "mt_bench"))
        if not Path(source).is_file():
            raise DataError(f"questions: no file {source}; expected builtin, official, or a JSONL file")
        if name == QUESTIONS:
            return datafiles.read_bytes(Path(source))
        references = Path(source).parent / REFERENCES
        return datafiles.read_bytes(references) if references.is_file() else b""

    def _items(self) -> list[_Item]:
        """The questions, as limited, with their reference answers. Raises DataError."""
        references = {}
        for row in datafiles.json_lines(self._read(REFERENCES), f"reference answers of {self.question_set} questions"):
            references[str(row.get("question_id"))] = row
        where = f"questions {self.question_set}"
        items: dict[str, _Item] = {}
        for row in datafiles.json_lines(self._read(QUESTIONS), where):
            item = _item(row, references, f"{where}, question {row.get('question_id')}")
            if item.id in items:
                raise DataError(f"{where}: question_id {item.id} is there twice; rows are joined by it")
            items[item.id] = item
        if not items:
            raise DataError(f"{where}: no rows")
        return datafiles.evenly_spaced(list(items.values()), self.limit)

    def _templates(self) -> dict[str, dict[str, Any]]:
        """The judge's prompt templates by FastChat's names. Raises DataError."""
        where = f"{self._source(PROMPTS)} judge prompts"
        templates = {str(row.get("name")): row for row in datafiles.json_lines(self._read(PROMPTS), where)}
        for name in ("single-v1", "single-math-v1", "single-v1-multi-turn", "single-math-v1-multi-turn"):
            template = templates.get(name, {})
            if not isinstance(template.get("prompt_template"), str) or template.get("output_format") != "[[rating]]":
                raise DataError(
                    f"{where}: expected a template '{name}' with prompt_template and output_format [[rating]]"
                )
        return templates


def _official(name: str, folder: Path | None) -> bytes:
    """One of FastChat's files, from a folder or its repository. Raises DataError."""
    expected, url = OFFICIAL_SHA256[name], f"{REPOSITORY}/{COMMIT}/fastchat/llm_judge/data/{IN_REPOSITORY[name]}"
    if folder is None:
        how = f"download it elsewhere as mt_bench/{name} and set HARNESS_DATA to the folder that holds mt_bench/"
        return datafiles.download(url, expected, f"mt_bench-{COMMIT[:12]}", how)
    if not (folder / name).is_file():
        raise DataError(f"{folder} has no {name}; expected FastChat's file, from {url}")
    instead = "give other questions as `questions: FILE`"
    return datafiles.official(datafiles.read_bytes(folder / name), expected, str(folder / name), instead)


def _item(row: dict[str, Any], references: dict[str, dict[str, Any]], where: str) -> _Item:
    turns, category = row.get("turns"), row.get("category")
    if row.get("question_id") is None or not isinstance(category, str) or not _two_texts(turns):
        raise DataError(f"{where}: expected question_id, category, and two texts under turns")
    question_id, reference = str(row["question_id"]), None
    if category in NEED_REFERENCE:
        try:
            reference = references[question_id]["choices"][0]["turns"]
        except (KeyError, IndexError, TypeError):
            raise DataError(f"{where}: {category} needs a reference answer; expected one in {REFERENCES}") from None
        if not _two_texts(reference):
            raise DataError(f"{where}: its reference answer must have two texts under choices[0].turns")
    return _Item(question_id, category, tuple(turns), tuple(reference) if reference else None)  # type: ignore[arg-type]


def _two_texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(text, str) for text in value)


def template_name(item: _Item, turn: int) -> str:
    """FastChat's name of the judge prompt for a turn."""
    return ("single-v1" if item.reference is None else "single-math-v1") + ("" if turn == 1 else "-multi-turn")


def _request(
    templates: dict[str, dict[str, Any]], item: _Item, answer: tuple[str, ...], turn: Literal[1, 2] | int
) -> JudgeRequest:
    """What FastChat's `run_judge_single` sends: both turns are shown for a verdict on the second."""
    name = template_name(item, turn)
    values = {"question": item.turns[0], "answer": answer[0]}
    if turn == 2:
        values = {f"question_{i + 1}": text for i, text in enumerate(item.turns)}
        values |= {f"answer_{i + 1}": text for i, text in enumerate(answer[:2])}
    values |= {f"ref_answer_{i + 1}": text for i, text in enumerate((item.reference or ())[:turn])}
    try:
        prompt = templates[name]["prompt_template"].format(**values)
    except (KeyError, IndexError, ValueError) as error:
        raise DataError(f"judge prompt '{name}' can't be filled in: {error}; it may name {sorted(values)}") from None
    system = templates[name].get("system_prompt") or ""
    messages = (Message(role="system", content=system),) if system else ()
    return JudgeRequest(messages=(*messages, Message(role="user", content=prompt)), max_tokens=2048, choices=RATINGS)


def _verdict(item: _Item, turn: int, request: JudgeRequest | None, reply: JudgeReply | None) -> Verdict:
    if request is None or reply is None:
        return Verdict(question_id=item.id, turn=turn, category=item.category, value=None, invalid="no answer")
    value, invalid, source = None, reply.error, None
    if invalid is None and _has_probabilities(reply):
        assert reply.logprobs is not None
        source = "probabilities"
        weights = [math.exp(reply.logprobs[rating]) for rating in RATINGS]
        value = sum(w * rating for rating, w in enumerate(weights, start=1)) / sum(weights)
    elif invalid is None:
        source = "text"
        value, invalid = parse_rating(reply.text)
    return Verdict(
        question_id=item.id,
        turn=turn,
        category=item.category,
        value=value,
        invalid=invalid,
        prompt=request.messages[-1].content,
        reply=reply.text,
        detail={
            "rating_from": source,
            "template": template_name(item, turn),
            "logprobs": reply.logprobs,
            "price": reply.price,
        },
    )


def _has_probabilities(reply: JudgeReply) -> bool:
    return reply.logprobs is not None and set(RATINGS) <= set(reply.logprobs)


def _unread(reply: JudgeReply) -> str | None:
    return None if _has_probabilities(reply) else parse_rating(reply.text)[1]


def parse_rating(judgment: str) -> tuple[float | None, str | None]:
    """(rating, None) by FastChat's patterns, `[[5]]` before `[5]`, the first of each; or (None, why not)."""
    from fastchat.llm_judge.common import one_score_pattern, one_score_pattern_backup

    match = re.search(one_score_pattern, judgment) or re.search(one_score_pattern_backup, judgment)
    if match is None:
        return None, "no rating in the judge's reply" if judgment.strip() else "the judge's reply is empty"
    rating = float(match.group(1))
    if not 1 <= rating <= 10:
        return None, f"the rating {match.group(1)} is outside [1, 10]"
    return rating, None
