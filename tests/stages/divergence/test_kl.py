"""The stage of a row's divergence: which tokens it is of, what a prompt's outcome is, and what is not scored."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from harness.engine.stage import Stage
from harness.engine.store import Artifact, write_rows
from harness.models.load import load_causal_lm, with_adapter
from harness.recipe.evaluation import AnswerSampling
from harness.recipe.policy import Policy, policy_tokenizer
from harness.recipe.training import Lora, Point, Runtime
from harness.stages.divergence.kl import kl_stage
from harness.training.checkpoint import RowModel
from harness.types import Answer, Question
from tests.stages.scripted import run_stages

QUESTIONS = [
    Question(id="a", turns=("first", "second")),
    Question(id="b", turns=("another",)),
    Question(id="b#2", turns=("another",), sample=1),
    Question(id="c", turns=("cut at once",)),
]
BENCHMARK: Any = SimpleNamespace(name="asked", load_questions=lambda: QUESTIONS, published_turns=None)


def answer(question: str, texts: list[str], reasons: list[str], tokens: int | None = None) -> Answer:
    own = sum(len(text) + (reason == "stop") for text, reason in zip(texts, reasons, strict=True))
    tokens = own if tokens is None else tokens
    return Answer(question_id=question, turns=tuple(texts), finish_reasons=tuple(reasons), tokens=tokens)  # type: ignore[arg-type]


ANSWERS = [
    answer("a", ["yes", "and no"], ["stop", "length"]),
    answer("b", ["x"], ["stop"]),
    answer("b#2", [""], ["stop"]),
    answer("c", [""], ["length"]),
]


def answers(rows: list[Answer], **report: Any) -> Stage:
    def body(ctx: Any) -> dict[str, Any]:
        write_rows(ctx.folder / "answers.jsonl", rows)
        return report

    return Stage("answers", "answers", 1, {"rows": [row.model_dump(mode="json") for row in rows], **report}, {}, body)


def trained(model: Path, adapter: bool, has_point: bool = False) -> Stage:
    """What a training has left: weights other than the model's, at its end and, less so, at a checkpoint before."""

    def body(ctx: Any) -> dict[str, Any]:
        points = [(ctx.folder / "at" / "0.5", 0.1)] if has_point else []
        for folder, by in [(ctx.folder, 0.3), *points]:
            torch.manual_seed(3)
            moved = load_causal_lm(str(model), dtype="float32")
            if adapter:
                from peft import LoraConfig, get_peft_model

                moved = get_peft_model(moved, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
            for weight in moved.parameters():
                if weight.requires_grad:
                    weight.data.add_(by * (0.5 if adapter else weight.std()) * torch.randn_like(weight))
            moved.save_pretrained(folder / "checkpoint")
        return {}

    return Stage("train/row", "train", 1, {"adapter": adapter, "points": has_point}, {}, body)


def measured(model: Path, folder: Path, rows: list[Answer] = ANSWERS, **fields: Any) -> tuple[Artifact, Artifact]:
    """(the training, the stage's artifact)"""
    adapter, config = fields.pop("adapter", True), fields.pop("config", AnswerSampling())
    training, given = trained(model, adapter, "point" in fields), answers(rows, **fields.pop("report", {}))
    policy = Policy(model=str(model), dtype="float32")
    row = RowModel(policy, training, None, Lora(r=2) if adapter else None, **fields)
    stage = kl_stage("row", row, config, [BENCHMARK], {"asked": given}, Runtime(score_batch_size=2))
    assert stage is not None
    made = run_stages([training, given, stage], folder)
    return made[0], made[-1]


def plain(policy: Any, reference: Any, tokenizer: Any, conversation: list[str], text: str, ends: bool) -> float:
    """By the models' own forward on the rendered conversation."""
    roles = ["user", "assistant"] * len(conversation)
    messages = [{"role": role, "content": content} for role, content in zip(roles, conversation, strict=False)]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    start = tokenizer.encode(prompt, add_special_tokens=False)
    written = tokenizer.encode(text, add_special_tokens=False)
    ids = torch.tensor([start + written])
    with torch.no_grad():
        p, q = (
            Categorical(logits=model(input_ids=ids).logits[0, len(start) - 1 : None if ends else -1].double())
            for model in (policy, reference)
        )
    assert p.logits.shape[0] == len(written) + ends
    return kl_divergence(p, q).sum().item()


@pytest.mark.parametrize("adapter", [True, False])
def test_a_prompts_outcome_is_the_mean_over_turns_and_samples(adapter: bool, tiny_model: Path, tmp_path: Path) -> None:
    training, artifact = measured(tiny_model, tmp_path, adapter=adapter)
    policy = load_causal_lm(str(training.folder / "checkpoint"), dtype="float32")
    reference = load_causal_lm(str(tiny_model), dtype="float32")
    tokenizer = policy_tokenizer(Policy(model=str(tiny_model), dtype="float32"))
    turns = [
        plain(policy, reference, tokenizer, ["first"], "yes", True),
        plain(policy, reference, tokenizer, ["first", "yes", "second"], "and no", False),
        plain(policy, reference, tokenizer, ["another"], "x", True),
        plain(policy, reference, tokenizer, ["another"], "", True),
    ]
    outcomes, metrics = artifact.json("outcomes.json"), artifact.json("metrics.json")
    expected = {"asked:a": (turns[0] + turns[1]) / 2, "asked:b": (turns[2] + turns[3]) / 2}
    assert outcomes["kl"].pop("asked:c") is None
    assert outcomes["kl"] == pytest.approx(expected, rel=1e-3)
    assert min(turns) > 1e-3
    per_token = [turns[0] / 4, turns[1] / 6, turns[2] / 2, turns[3]]
    assert outcomes["kl_token"]["asked:a"] == pytest.approx((per_token[0] + per_token[1]) / 2, rel=1e-3)
    assert metrics["kl.answer"]["value"] == pytest.approx(sum(expected.values()) / 2, rel=1e-3)
    assert (metrics["kl.answer"]["n"], metrics["kl.answer"]["n_invalid"]) == (2, 1)
    assert artifact.report == {
        "answers": 4,
        "tokens": 13,
        "retokenised": 0,
        "is_estimate": False,
    }


@pytest.mark.slow
def test_a_checkpoint_on_the_way_is_measured_itself(tiny_model: Path, tmp_path: Path) -> None:
    _, last = measured(tiny_model, tmp_path / "last")
    _, half = measured(tiny_model, tmp_path / "half", point=Point(share=0.5))
    values = [artifact.json("metrics.json")["kl.answer"]["value"] for artifact in (half, last)]
    assert 0 < values[0] < 0.9 * values[1]


def test_what_lost_its_thought_is_not_scored_and_other_tokens_are_counted(tiny_model: Path, tmp_path: Path) -> None:
    rows = [answer("b", ["x"], ["stop"]), answer("a", ["yes", "no"], ["stop", "stop"], tokens=30)]
    thoughts = {"thoughts": {"removed": True, "texts": 3, "with_thoughts": 1}}
    _, artifact = measured(tiny_model, tmp_path / "thoughts", rows, report=thoughts)
    outcomes = artifact.json("outcomes.json")["kl"]
    assert outcomes["asked:a"] is None
    assert outcomes["asked:b"] > 0
    assert artifact.report["retokenised"] == 1
    _, artifact = measured(tiny_model, tmp_path / "plain", rows)
    assert artifact.json("outcomes.json")["kl"]["asked:a"] > 0
    assert artifact.report["retokenised"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [True, False])
def test_the_reference_of_what_started_from_a_fine_tuned_policy_is_that_one(
    adapter: bool, tiny_model: Path, tmp_path: Path
) -> None:
    tuned, given = trained(tiny_model, adapter=False), answers(ANSWERS)
    training = trained(tiny_model, adapter=True) if adapter else tuned
    policy, lora = Policy(model=str(tiny_model), dtype="float32"), Lora(r=2) if adapter else None
    stages = [tuned, training, given] if adapter else [tuned, given]
    for sft in (None, tuned):
        row = RowModel(policy, training, sft, lora)
        stage = kl_stage("row", row, AnswerSampling(), [BENCHMARK], {"asked": given}, Runtime(score_batch_size=2))
        assert stage is not None
        stages.append(stage)
    made = run_stages(stages, tmp_path)
    of_base, of_tuned = (artifact.json("metrics.json")["kl.answer"]["value"] for artifact in made[-2:])
    if adapter:  # its base is the fine-tuned policy or is not: the adapter moves each another way
        reference = load_causal_lm(str(made[0].folder / "checkpoint"), dtype="float32")
        moved = with_adapter(
            load_causal_lm(str(made[0].folder / "checkpoint"), dtype="float32"), made[1].folder / "checkpoint"
        )
        tokenizer = policy_tokenizer(policy)
        exact = plain(moved, reference, tokenizer, ["another"], "x", True) + plain(
            moved, reference, tokenizer, ["another"], "", True
        )
        assert made[-1].json("outcomes.json")["kl"]["asked:b"] == pytest.approx(exact / 2, rel=1e-3)
        assert of_base != pytest.approx(of_tuned, rel=1e-4)
    else:
        assert of_base > 0.001
        assert of_tuned == 0.0


def test_only_at_temperature_1_it_is_an_estimate(tiny_model: Path, tmp_path: Path) -> None:
    configs = [{"temperature": 1.0}, {"temperature": 1.0, "top_p": 0.9}, {"temperature": 0.7}, {}]
    training, policy = trained(tiny_model, True), Policy(model=str(tiny_model), dtype="float32")
    row, stages = RowModel(policy, training, None, Lora(r=2)), []
    for config in configs:
        given = answers(ANSWERS[1:2], sampled=config)
        made = kl_stage("row", row, AnswerSampling(**config), [BENCHMARK], {"asked": given}, Runtime())
        assert made is not None
        stages += [given, made]
    artifacts = run_stages([training, *stages], tmp_path)[2::2]
    assert [artifact.report["is_estimate"] for artifact in artifacts] == [True, False, False, False]


def test_rows_without_a_training_or_answers_have_none(tiny_model: Path) -> None:
    policy, runtime, given = Policy(model=str(tiny_model), dtype="float32"), Runtime(), {"asked": answers(ANSWERS)}
    config = AnswerSampling(max_new_tokens=7)
    assert kl_stage("base", RowModel(policy), config, [BENCHMARK], given, runtime) is None
    row = RowModel(policy, trained(tiny_model, True), None, Lora(r=2))
    assert kl_stage("row", row, config, [BENCHMARK], {}, runtime) is None
    for adapter, models in ((Lora(r=2), 1), (None, 2)):
        stage = kl_stage("row", RowModel(policy, row.trained, None, adapter), config, [BENCHMARK], given, runtime)
        assert stage is not None
        cost = stage.estimate()
        assert cost.scored_tokens == 2 * 5 * (256 + 7)
        assert [load.models for load in cost.loads] == [models]  # type: ignore[attr-defined]
