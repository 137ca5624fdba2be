"""Leaks: what is planted is found, edited or not; what is not, is spared; and the command's exit codes."""

import gzip
import json
import os
import random
import string
import subprocess
import sys
from pathlib import Path

import pytest

from harness.data.leak_check import evaluation_prompts
from harness.data.leaks import LeakIndex, words

ROOT = Path(__file__).parents[2]
FILLER = ["please", "really", "just", "very", "quickly", "now", "maybe", "actually", "kindly", "also", "then"]


def alpaca(shared_data: Path) -> list[str]:
    path = shared_data / "alpaca_eval" / "alpaca_eval_gpt4_baseline.json.gz"
    return [row["instruction"] for row in json.loads(gzip.decompress(path.read_bytes()))]


def mt_bench(shared_data: Path) -> list[str]:
    lines = (shared_data / "mt_bench" / "question.jsonl").read_text().splitlines()
    return [turn for line in lines for turn in json.loads(line)["turns"]]


def seeds(shared_data: Path) -> list[str]:
    found = []
    for name, columns in {"orca_dpo_pairs": ["question"], "instruction_preference": ["instruction", "input"]}.items():
        lines = (shared_data / "seeds" / f"{name}.jsonl").read_text().split("\n")
        rows = [json.loads(line) for line in lines if line]
        found += ["\n\n".join(row[c] for c in columns if row.get(c)) for row in rows]
    return found


@pytest.fixture(scope="module")
def index(shared_data: Path) -> LeakIndex:
    named = {"alpaca_eval": alpaca(shared_data), "mt_bench": mt_bench(shared_data)}
    return LeakIndex({name: [(str(i), t) for i, t in enumerate(texts)] for name, texts in named.items()})


def edited(text: str, rng: random.Random, rate: float) -> str:
    """Case and punctuation changed, and words inserted at a rate."""
    out = []
    for word in text.split():
        if rng.random() < rate:
            out.append(rng.choice(FILLER))
        how = rng.random()
        bare = word.strip(".,?!;:\"'()") or word
        out.append(word.upper() if how < 0.15 else word.lower() if how < 0.4 else bare + "," if how < 0.6 else word)
    return " ".join(out)


def test_every_prompt_is_found_as_it_stands_and_inside_another_text(index: LeakIndex, shared_data: Path) -> None:
    for text in alpaca(shared_data) + mt_bench(shared_data):
        found = index.find(text)
        assert found is not None
        assert found.overlap == 1.0
        assert index.find(f"You are a helpful assistant. Answer in detail and step by step.\n\n{text}\n\nThank you!")


@pytest.mark.parametrize("rate", [0.0, 0.15, 0.33])
def test_edited_prompts_are_found(rate: float, index: LeakIndex, shared_data: Path) -> None:
    rng = random.Random(round(100 * rate))
    texts = alpaca(shared_data) + mt_bench(shared_data)
    missed = [text for text in texts if index.find(edited(text, rng, rate)) is None]
    assert len(missed) <= 0.01 * len(texts), missed[:5]


def slipped(text: str, rng: random.Random) -> str:
    """Two neighbouring letters changed about in one long word."""
    parts = text.split()
    places = [i for i, word in enumerate(parts) if len(word) > 5 and word.isalpha()]
    if places:
        at = rng.choice(places)
        k = rng.randrange(len(parts[at]) - 1)
        parts[at] = parts[at][:k] + parts[at][k + 1] + parts[at][k] + parts[at][k + 2 :]
    return " ".join(parts)


@pytest.mark.parametrize("instead", ["", " "])
def test_without_any_punctuation_all_are_found(instead: str, index: LeakIndex, shared_data: Path) -> None:
    """TCP/IP becomes TCPIP or TCP IP, don't becomes dont or don t."""
    bare = str.maketrans(dict.fromkeys(string.punctuation, instead))
    texts = [text for text in alpaca(shared_data) + mt_bench(shared_data) if words(text.translate(bare))]
    assert [text for text in texts if index.find(text.translate(bare)) is None] == []


def test_a_slip_of_the_pen_hides_few(index: LeakIndex, shared_data: Path) -> None:
    rng = random.Random(0)
    texts = alpaca(shared_data) + mt_bench(shared_data)
    missed = [text for text in texts if index.find(slipped(text, rng)) is None]
    assert len(missed) <= 0.01 * len(texts), missed[:5]


def test_other_prompts_are_spared(index: LeakIndex, shared_data: Path) -> None:
    """Of the 1,384 seed prompts one is an AlpacaEval prompt in fact: "What is the capital of Australia?"."""
    hits = [(text, leak.text) for text in seeds(shared_data) if (leak := index.find(text))]
    assert [a.strip() for a, _ in hits] == ["What is the capital of Australia?"]
    assert words(hits[0][1]) == words(hits[0][0])


def test_two_alpaca_prompts_are_mt_benchs_word_by_word_and_no_other_is_near(shared_data: Path) -> None:
    only = LeakIndex({"mt_bench": [(str(i), t) for i, t in enumerate(mt_bench(shared_data))]})
    hits = [(text, leak.text) for text in alpaca(shared_data) if (leak := only.find(text))]
    assert len(hits) == 2
    assert all(words(one) == words(other) for one, other in hits)


def test_small_and_odd_texts() -> None:
    made = LeakIndex({"own": [("a", "Who is Larry Page?"), ("b", "..."), ("c", "")]})
    assert made.find("") is None
    assert made.find("!!!") is None
    assert made.find("who, then, IS larry page") is not None
    assert made.find("Who is Larry the lobster, and on which page does he appear in the book?") is None
    assert made.find("Page Larry is who?") is None  # other order
    assert made.find("Who is Lary Page?") is not None
    unspaced = LeakIndex({"own": [("a", "你能介绍一下长城的历史吗？"), ("b", "日本で一番高い山は何ですか？")]})
    assert unspaced.find("请问，你能简单介绍一下长城的历史吗") is not None
    assert unspaced.find("東京の天気を教えてください。") is None
    assert LeakIndex({}).find("anything") is None


def test_mt_benchs_questions_are_enough(shared_data: Path, tmp_path: Path) -> None:
    """No reference answers and no judge prompts are needed to look for its prompts."""
    (tmp_path / "mt_bench").mkdir()
    questions = (shared_data / "mt_bench" / "question.jsonl").read_bytes()
    (tmp_path / "mt_bench" / "question.jsonl").write_bytes(questions)
    (named,) = evaluation_prompts(["mt_bench"], tmp_path).values()
    assert [text for _, text in named] == mt_bench(shared_data)
    assert named[0][0] == f"{json.loads(questions.splitlines()[0])['question_id']}/1"


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness.cli", "leaks", *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=120)


def test_the_command_tells_line_prompt_and_overlap(shared_data: Path, tmp_path: Path) -> None:
    rng = random.Random(0)
    planted = rng.sample(alpaca(shared_data), 20)
    others = [text for text in seeds(shared_data) if "Australia" not in text][:500]
    rows = [(text, False) for text in others]
    for i, text in enumerate(planted):
        rows.insert(rng.randrange(len(rows)), (text if i < 10 else edited(text, rng, 0.25), True))
    forms = [lambda t: {"prompt": t}, lambda t: {"prompt": [{"role": "user", "content": t}]}, lambda t: t]
    lines = [json.dumps(forms[i % 3](text)) for i, (text, _) in enumerate(rows)]
    (tmp_path / "p.jsonl").write_text("\n".join(lines) + "\n")
    done = run(tmp_path, "p.jsonl", HARNESS_DATA=str(shared_data))
    assert done.returncode == 1, done.stderr
    hits = [json.loads(line) for line in done.stdout.splitlines()]
    assert all({"line", "matched", "overlap"} <= set(hit) for hit in hits)
    assert {hit["line"] for hit in hits} == {i for i, (_, leak) in enumerate(rows, start=1) if leak}
    assert "20 of 520 prompts" in done.stderr
    clean = tmp_path / "clean.jsonl"
    clean.write_text("\n".join(json.dumps({"instruction": t}) for t in others[:50]))
    again = run(tmp_path, "clean.jsonl", "--against", "mt_bench", "--data", str(shared_data))
    assert (again.returncode, again.stdout) == (0, "")


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("{", [], "p.jsonl:1: not JSON"),
        ('{"x": 1}', [], "p.jsonl:1: no prompt; expected a text or one of the columns prompt"),
        ("3", [], "p.jsonl:1: no prompt"),
        ('"hi"', ["--against", "alpaca"], "unknown evaluation set 'alpaca'; did you mean 'alpaca_eval'?"),
        ('"hi"', ["--data", "nowhere"], "nowhere"),
    ],
)
def test_what_can_not_be_compared_is_one_line(
    text: str, arguments: list[str], said: str, shared_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "p.jsonl").write_text(text)
    done = run(tmp_path, "p.jsonl", *arguments, HARNESS_DATA=str(shared_data))
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
