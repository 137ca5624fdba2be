"""A tiny policy that has learnt to think aloud, from its samples to the judge, in a run of its own."""

import json
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.models import load as models
from tests.fake_server import FakeServer, completion
from tests.tiny import tiny_causal_lm

pytestmark = pytest.mark.slow

SECRET, ANSWER = "Hmm, a secret.", "An apple."
QUESTIONS = ["Tell me one.", "What is this?", "Name a fruit."]
HEAD = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{{ m.content.split('</think>')[-1].lstrip('\n') if m.role == 'assistant' else m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
)
TEMPLATES = {
    "its prompt opens a thought": HEAD + "<think>\n{% endif %}",
    "it thinks unless told not to": HEAD + "{% if think is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
}


def thinker(folder: Path, template: str) -> Path:
    """The markers are special tokens, which decoding usually leaves out."""
    import torch

    tiny_causal_lm(folder, hidden=64)
    tokenizer = models.load_tokenizer(str(folder))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    tokenizer.chat_template = template
    model = models.load_causal_lm(str(folder), dtype="float32").train()
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    written = f"<think>\n{SECRET}\n</think>\n\n{ANSWER}<|im_end|>"
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    seeds = [json.loads(line) for line in (Path(harness.__file__).parent / "assets" / "seeds.jsonl").open()]
    prompts = [*QUESTIONS, *(row["prompt"] for row in seeds[:12])]
    for step in range(220):
        turn = [{"role": "user", "content": prompts[step % len(prompts)][:60]}]
        head = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        ids = tokenizer.encode(head.removesuffix("<think>\n"), add_special_tokens=False)
        reply = tokenizer.encode(written, add_special_tokens=False)
        labels = torch.tensor([[-100] * len(ids) + reply])
        model(input_ids=torch.tensor([ids + reply]), labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", TEMPLATES)
def test_nobody_sees_what_it_thinks(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    model = thinker(tmp_path / "model", TEMPLATES[kind])
    sent: list[str] = []

    def judge(body: Any) -> Any:
        sent.append(json.dumps(body["messages"]))
        return completion("m", {"m": -0.7, "M": -0.7})

    prompts = [{"instruction": q, "output": "A pear.", "generator": "r", "dataset": "d"} for q in QUESTIONS]
    (tmp_path / "p.json").write_text(json.dumps(prompts))
    with FakeServer(judge).running() as server:
        recipe: dict[str, Any] = {
            "name": "t",
            "policy": {"model": str(model), "dtype": "float32"},
            "data": {
                "seeds": [{"name": "builtin", "limit": 12}],
                "responses": {
                    "generator": {"name": "hf", "model": str(model), "dtype": "float32"},
                    "n": 3,
                    "max_new_tokens": 40,
                    "max_thinking_tokens": 12,
                },
                "reward": {"name": "length"},
                "report": False,
            },
            "methods": [{"id": "dpo", "loss": {"name": "dpo_best_worst"}}],
            "training": {"epochs": 1, "learning_rate": 1e-6},
            "evaluation": {
                "judge": {"name": "openai", "model": "j", "base_url": server.url},
                "answers": {"max_new_tokens": 64, "temperature": 0},
                "benchmarks": [{"name": "alpaca_eval", "prompts": str(tmp_path / "p.json"), "reference": "file"}],
            },
        }
        board = harness.run(recipe)
    rows = {entry.id: entry for entry in board.board.entries}
    assert {"base", "dpo"} <= rows.keys()
    assert len(sent) >= 3  # of the same answers a judge is asked once
    assert not any("secret" in text or "think" in text for text in sent)
    assert all(ANSWER in text for text in sent)
    for row in rows.values():
        assert row.metrics["alpaca_eval.avg_length"].value == len(ANSWER)
        assert row.provenance.answers["alpaca_eval"]["thoughts"]["with_thoughts"] == 3
    thoughts = rows["dpo"].provenance.data["responses"]["thoughts"]
    assert thoughts["with_thoughts"] == thoughts["texts"]
    assert thoughts["closed"] > 0.8 * thoughts["texts"]
    assert "thoughts removed from answers of base (3 of 3); dpo (3 of 3)" in (
        tmp_path / "leaderboards" / "t" / "board.md"
    ).read_text().replace("&#40;", "(")
