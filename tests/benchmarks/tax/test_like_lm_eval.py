"""The same items have the same scores, whether lm-eval asks a model itself or a run of the harness does; and a planted
regression is caught by the tiers of a gate, while an equal model passes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval", reason="needs preference-harness[lm-eval]")

import harness
from harness.benchmarks.lm_eval.tasks import TaskData, load_task
from harness.boards.read import read_board
from harness.gate.check import PASS, WORSE
from harness.gate.policy import read_policy, run_policy
from harness.models.load import load_causal_lm
from harness.models.tokenizers import load_tokenizer
from tests.benchmarks.tax.data import folder as public
from tests.benchmarks.tax.data import lines

pytestmark = pytest.mark.slow
ITEMS = 50
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven")
MEASURES = {
    1: ("exact_match", "strict-match"),
    2: ("exact_match", "flexible-extract"),
    3: ("acc", "none"),
    4: ("acc_norm", "none"),
}
POLICY = "tiers: [{name: must hold, metrics: [lm_eval.piqa], margin: 15}]\n"


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Items in the format of gsm8k and piqa."""
    folder = tmp_path_factory.mktemp("data")
    sums = [{"question": f"{a} + {a + 1}?", "answer": f"It is {2 * a + 1}.\n#### {2 * a + 1}"} for a in range(ITEMS)]
    write(folder / "gsm8k" / "test.jsonl", sums)
    write(folder / "gsm8k" / "train.jsonl", sums[:5])
    pairs = [  # answers of three digits each: their lengths would decide otherwise
        {
            "goal": f"Say {WORDS[i % 12]} and {WORDS[i % 7]}",
            "sol1": f"{i % 10}{i * 7 % 10}{i % 3}",
            "sol2": f"{(i + 3) % 10}{i * 3 % 10}{i % 7}",
            "label": i % 2,
        }
        for i in range(ITEMS)
    ]
    write(folder / "piqa" / "validation.jsonl", pairs)
    return folder


BOTH = ({"task": "gsm8k", "num_fewshot": 1}, "piqa")


def run(
    folder: Path, name: str, model: Path, data: Path, *, chat: bool = True, tasks: Sequence[Any] = ("piqa",)
) -> Path:
    """The board of a run on this model."""
    benchmark = {"name": "lm_eval", "tasks": list(tasks), "limit": ITEMS, "chat": chat, "data_dir": str(data)}
    recipe = {
        "name": name,
        "policy": {"model": str(model), "dtype": "float32"},
        "data": {"seeds": [{"name": "builtin", "limit": 8}], "report": False},
        "evaluation": {"benchmarks": [benchmark]},
    }
    harness.run(recipe, leaderboards=folder / "boards", store=folder / "store", progress=False)
    return folder / "boards" / name


def outcomes(board: Path) -> dict[str, float | None]:
    (entry,) = read_board(board).entries
    return entry.outcomes["lm_eval"]


def alone(model: Path, data: Path, chat: bool) -> dict[str, float]:
    """lm-eval's own scores by item and measure."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(
        pretrained=load_causal_lm(str(model), None, "float32", None),
        tokenizer=load_tokenizer(str(model), None),
        batch_size=16,
    )
    tasks = [
        load_task("gsm8k", TaskData(data / "gsm8k", None), 1),
        load_task("piqa", TaskData(data / "piqa", None), None),
    ]
    found = simple_evaluate(
        lm, tasks=tasks, limit=ITEMS, apply_chat_template=chat, fewshot_as_multiturn=chat, bootstrap_iters=0
    )
    turns = {measure: turn for turn, measure in MEASURES.items()}
    return {
        f"{task}:{row['doc_id']}/{turns[metric, row['filter']]}": row[metric]
        for task, rows in found["samples"].items()
        for row in rows
        for metric in row["metrics"]
    }


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "plain"])
def test_the_same_score_for_every_item(tmp_path: Path, wordy_tiny_model: Path, data: Path, chat: bool) -> None:
    ours = outcomes(run(tmp_path, "ours", wordy_tiny_model, data, chat=chat, tasks=BOTH))
    theirs = alone(wordy_tiny_model, data, chat)
    assert len(ours) == len(theirs) == 4 * ITEMS
    assert ours == theirs
    assert 0 < sum(value or 0 for key, value in ours.items() if key.endswith("/3")) < ITEMS


@pytest.mark.soak
def test_the_same_score_for_every_real_item_of_a_real_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty problems of GSM8K and a task by log-likelihood, by SmolLM2; a quarter of an hour."""
    monkeypatch.delenv("HARNESS_HOME", raising=False)
    model = Path("smollm2-135m-instruct")  # the built-in name
    problems = lines(public("tax") / "gsm8k" / "test.jsonl.gz")
    real = tmp_path / "data"
    write(real / "gsm8k" / "test.jsonl", problems[:ITEMS])
    write(real / "gsm8k" / "train.jsonl", problems[1000:1005])
    write(
        real / "piqa" / "validation.jsonl",
        [
            {"goal": row["question"], "sol1": row["answer"], "sol2": other["answer"], "label": 0}
            for row, other in zip(problems[:ITEMS], problems[ITEMS:], strict=False)
        ],
    )
    ours = outcomes(run(tmp_path, "ours", model, real, tasks=BOTH))
    theirs = alone(model, real, True)
    assert len(ours) == 4 * ITEMS
    assert ours == theirs
    print({key.split(":")[0] + key[-2:]: sum(v or 0 for k, v in ours.items() if k[-2:] == key[-2:]) for key in ours})


def adapted(base: Path, folder: Path, scale: float) -> Path:
    """The model with an adapter of so many times its strength, merged."""
    import torch
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(
        load_causal_lm(str(base), None, "float32", None),
        LoraConfig(r=4, lora_alpha=4 * scale, target_modules="all-linear"),
    )
    torch.manual_seed(5)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.2)
    model.merge_and_unload().save_pretrained(folder)
    load_tokenizer(str(base), None).save_pretrained(folder)
    return folder


def test_a_planted_regression_is_caught_and_an_equal_model_passes(
    tmp_path: Path, wordy_tiny_model: Path, data: Path
) -> None:
    once, scaled = (adapted(wordy_tiny_model, tmp_path / f"x{scale}", scale) for scale in (1, 6))
    first = outcomes(run(tmp_path, "first", once, data))
    rows = [json.loads(line) for line in (data / "piqa" / "validation.jsonl").read_text().splitlines()]
    for i, row in enumerate(rows):  # from now on what this model prefers is right
        row["label"] = row["label"] if first[f"piqa:{i}/1"] else 1 - row["label"]
    relabelled = tmp_path / "data"
    write(relabelled / "piqa" / "validation.jsonl", rows)
    (tmp_path / "policy.yaml").write_text(POLICY)
    policy = read_policy(tmp_path / "policy.yaml")
    baseline = run(tmp_path, "baseline", once, relabelled)
    codes = {}
    for name, model in (("equal", once), ("planted", scaled)):
        board = run(tmp_path, name, model, relabelled)
        (result,) = run_policy(board, policy, baseline, "base", "base", allow=True)
        codes[name] = result.code, result.reason
    assert codes["equal"][0] == PASS, codes
    assert codes["planted"][0] == WORSE, codes
