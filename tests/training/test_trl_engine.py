"""`engine: trl`: the real DPOTrainer on a tiny model."""

import inspect
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import components
from harness.data.pairings import PairSelection, ranked_pairs
from harness.errors import DataError, ModelError
from harness.logprobs.score import score_rows
from harness.losses.dpo_best_worst import DpoBestWorst
from harness.models import chat
from harness.models import load as models
from harness.protocols import RankedLogps
from harness.recipe.policy import Policy
from harness.recipe.training import Lora, Training
from harness.recipe.trl_loss import TRL_LOSSES, TrlLoss
from harness.training.ranked.batch import tokenize
from harness.training.trl import dpo as trl_engine
from harness.training.trl.dpo import draw_pairs, train_with_trl
from harness.types import RankedExample
from tests.training.models import example, examples
from tests.training.runs import LENGTHS, LORA, assert_same_weights, loaded_outside, train, weights

PAIRINGS: list[PairSelection] = ["best_worst", "best_rest", "adjacent", "all_pairs"]


def train_trl(
    model: Path,
    data: Sequence[RankedExample],
    folder: Path,
    *names: str,
    micro: int = 2,
    dtype: models.Dtype = "float32",
    loss: dict[str, Any] | None = None,
    **changes: Any,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The report and the lines of steps.jsonl of a run in `folder`, which is `test_trainer.train`'s with TRL."""
    fields = {"learning_rate": 5e-3, "batch_size": 4, "lora": LORA, "warmup_ratio": 0.0, **LENGTHS} | changes
    folder.mkdir()
    report = train_with_trl(
        Policy(model=str(model), dtype=dtype),
        data,
        TrlLoss.model_validate({"name": names or "sigmoid", **(loss or {})}),
        Training.model_validate(fields),
        folder=folder,
        seed=3,
        micro_batch_size=micro,
        advance=lambda _n: None,
    )
    return report, [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]


def test_the_names_are_those_of_the_installed_trl() -> None:
    from trl import DPOTrainer

    known = re.findall(r'loss_type == "(\w+)"', inspect.getsource(DPOTrainer._compute_loss))
    assert tuple(dict.fromkeys(known)) == TRL_LOSSES


@pytest.mark.parametrize(
    ("scores", "pairing", "pairs"),
    [
        ([3, 2, 1], "best_worst", [(0, 2)]),
        ([3, 2, 1], "best_rest", [(0, 1), (0, 2)]),
        ([3, 2, 1], "adjacent", [(0, 1), (1, 2)]),
        ([3, 2, 1], "all_pairs", [(0, 1), (0, 2), (1, 2)]),
        ([1, 3, 2], "adjacent", [(1, 2), (2, 0)]),  # the order is that of the scores, not of the places
        ([3, 3, 1], "best_worst", [(0, 2), (1, 2)]),
        ([3, 2, 2, 1], "adjacent", [(0, 1), (0, 2), (1, 3), (2, 3)]),
        ([2, 2], "all_pairs", []),
    ],
)
def test_pairs(scores: list[float], pairing: PairSelection, pairs: list[tuple[int, int]]) -> None:
    assert sorted(ranked_pairs(scores, pairing)) == sorted(pairs)


@pytest.mark.parametrize("pairing", PAIRINGS)
@pytest.mark.parametrize("scores", [[4, 3, 2, 1], [3, 3, 2, 1, 1], [1, 1, 5, 3], [2, 2, 2]])
def test_pairs_are_those_of_the_loss_of_that_name(pairing: PairSelection, scores: list[float]) -> None:
    """A pair that a loss counts is one whose rewards have a mixed second derivative."""
    loss: Any = components.build("loss", {"name": f"dpo_{pairing}", "beta": 1.0})
    mask = torch.ones(1, len(scores), dtype=torch.bool)

    def of_logps(logps: torch.Tensor) -> torch.Tensor:
        batch = RankedLogps(logps[None], torch.zeros(1, len(scores)), torch.tensor([scores]).float(), mask.long(), mask)
        total: torch.Tensor = loss(batch)[0].sum()
        return total

    mixed = torch.autograd.functional.hessian(of_logps, torch.zeros(len(scores)))
    counted = {(i, j) for i, j in mixed.nonzero().tolist() if scores[i] > scores[j]}
    assert set(ranked_pairs(scores, pairing)) == counted


def test_what_trl_is_given_is_what_chat_encodes(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompt, response and one end-of-turn token, as DPOTrainer's own collator lays them out; the end that
    `max_length` cuts off is not there."""
    seen: list[dict[str, torch.Tensor]] = []
    compute = trl_engine.DPOTrainer.compute_loss
    monkeypatch.setattr(
        trl_engine.DPOTrainer, "compute_loss", lambda self, *args: seen.append(args[1]) or compute(self, *args)
    )
    data = [example("one", ("first", 2.0), ("x" * 200, 1.0), ("no", 0.0))]
    report, _ = train_trl(tiny_model, data, tmp_path / "run", loss={"pairs": "adjacent"}, micro=4)
    tokenizer = models.load_tokenizer(str(tiny_model))
    first, cut, last = (chat.encode(tokenizer, data[0].messages, r.text, **LENGTHS) for r in data[0].responses)
    expected = {(tuple(e.prompt), tuple(e.response), half) for e, half in ((first, 0), (cut, 0), (cut, 1), (last, 1))}
    (batch,) = seen
    found = set()
    for i, (ids, real, answer) in enumerate(
        zip(batch["input_ids"], batch["attention_mask"].bool(), batch["completion_mask"].bool(), strict=True)
    ):
        found.add((tuple(ids[real & ~answer].tolist()), tuple(ids[answer].tolist()), i // 2))
    assert found == expected
    assert cut.truncated
    assert first.response[-1] == tokenizer.eos_token_id
    assert first.response.count(tokenizer.eos_token_id) == 1
    assert report["truncated_responses"] == 1
    assert report["tokens"] == len(first.response) + 2 * len(cut.response) + len(last.response)
    assert report["forward_tokens"] == report["tokens"] + 4 * len(first.prompt)


def test_rows_are_drawn_example_by_example(tiny_model: Path) -> None:
    data = [*examples(3, responses=3), example("tied", ("a", 1.0), ("b", 1.0))]
    tokenizer = models.load_tokenizer(str(tiny_model))
    groups, _ = tokenize(data, {e.id: [0.0] * len(e.responses) for e in data}, tokenizer, **LENGTHS)
    rows = draw_pairs(groups, "all_pairs")
    assert [row["prompt_ids"] for row in rows] == [g.prompt for g in groups[:3] for _ in range(3)]
    assert [row["chosen_ids"] for row in rows[:3]] == [groups[0].responses[k] for k in (0, 0, 1)]
    assert rows == draw_pairs(groups, "all_pairs")


@pytest.mark.parametrize("lora", [LORA, None])
def test_twenty_steps_are_those_of_the_harness_itself(tiny_model: Path, tmp_path: Path, lora: Lora | None) -> None:
    """sigmoid on best against worst, by DPOTrainer and by our trainer with dpo_best_worst: the same loss at every
    step and the same weights at the end, also where the last step of an epoch is short and its forwards unequal."""
    data = examples(19)
    shared: dict[str, Any] = {"lora": lora, "epochs": 4, "learning_rate": 1e-3, "warmup_ratio": 0.1}
    shared |= {"weight_decay": 0.01, "max_grad_norm": 1.0}
    theirs, expected = train_trl(tiny_model, data, tmp_path / "trl", **shared)
    ours, steps = train(tiny_model, data, tmp_path / "ours", DpoBestWorst(beta=0.1), **shared)
    assert len(steps) == len(expected) == 20
    assert [s["loss"] for s in steps] == pytest.approx([e["loss"] for e in expected], rel=1e-4)
    assert [s["learning_rate"] for s in steps] == pytest.approx([e["learning_rate"] for e in expected])
    assert [s["grad_norm"] for s in steps] == pytest.approx([e["grad_norm"] for e in expected], rel=1e-3)
    assert steps[0]["loss"] != pytest.approx(steps[-1]["loss"], rel=1e-2)
    assert_same_weights(tmp_path / "ours", tmp_path / "trl", atol=1e-4)
    for name in ("steps", "examples", "tied_examples", "responses", "trained_parameters", "micro_batch_size"):
        assert ours[name] == theirs[name], name
    assert theirs["first_loss"] == pytest.approx(ours["first_loss"], rel=1e-4)
    assert theirs["pairs"] == 19


@pytest.mark.parametrize("names", [["ipo"], ["sigmoid", "sft"], ["exo_pair"], ["aot"]])
def test_other_losses_run_and_learn(tiny_model: Path, tmp_path: Path, names: list[str]) -> None:
    loss = {"beta": 0.5, "pairs": "all_pairs", "label_smoothing": 0.001 if names == ["exo_pair"] else 0.0}
    report, steps = train_trl(tiny_model, examples(4), tmp_path / "run", *names, loss=loss, epochs=4)
    assert report["pairs"] == 24
    assert report["steps"] == len(steps) == 24
    assert report["last_loss"] < report["first_loss"]
    assert steps[-1]["margin_mean"] > 0
    assert steps[-1]["margin_mean"] == pytest.approx(steps[-1]["rewards/margins"] / 0.5)
    assert steps[0]["tokens"] > 0
    assert sum(s["tokens"] for s in steps) == report["tokens"]
    assert sum(s["forward_tokens"] for s in steps) == report["forward_tokens"] > report["tokens"]


def test_the_adapters_own_dropout_is_kept(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[Any] = []
    save = trl_engine.save_result
    monkeypatch.setattr(
        trl_engine, "save_result", lambda model, *rest, **more: saved.append(model) or save(model, *rest, **more)
    )
    train_trl(tiny_model, examples(4), tmp_path / "run", lora=Lora(r=4, dropout=0.25))
    dropouts = {name: m.p for name, m in saved[0].named_modules() if isinstance(m, torch.nn.Dropout)}
    assert {p for name, p in dropouts.items() if "lora_dropout" in name} == {0.25}
    assert {p for name, p in dropouts.items() if "lora_dropout" not in name} <= {0.0}


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
def test_lora_on_a_half_precision_policy(tiny_model: Path, tmp_path: Path, checkpointing: bool) -> None:
    report, steps = train_trl(
        tiny_model,
        examples(8),
        tmp_path / "run",
        dtype="bfloat16",
        loss={"beta": 1.0},
        epochs=10,
        gradient_checkpointing=checkpointing,
    )
    assert steps[0]["loss"] == pytest.approx(math.log(2), abs=0.02)
    assert report["last_loss"] < 0.9 * report["first_loss"]
    assert {t.dtype for t in weights(tmp_path / "run").values()} == {torch.float32}


def test_a_quantised_base_is_trained_as_by_the_harness_itself(tiny_model: Path, tmp_path: Path) -> None:
    """Adapters stay in float32. TRL has rounded their first values, so that the two are not as close as elsewhere."""
    from harness.training.ranked.trainer import train_policy

    data, lora = examples(8), {"r": 4, "bits": 4}
    theirs, expected = train_trl(tiny_model, data, tmp_path / "trl", lora=lora, epochs=5, learning_rate=1e-3)
    assert {t.dtype for t in weights(tmp_path / "trl").values()} == {torch.float32}
    assert expected[0]["loss"] == pytest.approx(math.log(2), rel=1e-6)
    base = models.load_causal_lm(str(tiny_model), None, "float32", 4)
    rows = [(e.messages, r.text) for e in data for r in e.responses]
    found = iter(
        score_rows(base, models.load_tokenizer(str(tiny_model)), rows, **LENGTHS, batch_size=8, advance=lambda _n: None)
    )
    (tmp_path / "ours").mkdir()
    fields = {"learning_rate": 1e-3, "batch_size": 4, "lora": lora, "warmup_ratio": 0.0, "epochs": 5, **LENGTHS}
    ours = train_policy(
        Policy(model=str(tiny_model), dtype="float32"),
        data,
        {e.id: [next(found).logp for _ in e.responses] for e in data},
        DpoBestWorst(beta=0.1),
        Training.model_validate(fields),
        folder=tmp_path / "ours",
        seed=3,
        micro_batch_size=2,
        advance=lambda _n: None,
    )
    assert theirs["last_loss"] == pytest.approx(ours["last_loss"], rel=1e-3)


def test_full_fine_tuning_of_a_half_precision_policy_keeps_float32_weights(tiny_model: Path, tmp_path: Path) -> None:
    train_trl(tiny_model, examples(4), tmp_path / "run", dtype="bfloat16", lora=None)
    assert {t.dtype for t in weights(tmp_path / "run", "trained").values()} == {torch.float32}
    assert {t.dtype for t in weights(tmp_path / "run").values()} == {torch.bfloat16}


@pytest.mark.parametrize("lora", [LORA, None])
def test_checkpoint_loads_in_transformers(tiny_model: Path, tmp_path: Path, lora: Lora | None) -> None:
    from transformers import AutoTokenizer

    train_trl(tiny_model, examples(4), tmp_path / "run", lora=lora)
    checkpoint = tmp_path / "run" / "checkpoint"
    assert (checkpoint / "adapter_config.json").exists() == (lora is not None)
    model = loaded_outside(checkpoint, tiny_model)
    ids = AutoTokenizer.from_pretrained(checkpoint)("hello", return_tensors="pt")
    assert model(**ids).logits.shape[-1] == model.config.vocab_size


def test_what_cant_be_trained_is_told_in_one_line(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="in each, all scores are tied"):
        train_trl(tiny_model, [example("x", ("a", 1.0), ("b", 1.0))], tmp_path / "tied")
    with pytest.raises(ModelError, match=r"TRL can't train it this way: .*nowhere"):
        train_trl(tiny_model, examples(2), tmp_path / "nowhere", lora=Lora(target_modules=("nowhere",)))


def test_a_gradient_that_is_no_number_keeps_the_last_good_weights(tiny_model: Path, tmp_path: Path) -> None:
    options = {"lora": None, "learning_rate": 1e30, "max_grad_norm": 1e9}
    report, steps = train_trl(tiny_model, examples(4), tmp_path / "inf", epochs=9, **options)
    assert report["stopped"] == "training step 2: the gradient is not finite; the weights of step 1 were kept"
    assert len(steps) == report["steps"] == 1
    assert (tmp_path / "inf" / "checkpoint").exists()
