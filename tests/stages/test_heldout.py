"""Held-out pairs that a policy can't tell apart are not scored."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from harness.models import chat
from harness.models.load import load_tokenizer
from harness.recipe.recipe import Policy
from harness.recipe.training import Training
from harness.stages.heldout import heldout_stage
from harness.training.checkpoint import RowModel
from harness.types import Message, RankedExample, Response, prompt_id


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
        ranked: Any = SimpleNamespace(inputs={}, key="r", rows=lambda name, kind: examples)
        stage = heldout_stage("base", RowModel(policy), training, ranked, ranked, None, 4)  # type: ignore[arg-type]
        ctx: Any = SimpleNamespace(inputs={"ranked": ranked}, folder=tmp_path)
        return stage.body(ctx), json.loads((tmp_path / "metrics.json").read_text())["heldout.pair_accuracy"]

    report, accuracy = measured(prompt + 20)
    assert report == {"pairs": 2, "identical_once_cut": 1}
    assert (accuracy["n"], accuracy["n_invalid"]) == (1, 1)
    report, accuracy = measured(prompt + 400)
    assert report == {"pairs": 2}
    assert (accuracy["n"], accuracy["n_invalid"]) == (2, 0)
