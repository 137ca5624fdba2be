"""Held-out pairs that a policy can't tell apart are not scored; the share of the margin that is left after rounding."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from harness.engine.stage import Context, Stage
from harness.engine.store import Store
from harness.models import chat
from harness.models import load as models
from harness.models.load import load_tokenizer
from harness.pipeline.progress import SilentView
from harness.recipe.policy import Policy
from harness.recipe.training import Runtime, Training
from harness.stages.heldout import References, heldout_stage, references
from harness.stages.reference import heldout_reference_stage
from harness.training.checkpoint import CHECKPOINT, TRAINED, RowModel
from harness.types import Message, RankedExample, Response, prompt_id
from tests.tiny import tiny_causal_lm

RANKED: dict[str, Any] = {"inputs": {}, "params": {"responses": "the seed's own"}, "key": "r"}


def example(prompt: str, chosen: str, rejected: str) -> RankedExample:
    messages = (Message(role="user", content=prompt),)
    responses = (
        Response(text=chosen, source="seed:chosen", score=1.0),
        Response(text=rejected, source="seed:rejected", score=0.0),
    )
    return RankedExample(id=prompt_id(messages), messages=messages, responses=responses, source="s", split="heldout")


def test_a_pair_that_differs_only_behind_the_cut_has_no_order(tiny_model: Path, tmp_path: Path) -> None:
    same = "as long as that " * 4
    examples = [example("one", "yes", "no"), example("two", same + "yes", same + "no")]
    prompt = len(chat.encode_prompt(load_tokenizer(str(tiny_model)), examples[0].messages))
    policy = Policy(model=str(tiny_model), dtype="float32")

    def measured(max_length: int) -> tuple[dict[str, Any], dict[str, Any]]:
        training = Training(max_prompt_length=prompt, max_length=max_length)
        ranked: Any = SimpleNamespace(**RANKED, rows=lambda name, kind: examples)
        stage = heldout_stage("base", RowModel(policy), training, ranked, References(), None, Runtime())  # type: ignore[arg-type]
        ctx: Any = SimpleNamespace(inputs={"ranked": ranked}, folder=tmp_path)
        return stage.body(ctx), json.loads((tmp_path / "metrics.json").read_text())["heldout.pair_accuracy"]

    report, accuracy = measured(prompt + 20)
    assert (report["pairs"], report["identical_once_cut"]) == (2, 1)
    assert (accuracy["n"], accuracy["n_invalid"]) == (1, 1)
    report, accuracy = measured(prompt + 400)
    assert (report["pairs"], report.get("identical_once_cut")) == (2, None)
    assert (accuracy["n"], accuracy["n_invalid"]) == (2, 0)


EXAMPLES = [example("one", "yes", "no"), example("two", "a b", "b a"), example("three", "up", "down")]


def halved(
    base: Path, folder: Path, change: float, examples: list[RankedExample]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The report and the metrics of a row in bfloat16 whose training changed weights by about `change`, all of it lost
    when they were rounded to the checkpoint's."""
    trained = models.load_causal_lm(str(base), dtype="float32")
    models.load_causal_lm(str(base), dtype="bfloat16").save_pretrained(folder / "policy" / CHECKPOINT)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in trained.parameters():
            weight += change * torch.randn_like(weight)
    trained.save_pretrained(folder / "policy" / TRAINED)
    ranked: Any = SimpleNamespace(**RANKED, rows=lambda name, kind: examples)
    row = RowModel(Policy(model=str(base), dtype="bfloat16"), Stage("train/x", "train", 1, {}, {}, lambda ctx: {}))
    training, sizes = Training(lora=None, max_prompt_length=64, max_length=128), SimpleNamespace(heldout_prompts=1)
    sizes.responses_a_prompt = sizes.pair_tokens = sizes.scored_tokens = 1
    about: Any = (training, ranked, ranked, sizes, Runtime())
    needed = references(row, *about)
    inputs = {"ranked": ranked, "policy": SimpleNamespace(folder=folder / "policy")}
    for role, stage in {"reference": needed.answering, "float32_reference": needed.exact}.items():
        assert stage is not None
        inputs[role] = run(stage, folder / role, inputs)[1]
    report, artifact = run(heldout_stage("x", row, training, ranked, needed, *about[3:]), folder / "heldout", inputs)
    return report, artifact.json("metrics.json")


def run(stage: Stage, folder: Path, inputs: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    folder.mkdir()
    view, store = SilentView(), Store(folder.parent / "store")
    report = stage.body(Context(folder, inputs, view, logging.getLogger(), store, folder / "partial", "k"))
    return report, SimpleNamespace(json=lambda name: json.loads((folder / name).read_text()))


def test_what_rounding_took_is_not_kept(tiny_model: Path, tmp_path: Path) -> None:
    report, metrics = halved(tiny_model, tmp_path, 0.01, EXAMPLES)
    kept, trained = metrics["heldout.margin_kept"], metrics["heldout.trained_margin"]
    assert metrics["heldout.margin"]["value"] == 0  # the checkpoint is its own reference
    assert trained["value"] != 0
    assert (kept["value"], kept["n"]) == (0, 3)
    assert report == {"pairs": 3, "dtype": "bfloat16"}


def test_where_nothing_was_learnt_no_share_of_it_is_kept(tiny_model: Path, tmp_path: Path) -> None:
    report, metrics = halved(tiny_model, tmp_path, 0.0, EXAMPLES)
    kept = metrics["heldout.margin_kept"]
    assert (kept["value"], kept["n"]) == (None, 3)
    assert report["no_margin_kept"].startswith("in float32, too, training reached no margin")


def test_without_a_scored_pair_no_share_of_the_margin_is_kept(tiny_model: Path, tmp_path: Path) -> None:
    report, metrics = halved(tiny_model, tmp_path, 0.01, [example("one", "yes", "yes")])
    kept = metrics["heldout.margin_kept"]
    assert (kept["value"], kept["n"], kept["n_invalid"]) == (None, 0, 1)
    assert report["no_margin_kept"] == "no held-out pair was scored"


def test_the_reference_is_the_fine_tuned_policy_that_answers_and_in_float32_what_was_trained(tmp_path: Path) -> None:
    folders = {name: tiny_causal_lm(tmp_path / "sft" / name, seed) for seed, name in enumerate((CHECKPOINT, TRAINED))}
    policy = Policy(model=str(folders[CHECKPOINT]), dtype="bfloat16")
    ranked: Any = SimpleNamespace(**RANKED, rows=lambda name, kind: EXAMPLES)
    sft: Any = SimpleNamespace(folder=tmp_path / "sft")
    sizes: Any = SimpleNamespace(heldout_prompts=1, responses_a_prompt=1, pair_tokens=1)
    training, tuned = (
        Training(lora=None, max_prompt_length=64, max_length=128),
        Stage("s", "sft", 1, {}, {}, lambda c: {}),
    )

    def logps(model: RowModel, dtype: Any, inputs: dict[str, Any]) -> Any:
        stage = heldout_reference_stage(model, dtype, training, ranked, sizes, Runtime())
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        return run(stage, folder, {"ranked": ranked, **inputs})[1].json("reference.json")

    for dtype, name in (("bfloat16", CHECKPOINT), ("float32", TRAINED)):
        plain = RowModel(policy.model_copy(update={"model": str(folders[name])}))
        assert logps(RowModel(policy, sft=tuned), dtype, {"sft": sft}) == logps(plain, dtype, {})
