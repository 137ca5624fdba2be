"""Log-probabilities of given texts by an engine: of the reference, and perplexities."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.augmentation.served_logps import served
from harness.components import build
from harness.errors import ModelError, RecipeError
from harness.models import chat
from harness.models.load import load_tokenizer
from harness.pipeline.plan import make_plan
from harness.recipe.load import load_recipe
from harness.report.engines import engine_notes
from harness.servers.adapting.continuing import Continuing, Given
from harness.serving.engine import Named
from harness.serving.pool import _pools, stop_all
from harness.training.checkpoint import Weights
from harness.types import RankedExample
from tests.fake_server import FakeServer
from tests.sample_boards import entry
from tests.serving.test_pool import stub as engine
from tests.serving.test_runs import Stub

ASKED = {"name": "openai", "engine": "stub", "model": "x"}


def trained(folder: Path, model: Path) -> Stub:
    """A recipe with one training on the seed's own pairs."""
    stub = Stub(folder, model)
    data = {"seeds": [{"name": "builtin", "limit": 8}], "holdout": 0.25}
    stub.recipe["data"] = data | {"report": {"generator": ASKED, "embeddings": None}}
    stub.recipe["methods"] = [{"id": "dpo", "loss": {"name": "dpo_best_worst", "beta": 0.1}}]
    stub.recipe["training"] = {"reference": ASKED, "lora": {"r": 2}, "max_prompt_length": 64, "max_length": 128}
    del stub.recipe["evaluation"]
    return stub


def logp(ids: list[int]) -> float:
    """As the stub's, summed."""
    return sum(-(token % 7) / 8 for token in ids)


@pytest.mark.slow
def test_a_reference_and_perplexities_by_an_engine(tmp_path: Path, tiny_model: Path) -> None:
    stub = trained(tmp_path, tiny_model)
    done = stub.run()
    tokenizer = load_tokenizer(str(tiny_model))
    all_of_them = [*done.completed.executed.artifacts.values()]
    artifacts = {a.record.stage: a for a in all_of_them}
    scored = next(a for a in all_of_them if a.record.stage == "reference" and "heldout" not in a.record.params)
    ranked = next(a for a in all_of_them if a.folder.joinpath("ranked.jsonl").exists())
    by_example = json.loads((scored.folder / "reference.json").read_text())
    examples = [e for name in ("ranked", "heldout") for e in ranked.rows(f"{name}.jsonl", RankedExample)]
    asked = {tuple(call["prompt"]) for call in stub.calls}
    for example in examples:
        for response, value in zip(example.responses, by_example[example.id], strict=True):
            ids = chat.encode(tokenizer, example.messages, response.text, max_prompt_length=64, max_length=128)
            assert tuple(ids.prompt + ids.response) in asked, "the tokens that this process would read"
            assert value == pytest.approx(logp(ids.response))
    assert scored.report["scored_by"] == "served by command"
    assert done.rows["dpo"].provenance.training
    report = json.loads((artifacts["report"].folder / "report.json").read_text())
    assert report["perplexities_by"] == "served by command"
    given = report["prompts"]["seed prompts"]["perplexity"]
    texts = [e.messages[-1].content for e in ranked.rows("ranked.jsonl", RankedExample)]
    ids = [tokenizer.encode(text, add_special_tokens=False) for text in texts]  # after the beginning's token
    assert given["corpus"] == pytest.approx(math.exp(-sum(map(logp, ids)) / sum(map(len, ids))))
    assert stub.run().ran == 0

    def keys(*changed: str) -> list[str]:
        recipe = json.loads(json.dumps(stub.recipe))
        for field in changed:
            part, _, name = field.rpartition(".")
            (recipe["training"] if part == "training" else recipe["data"]["report"]).pop(name)
        (tmp_path / "x.yaml").write_text(json.dumps(recipe))
        plan = make_plan(load_recipe(tmp_path / "x.yaml", check=False))
        return [next(s.key for s in plan.stages if s.id == name) for name in ("reference", "report")]

    by_engine, in_process = keys(), keys("training.reference", "report.generator")
    assert by_engine == [scored.record.key, artifacts["report"].record.key]
    assert not {*by_engine} & {*in_process}


@pytest.mark.parametrize(
    "given",
    [
        None,
        [None, {"9": {"logprob": -1.0}}, {"7": {"logprob": -1.0}}],  # of another token
        [None, {"6": {"logprob": -1.0}}],  # one too few
        [None, {"6": {"logprob": 2.0}}, {"7": {"logprob": -1.0}}],
        [None, {"6": {"logprob": "NaN"}}, {"7": {"logprob": -1.0}}],
    ],
)
def test_a_reply_without_the_log_probabilities_that_were_asked_for_is_an_error(given: Any) -> None:
    reply = {"choices": [{"index": 0, "text": "", "prompt_logprobs": given}]}
    with FakeServer(lambda body: reply).running() as server:
        made = {"name": "openai", "model": "m", "base_url": server.url, "max_retries": 0}
        asked = build("generator", made)
        assert isinstance(asked, Continuing)
        options: dict[str, Any] = {"arrived": lambda i, value: None, "threads": 1, "look": lambda: None}
        with pytest.raises(ModelError, match=r"asked for log-probabilities in vain \(the reply"):
            asked.logps([Given([5], [6, 7])], **options)


def test_mistakes_are_one_line(tmp_path: Path, tiny_model: Path) -> None:
    for field, change, message in (
        ("training.reference", {"name": "openai", "model": "m"}, "expected {name: openai, engine: NAME}"),
        ("engine", {"name": "vllm", "model": "a/b"}, "training.reference: engine 'stub' serves a/b; log-probabilities"),
        ("engine", {"name": "sglang", "model": "a/b"}, "takes token ids: vllm, not sglang"),
    ):
        stub = trained(tmp_path, tiny_model)
        if field == "engine":
            stub.recipe["runtime"]["engines"]["stub"] = change
        else:
            stub.recipe["training"]["reference"] = change
        (tmp_path / "x.yaml").write_text(json.dumps(stub.recipe))
        with pytest.raises(RecipeError) as caught:
            load_recipe(tmp_path / "x.yaml", check=False)
        assert message in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


def test_a_board_says_what_an_engine_has_done() -> None:
    answers = {"mt_bench": {"answered_by": "served by vllm"}}
    recipe = {"training": {"reference": {"name": "openai", "engine": "big"}}}
    base = entry("base", "base", answers=answers, recipe=recipe)
    trained = entry("dpo", "dpo", answers=answers, recipe=recipe, training={"steps": 3})
    assert [note.split(". ")[0] for note in engine_notes([base, trained])] == [
        "mt_bench: answers of base, dpo were served by vllm",
        "dpo: the engine 'big' has scored the reference, and rounds otherwise than training: implicit rewards don't "
        "begin at exactly 0.",
    ]
    trl = {**recipe, "methods": [{"id": "dpo", "engine": "trl"}]}
    assert engine_notes([entry("dpo", "dpo", recipe=trl, training={"steps": 3})]) == [], "it has scored its own"
    assert engine_notes([entry("base", "base", answers={"mt_bench": {}}, recipe={"training": {}})]) == []


def test_an_adapter_is_scored_with_its_base(tmp_path: Path, tiny_model: Path) -> None:
    """Of an earlier round, whose policy is the reference."""
    log, adapter = tmp_path / "log", tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"r": 4, "rank_pattern": {"x": 12}}')
    named = Named("e", engine(environment={"STUB_LOG": str(log)}))
    asked = served("training.reference", build("generator", {**ASKED, "engine": named}))  # type: ignore[arg-type]
    assert asked
    weights = Weights(model=str(tiny_model), revision=None, dtype="float32", adapter=adapter)
    context: Any = SimpleNamespace(progress=SimpleNamespace(advance=lambda n: None))
    scored: dict[int, float] = {}
    try:
        asked.score(context, weights, [Given([5], [6, 7])], lambda i, value: scored.update({i: value}))
        ((described,),) = [[json.loads(key)] for key in _pools]
    finally:
        stop_all()
    assert described["options"] == {"dtype": "float32", "enable_lora": True, "max_lora_rank": 16}
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    assert [call.get("lora_path") for call in calls] == [str(adapter), None]
    assert calls[1]["model"] == calls[0]["lora_name"]
    assert scored == {0: pytest.approx(logp([6, 7]))}
