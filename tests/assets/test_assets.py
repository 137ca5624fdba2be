"""The quickstart's own data keeps its promises: counts, formats, balance, no leak from seeds to evaluation sets."""

import ast
import json
import operator
import re
import shutil
import string
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import combinations, product
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from rapidfuzz import fuzz, utils

import harness

ASSETS = Path(harness.__file__).parent / "assets"
CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
WITH_REFERENCE = {"reasoning", "math", "coding"}
TOO_SIMILAR = 70
SLOTS = {
    "single-v1": {"question", "answer"},
    "single-math-v1": {"question", "answer", "ref_answer_1"},
    "single-v1-multi-turn": {"question_1", "answer_1", "question_2", "answer_2"},
    "single-math-v1-multi-turn": {
        "question_1",
        "answer_1",
        "question_2",
        "answer_2",
        "ref_answer_1",
        "ref_answer_2",
    },
}


def read_jsonl(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (ASSETS / name).read_text(encoding="utf-8").splitlines()]


SEEDS = read_jsonl("seeds.jsonl")
ALPACA: list[dict[str, str]] = json.loads((ASSETS / "alpaca_eval.json").read_text(encoding="utf-8"))
QUESTIONS = read_jsonl("mt_bench/question.jsonl")
REFERENCES = read_jsonl("mt_bench/reference_answer.jsonl")
JUDGE_PROMPTS = {row["name"]: row for row in read_jsonl("mt_bench/judge_prompts.jsonl")}

SEED_PROMPTS = [row["prompt"] for row in SEEDS]
ALPACA_PROMPTS = [row["instruction"] for row in ALPACA]
MT_TURNS = [turn for row in QUESTIONS for turn in row["turns"]]
GOOD_ANSWERS = [
    *(row["chosen"] for row in SEEDS),
    *(row["output"] for row in ALPACA),
    *(turn for row in REFERENCES for turn in row["choices"][0]["turns"]),
]


def words(text: str) -> int:
    return len(text.split())


def similarity(a: str, b: str) -> float:
    """The larger of the plain and the case- and punctuation-blind token_set_ratio, 0 to 100."""
    return max(fuzz.token_set_ratio(a, b), fuzz.token_set_ratio(a, b, processor=utils.default_process))


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from strings(list(value.values()))
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


@pytest.mark.parametrize("rows", [SEEDS, ALPACA, QUESTIONS, REFERENCES, list(JUDGE_PROMPTS.values())])
def test_no_text_is_empty_or_padded(rows: list[dict[str, Any]]) -> None:
    for text in strings(rows):
        assert text
        assert text == text.strip()


def test_seeds_are_eight_a_category_in_the_promised_columns() -> None:
    assert all(list(row) == ["prompt", "chosen", "rejected", "category"] for row in SEEDS)
    assert Counter(row["category"] for row in SEEDS) == dict.fromkeys(CATEGORIES, 8)


def test_the_first_seeds_are_spread_over_the_categories() -> None:
    """A recipe's `limit` takes the first rows."""
    assert [row["category"] for row in SEEDS] == list(CATEGORIES) * 8


@pytest.mark.parametrize("row", SEEDS, ids=SEED_PROMPTS)
def test_seed_lengths(row: dict[str, str]) -> None:
    assert 8 <= words(row["prompt"]) <= 45
    assert 25 <= words(row["chosen"]) <= 90
    assert row["chosen"] != row["rejected"]


@pytest.mark.parametrize("length", [words, len], ids=["words", "characters"])
def test_length_does_not_tell_chosen_from_rejected(length: Callable[[str], int]) -> None:
    chosen = [length(row["chosen"]) for row in SEEDS]
    rejected = [length(row["rejected"]) for row in SEEDS]
    assert mean(rejected) / mean(chosen) == pytest.approx(1, abs=0.15)
    longer = mean(r > c for c, r in zip(chosen, rejected, strict=True))
    assert 0.4 <= longer <= 0.6


def test_alpaca_eval_format() -> None:
    assert len(ALPACA) == 32
    for row in ALPACA:
        assert list(row) == ["instruction", "output", "generator", "dataset"]
        assert (row["generator"], row["dataset"]) == ("harness_reference", "harness_quickstart")
        assert 6 <= words(row["instruction"]) <= 40
        assert 30 <= words(row["output"]) <= 100


def test_mt_bench_questions_are_two_a_category_with_references_where_fastchat_wants_them() -> None:
    assert [row["question_id"] for row in QUESTIONS] == list(range(1001, 1017))
    assert Counter(row["category"] for row in QUESTIONS) == dict.fromkeys(CATEGORIES, 2)
    for row in QUESTIONS:
        expected = {"question_id", "category", "turns"} | ({"reference"} & row.keys())
        assert set(row) == expected
        assert len(row["turns"]) == 2
        assert ("reference" in row) == (row["category"] in WITH_REFERENCE)
        assert len(row.get("reference", ["", ""])) == 2


def test_mt_bench_reference_answers_cover_math_reasoning_and_coding() -> None:
    wanted = [row["question_id"] for row in QUESTIONS if row["category"] in WITH_REFERENCE]
    assert [row["question_id"] for row in REFERENCES] == wanted
    assert len({row["answer_id"] for row in REFERENCES}) == len(REFERENCES) == 6
    for row in REFERENCES:
        assert set(row) == {"question_id", "answer_id", "model_id", "choices", "tstamp"}
        assert (row["model_id"], row["tstamp"]) == ("harness-reference", 0)
        (choice,) = row["choices"]
        assert choice["index"] == 0
        assert len(choice["turns"]) == 2


@pytest.mark.parametrize(
    "pairs",
    [
        pytest.param(list(combinations(SEED_PROMPTS, 2)), id="seeds-seeds"),
        pytest.param(list(combinations(ALPACA_PROMPTS, 2)), id="alpaca-alpaca"),
        pytest.param(list(product(SEED_PROMPTS, ALPACA_PROMPTS)), id="seeds-alpaca"),
        pytest.param(list(product(SEED_PROMPTS, MT_TURNS)), id="seeds-mt_bench"),
        pytest.param(list(product(ALPACA_PROMPTS, MT_TURNS)), id="alpaca-mt_bench"),
        pytest.param(list(combinations([row["turns"][0] for row in QUESTIONS], 2)), id="mt_bench-mt_bench"),
    ],
)
def test_no_two_prompts_are_alike(pairs: list[tuple[str, str]]) -> None:
    closest = max(pairs, key=lambda pair: similarity(*pair))
    assert similarity(*closest) < TOO_SIMILAR, closest


def test_python_blocks_compile_and_run() -> None:
    blocks = [b for text in GOOD_ANSWERS for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]
    assert len(blocks) >= 10
    for block in blocks:
        exec(compile(block, "<asset>", "exec"), {})


def test_json_blocks_parse() -> None:
    blocks = [b for text in GOOD_ANSWERS for b in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]
    assert blocks
    for block in blocks:
        json.loads(block)


def test_claimed_results_of_python_calls_hold() -> None:
    """Where a text says `call` returns `value`, the block above it returns just that."""
    checked = 0
    for text in GOOD_ANSWERS:
        block = re.search(r"```python\n(.*?)```", text, re.DOTALL)
        claims = re.findall(r"`([a-z_]+\([^`]*\))` returns (?:`([^`]+)`|(\"[^\"]*\"|\d+))", text)
        for call, quoted, plain in claims:
            assert block
            scope: dict[str, Any] = {}
            exec(block[1], scope)
            assert eval(call, scope) == ast.literal_eval(quoted or plain), call
            checked += 1
    assert checked >= 7


OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def value(source: str) -> Fraction:
    """Exact value of an expression of numbers, + - * / and brackets."""

    def visit(node: ast.expr) -> Fraction:
        if isinstance(node, ast.BinOp):
            return OPERATORS[type(node.op)](visit(node.left), visit(node.right))
        assert isinstance(node, ast.Constant)
        return Fraction(str(node.value))

    return visit(ast.parse(source, mode="eval").body)


def equations(text: str) -> Iterator[list[str]]:
    """Chains such as `2 × 19.5 = 39`, as their sides; what holds a letter is left out."""
    prose = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL).replace("×", "*")
    for chain in re.findall(r"[\d(][\d.()+*/ -]*(?: *=[\d.()+*/ -]*\d\)?)+", prose):
        yield [side.strip() for side in chain.split("=")]


def test_written_arithmetic_is_right() -> None:
    found = [sides for text in GOOD_ANSWERS for sides in equations(text)]
    assert len(found) >= 25
    for sides in found:
        assert len({value(side) for side in sides}) == 1, " = ".join(sides)


def test_judge_prompts_take_fastchats_placeholders_and_ask_for_a_rating() -> None:
    assert list(JUDGE_PROMPTS) == list(SLOTS)
    for name, row in JUDGE_PROMPTS.items():
        assert set(row) == {
            "name",
            "type",
            "system_prompt",
            "prompt_template",
            "description",
            "category",
            "output_format",
        }
        assert (row["type"], row["output_format"]) == ("single", "[[rating]]")
        template = row["prompt_template"]
        fields = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
        assert sorted(fields) == sorted(SLOTS[name])
        filled = template.format(**{field: f"<{field}>" for field in fields})
        assert all(f"<{field}>" in filled for field in fields)
        assert "from 1 to 10" in filled
        assert '"[[rating]]"' in filled
        assert '"Rating: [[5]]"' in filled
        assert words(row["system_prompt"] + " " + re.sub(r"\{\w+\}", "", template)) < 120


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SLOTS))
def test_fastchat_judges_with_these_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FastChat's own loaders and judge read the files; only its call to the server is replaced."""
    from fastchat.llm_judge import common

    folder = tmp_path / "reference_answer"
    folder.mkdir()
    shutil.copy(ASSETS / "mt_bench" / "reference_answer.jsonl", folder / "harness-reference.jsonl")
    references = common.load_model_answers(str(folder))["harness-reference"]
    questions = common.load_questions(str(ASSETS / "mt_bench" / "question.jsonl"), None, None)
    template = common.load_judge_prompts(str(ASSETS / "mt_bench" / "judge_prompts.jsonl"))[name]
    monkeypatch.setattr(common, "chat_completion_openai", lambda *_, **__: "Clear enough. Rating: [[7]]")

    answer = {"choices": [{"turns": ["the first answer", "the second answer"]}]}
    multi_turn, with_reference = "multi-turn" in name, "math" in name
    judge = common.Judge("gpt-4", template, ref_based=with_reference, multi_turn=multi_turn)
    for question in questions:
        if with_reference != (question["category"] in WITH_REFERENCE):
            continue
        reference = references[question["question_id"]] if with_reference else None
        rating, prompt, _ = common.run_judge_single(question, answer, judge, reference, multi_turn=multi_turn)
        assert rating == 7
        for turn in range(2 if multi_turn else 1):
            assert question["turns"][turn] in prompt
            assert answer["choices"][0]["turns"][turn] in prompt
            assert not with_reference or reference["choices"][0]["turns"][turn] in prompt


def test_texts_are_not_those_of_the_public_sets(shared_data: Path) -> None:
    """No prompt of ours is one of MT-bench's turns."""
    path = shared_data / "mt_bench" / "question.jsonl"
    public = {turn for line in path.read_text(encoding="utf-8").splitlines() for turn in json.loads(line)["turns"]}
    ours = [*SEED_PROMPTS, *ALPACA_PROMPTS, *MT_TURNS]
    assert max(fuzz.ratio(a, b) for a in ours for b in public) < TOO_SIMILAR
